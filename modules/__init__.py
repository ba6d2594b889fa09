"""Architectures on one block equation. `build(name)` gives a network; `ARCHITECTURES` is the registry."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial

from modules.block import Block
from modules.network import Network
from modules.resnet import resnet_cifar, resnet_imagenet
from modules.surgery import removed, reordered, routed, set_survival
from modules.vgg import vgg_cifar, vgg_imagenet

__all__ = ["ARCHITECTURES", "Block", "Network", "build", "removed", "reordered", "resolve", "routed", "set_survival"]

ARCHITECTURES: dict[str, Callable[..., Network]] = {
    "resnet_cifar": resnet_cifar,  # depth=... and every other argument
    **{f"resnet{d}": partial(resnet_cifar, depth=d) for d in (20, 32, 44, 56, 110, 1202)},
    **{f"preact_resnet{d}": partial(resnet_cifar, depth=d, order="full_preactivation") for d in (20, 32, 44, 56, 110)},
    **{
        f"preact_resnet{d}": partial(
            resnet_cifar, depth=d, block="bottleneck", order="full_preactivation", shortcut="B"
        )
        for d in (164, 1001)
    },
    **{f"resnet{d}": partial(resnet_imagenet, depth=d) for d in (18, 34, 50, 101, 152)},
    "vgg_cifar": vgg_cifar,
    "vgg15": partial(vgg_cifar),
    "vgg15_bn": partial(vgg_cifar, batch_norm=True),
    **{
        f"vgg{layers}{suffix}": partial(vgg_imagenet, configuration=name, **batch_norm)
        for layers, name in {11: "A", 13: "B", 16: "D", 19: "E"}.items()
        for suffix, batch_norm in {"": {}, "_bn": {"batch_norm": True}}.items()
    },
}


def resolve(name: str, arguments: Mapping[str, object] | None = None) -> dict[str, object]:
    """Everything that decides what `build` makes: the builder's name and all its arguments, defaults included.

    Two names for the same network resolve to the same dictionary. Raises ValueError for an unknown name or argument.
    """
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ValueError(f"unknown network {name!r}{hint} Known: {', '.join(sorted(ARCHITECTURES))}")
    builder = ARCHITECTURES[name]
    function, preset = (builder.func, builder.keywords) if isinstance(builder, partial) else (builder, {})
    parameters = inspect.signature(function).parameters
    unknown = set(arguments or {}) - set(parameters)
    if unknown:
        raise ValueError(f"{name} takes no argument {', '.join(sorted(unknown))}; it takes {', '.join(parameters)}")
    defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    resolved = {**defaults, **preset, **(arguments or {})}
    fixed = sorted(set(preset) & set(arguments or {}))
    if fixed:
        raise ValueError(f"{name} fixes {', '.join(f'{key}={preset[key]!r}' for key in fixed)}; choose another network")
    missing = set(parameters) - set(resolved)
    if missing:
        raise ValueError(f"{name} needs the argument {', '.join(sorted(missing))}")
    return {"builder": function.__name__, **dict(sorted(resolved.items()))}


def build(name: str, num_classes: int = 10, in_channels: int = 3, **arguments: object) -> Network:
    """Builds a network by its name in `ARCHITECTURES`, freshly initialised from torch's global generator.

    Raises ValueError for an unknown name, argument or value, naming what is allowed.
    """
    resolved = resolve(name, arguments)
    for key in ("depth", "width", "hidden", "num_classes", "in_channels"):
        value = {**resolved, "num_classes": num_classes, "in_channels": in_channels}.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} of {name} must be a whole number of at least 1, got {value!r}")
    return ARCHITECTURES[name](num_classes=num_classes, in_channels=in_channels, **arguments)
