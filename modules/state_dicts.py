"""State dicts from elsewhere: where a checkpoint keeps one, how its names are reduced to a network's, what misfits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

# Where training programs keep a state dict inside a checkpoint: the network's weights, then their running means.
CONTAINERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema", "module")
COMPILED = "_orig_mod."  # torch.compile puts it before the names of whatever it has wrapped
COUNTER = "num_batches_tracked"  # no evaluation reads it, and files from before it existed have none
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
SHOWN, LONGEST = 3, 60  # names of each kind in a message, characters of each


class Found(NamedTuple):
    """Tensors by name, and in a few words each what was taken, left out or changed on the way."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def unwrapped(content: object, depth: int = 3) -> Found | None:
    """The state dict that the content of a file is, or holds in one of `CONTAINERS`; None if there is no such thing."""
    if not isinstance(content, Mapping) or not content:
        return None
    if all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()):
        return Found(dict(content))
    for name in CONTAINERS if depth else ():
        inner = unwrapped(content.get(name), depth - 1)
        if inner is not None:
            others = [other for other in CONTAINERS if other != name and isinstance(content.get(other), Mapping)]
            beside = f" (not {', '.join(others)})" if others else ""
            return Found(inner.tensors, (f"{name}{beside}", *inner.notes))
    return None


def renamed(found: Found, wanted: Iterable[str]) -> Found:
    """The tensors under a network's names: without the prefix that a wrapper or a program put before all of them.

    wanted: the network's names. What stands beside the prefix, such as metrics, is left out. Raises ValueError if the
    network is there several times, each under a prefix of its own.
    """
    wanted = [name for name in wanted if not name.endswith(COUNTER)]
    tensors, notes = found
    if not any(COMPILED in name for name in wanted):
        plain = {name.replace(COMPILED, ""): tensor for name, tensor in tensors.items()}
        if len(plain) == len(tensors) and list(plain) != list(tensors):
            tensors, notes = plain, (*notes, f"without {COMPILED}")
    samples = wanted[:: max(1, len(wanted) // 5)]
    prefixes = {"": 0} | {
        name[: -len(sample)]: 0 for sample in samples for name in tensors if name.endswith(f".{sample}")
    }
    for prefix in prefixes:
        prefixes[prefix] = sum(prefix + name in tensors for name in wanted)
    best = max(prefixes, key=lambda prefix: prefixes[prefix])  # the first of equals: names as they stand
    rivals = [prefix for prefix, count in prefixes.items() if prefix and count == prefixes[best] == len(wanted)]
    if best and len(rivals) > 1:
        several = ", ".join(map(shown, rivals[:SHOWN]))
        raise ValueError(f"the network is there {len(rivals)} times, below {several}; save one of them alone")
    if not best:
        return Found(tensors, notes)
    below = {name.removeprefix(best): tensor for name, tensor in tensors.items() if name.startswith(best)}
    beside = len(tensors) - len(below)
    notes = (*notes, f"without the prefix {shown(best)}", *([f"without {beside} other tensors"] if beside else []))
    return Found(below, notes)


def fitting(found: Found, wanted: Mapping[str, Tensor]) -> Found:
    """The tensors in the types of a network's own, `wanted`; absent counters of batches are the network's.

    Floats of 16 or 64 bits become the network's, and whole numbers whole numbers of another size.
    Raises ValueError for names and shapes that do not fit, tensors of another kind, and values that are not finite
    where the network's are.
    """
    tensors, notes = dict(found.tensors), list(found.notes)
    for name, tensor in tensors.items():
        kind = _kind(tensor)
        if kind:
            raise ValueError(f"{shown(name)} is {kind}; give plain tensors of floats")
    counters = [name for name in wanted if name.endswith(COUNTER) and name not in tensors]
    tensors |= {name: wanted[name] for name in counters}
    words = misfit(tensors, wanted)
    if words:
        raise ValueError(words)
    if counters:
        notes.append(f"without {counters[0] if len(counters) == 1 else COUNTER}")
    converted: set[str] = set()
    for name, own in wanted.items():
        tensor = tensors[name]
        if tensor.dtype != own.dtype:
            tensors[name] = _converted(name, tensor, own.dtype)
            converted.add(_word(tensor.dtype))
        if own.is_floating_point() and not tensors[name].isfinite().all() and own.isfinite().all():
            raise ValueError(f"{shown(name)} holds values that are not finite")
        if name.endswith("running_var") and (tensors[name] < 0).any():
            raise ValueError(f"{shown(name)} holds variances below 0, whose roots are no numbers")
    if converted:
        notes.append(f"converted from {', '.join(sorted(converted))}")
    return Found(tensors, tuple(notes))


def misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected and of another shape, on one line of bounded length; "" if all names and shapes fit.

    A missing name has its shape, and after an arrow the nearest of the unexpected ones of that shape.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    shapes = [
        f"{shown(name)} {_shape(found[name])} instead of {_shape(own)}"
        for name, own in wanted.items()
        if name in found and found[name].shape != own.shape
    ]
    left, beside = list(unexpected), []
    for name in missing[:SHOWN]:
        alike = [other for other in left if found[other].shape == wanted[name].shape]
        near = max(alike, key=lambda other: _likeness(other, name), default=None)
        if near is not None:
            left.remove(near)
        beside.append(f"{shown(name)} {_shape(wanted[name])}" + (f" <- {shown(near)}?" if near is not None else ""))
    parts = [
        _listed("missing", beside, len(missing)),
        _listed("unexpected", [shown(name) for name in unexpected[:SHOWN]], len(unexpected)),
        _listed("of another shape", shapes[:SHOWN], len(shapes)),
    ]
    return "; ".join(filter(None, parts))


def shown(name: str, longest: int = LONGEST) -> str:
    """A name from a file as it may stand in a message: on one line, printable, of bounded length."""
    plain = name if name.isprintable() else ascii(name)[1:-1]
    return plain if len(plain) <= longest else f"{plain[: longest // 2 - 2]}...{plain[-longest // 2 + 1 :]}"


def _likeness(other: str, name: str) -> tuple[int, float]:
    """How many of the last words agree, then how alike the whole names are."""
    ends = zip(reversed(other.split(".")), reversed(name.split(".")), strict=False)
    agreeing = next((i for i, (a, b) in enumerate(ends) if a != b), min(other.count("."), name.count(".")) + 1)
    return agreeing, difflib.SequenceMatcher(None, other[-LONGEST:], name).ratio()


def _listed(problem: str, entries: list[str], count: int) -> str:
    if not entries:
        return ""
    more = f" and {count - len(entries)} more" if count > len(entries) else ""
    return f"{problem}: {', '.join(entries)}{more}"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape)) if tensor.dim() <= 6 else f"of {tensor.dim()} dimensions"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kind(tensor: Tensor) -> str:
    """Why the tensor is no plain one, "" if it is."""
    if tensor.is_meta:
        return "without content (on the meta device)"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "sparse or nested"
    return _word(tensor.dtype) if tensor.is_complex() else ""


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type of its kind; raises ValueError where that would change what it says."""
    if dtype in FLOATS and tensor.dtype in FLOATS:
        return tensor.to(dtype)
    if dtype in WHOLE and tensor.dtype in FLOATS + WHOLE:
        whole = tensor.to(dtype)
        if torch.equal(whole.to(tensor.dtype), tensor):
            return whole
    raise ValueError(f"{shown(name)} is {_word(tensor.dtype)}; {_word(dtype)} is wanted")
