"""Weights in files: safetensors written whole or not at all; safetensors, state dicts and checkpoints read.

Reading never runs code from the file: safetensors holds none, and everything else goes through torch.load with
weights_only=True.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modules.state_dicts import CONTAINERS, Found, fitting, renamed, shown, unwrapped

UNKNOWN = re.compile(r"GLOBAL ([\w.]{1,80})")  # as torch names what weights_only refuses


class Misfit(ValueError):
    """Weights that were read and do not fit the network."""


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Writes the state dict (parameters and buffers) as `write_tensors` does.

    Raises FileNotFoundError if the folder is missing.
    """
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to write {path.name} to")
    write_tensors(tensors, path, {"format": "pt"})


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file in one step, on the disk when the call returns; an old one stands until then."""
    # In the same folder, because a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        save_file(tensors, temporary, metadata)
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


def load_weights(network: nn.Module, path: str | Path) -> str:
    """Fills all parameters and buffers from a safetensors file, a state dict or a checkpoint that holds one.

    Gives what was taken, left out or changed on the way, in words; "" if the file is the network's own. The network is
    changed only if everything fits. Raises ValueError as `read_weights` does.
    """
    found = _read(Path(path), network)
    network.load_state_dict(found.tensors)
    return ", ".join(found.notes)


def read_weights(path: str | Path, network: nn.Module | None = None) -> dict[str, Tensor]:
    """The tensors in a safetensors file, a state dict or a checkpoint that holds one, on the CPU.

    network: whose names, shapes and types they must have; a prefix before all names is left out, floats of another
    size are converted, and `num_batches_tracked` may be absent (see `state_dicts`). None takes them as they stand.
    Raises ValueError for a missing or unreadable file, one that would have to run code, and one that does not fit.
    """
    return _read(Path(path), network).tensors


def _read(path: Path, network: nn.Module | None) -> Found:
    try:
        content = _content(path)
    except OSError as error:
        raise ValueError(f"weights file {shown(str(path), 200)} cannot be read: {error.strerror}") from None
    found = unwrapped(content)
    if found is None:
        raise ValueError(
            f"{path} holds no state dict, that is a mapping from names to tensors, alone or as {', '.join(CONTAINERS)}"
        )
    if network is None:
        return found
    wanted = network.state_dict()
    try:
        return fitting(renamed(found, wanted), wanted)
    except ValueError as error:
        raise Misfit(f"weights in {path} do not fit the network: {error}") from None


def _content(path: Path) -> object:
    """What a file holds; raises ValueError for a file that is not there, damaged, or would have to run code."""
    if not path.is_file():
        raise ValueError(f"{path} is no file" if path.exists() or path.is_symlink() else f"no weights file {path}")
    if _is_safetensors(path):
        try:
            return load_file(path)
        except Exception as error:  # a damaged header can make it raise anything
            raise ValueError(f"{path} is not a readable safetensors file: {shown(str(error), 200)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is said below, on one line
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unknown = UNKNOWN.search(str(error))
        holds = f" (it holds {unknown[1]})" if unknown else ""
        raise ValueError(
            f"{path} is refused: it is no plain state dict{holds}, and unpickling more could run code; "
            "save the state dict alone, or as safetensors"
        ) from error
    except Exception as error:  # a damaged file can make torch.load raise anything
        if "TorchScript" in str(error):
            raise ValueError(
                f"{path} is refused: it is a TorchScript program; save its state_dict() instead"
            ) from error
        raise ValueError(f"{path} is empty or damaged") from error


def _is_safetensors(path: Path) -> bool:
    """By suffix, or by content: eight bytes with the length of a JSON header, then the header."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return path.suffix == ".safetensors" or start[8:] == b"{"


def digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of names and bytes, 16 hexadecimal digits."""
    state = hashlib.sha256()
    for name, tensor in tensors:
        state.update(name.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]
