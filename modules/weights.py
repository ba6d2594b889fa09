"""Weights in files: safetensors written whole or not at all; safetensors, state dicts and Lightning checkpoints read.

Reading never runs code from the file: safetensors holds none, and everything else goes through torch.load with
weights_only=True.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CHECKPOINT_PREFIX = "network."  # where a Lightning checkpoint of this suite keeps the network


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Writes the state dict (parameters and buffers) as safetensors, in one step, on the disk when the call returns.

    Raises FileNotFoundError if the folder is missing; an old file stands until the new one is complete.
    """
    path = Path(path)
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} to")
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Fills all parameters and buffers from a safetensors file, a state dict or a Lightning checkpoint.

    Of a Lightning checkpoint only the keys below `network.` are read. The network is changed only if everything fits.
    Raises ValueError for a missing or unreadable file, a file that would have to run code, and keys or shapes that do
    not fit.
    """
    found = read_weights(path)
    expected = network.state_dict()
    problems = [
        _listed("missing", [name for name in expected if name not in found]),
        _listed("unexpected", [name for name in found if name not in expected]),
        _listed(
            "of another shape",
            [
                f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
                for name, tensor in expected.items()
                if name in found and found[name].shape != tensor.shape
            ],
        ),
    ]
    if any(problems):
        raise ValueError(f"weights in {path} do not fit the network: {'; '.join(filter(None, problems))}")
    network.load_state_dict(found)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file, a state dict or the network's part of a Lightning checkpoint, on the CPU.

    Raises ValueError for a missing or unreadable file and for one that would have to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no weights file {path}")
    if _is_safetensors(path):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: it is no plain state dict, and unpickling more could run code") from error
    except Exception as error:  # a damaged file can make torch.load raise anything
        raise ValueError(f"{path} is empty or damaged") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
        if any(str(name).startswith(CHECKPOINT_PREFIX) for name in content):
            content = {
                name.removeprefix(CHECKPOINT_PREFIX): tensor
                for name, tensor in content.items()
                if name.startswith(CHECKPOINT_PREFIX)
            }
    if not isinstance(content, dict) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise ValueError(f"{path} holds no state dict, that is a mapping from names to tensors")
    return content


def _is_safetensors(path: Path) -> bool:
    """By suffix, or by content: eight bytes with the length of a JSON header, then the header."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return path.suffix == ".safetensors" or start[8:] == b"{"


def _listed(problem: str, names: list[str], limit: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{problem}: {', '.join(names[:limit])}{more}"


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of names and bytes, 16 hexadecimal digits."""
    state = hashlib.sha256()
    for name, tensor in tensors:
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]
