"""Pixels are decoded once and kept as one safetensors file, which is believed only after it has proved what it is.

The folder is $ABLATIONS_CACHE, or ~/.cache/cnn-ablations; deleting it costs nothing but time.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from datamodules.sources.pixels import Decoded, Pixels
from modules.weights import write_tensors

FORMAT = "2"
"""To be raised whenever a reader changes what it makes of the same files."""

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where decoded pixels are kept."""
    return Path(os.environ.get("ABLATIONS_CACHE") or Path.home() / ".cache" / "cnn-ablations")


def cache_file(name: str, root: Path, image_size: int | None) -> Path:
    """The file that keeps one data set at one place on disk, in one size."""
    place = hashlib.sha256(json.dumps([str(root.resolve()), image_size]).encode()).hexdigest()[:16]
    return cache_folder() / f"{name}-{place}.safetensors"


def fingerprint(root: Path, files: list[Path], *arguments: str | int | None) -> str:
    """A hash of the relative names, sizes and modification times of source files, and of their reader's arguments."""
    stats = [(file, file.stat()) for file in files]
    facts = [(file.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    return hashlib.sha256(json.dumps([FORMAT, arguments, facts]).encode()).hexdigest()


def digest(decoded: Decoded) -> str:
    """SHA-256 of everything a data set holds: pixels, labels, their shapes, number of classes, JPEG quality."""
    tensors = _tensors(decoded)
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    sha = hashlib.sha256(json.dumps([shapes, decoded.num_classes, decoded.jpeg_quality]).encode())
    for tensor in tensors.values():
        sha.update(tensor.contiguous().numpy().data)
    return sha.hexdigest()


def load_or_decode(file: Path, source: str, decode: Callable[[], Decoded]) -> tuple[Decoded, str]:
    """The data set kept in `file`, or else decoded now and kept there; with its `digest`.

    source: the fingerprint of the files it comes from. A file that is truncated, foreign or stale is replaced, and the
    log says why. If the folder cannot be written, one warning is logged and the pixels are returned all the same.
    """
    try:
        return _open(file, source)
    except FileNotFoundError:
        pass
    except (_Distrusted, SafetensorError, OSError) as reason:
        log.warning("%s is not used and will be rebuilt: %s", file, reason)
    decoded = decode()
    contents = digest(decoded)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = {"num_classes": str(decoded.num_classes), "jpeg_quality": json.dumps(decoded.jpeg_quality)}
        write_tensors(_tensors(decoded), file, {"format": FORMAT, "source": source, "digest": contents, **facts})
    except (OSError, SafetensorError) as reason:
        log.warning("decoded pixels are not kept, every start will decode again: %s", reason)
    return decoded, contents


class _Distrusted(Exception):
    """A cache file is well formed but does not hold what is asked for."""


def _open(file: Path, source: str) -> tuple[Decoded, str]:
    if not file.is_file():
        raise FileNotFoundError(file)
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise _Distrusted(f"format {metadata.get('format')}, not {FORMAT}")
        if metadata.get("source") != source:
            raise _Distrusted("the source files have changed since")
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    try:
        decoded = Decoded(
            Pixels(tensors["train_images"], tensors["train_labels"]),
            Pixels(tensors["test_images"], tensors["test_labels"]),
            int(metadata["num_classes"]),
            json.loads(metadata["jpeg_quality"]),
        )
    except (KeyError, ValueError, AssertionError) as error:
        raise _Distrusted(f"not a data set ({error!r})") from error
    if digest(decoded) != metadata.get("digest"):
        raise _Distrusted("its contents do not match their digest")
    return decoded, metadata["digest"]


def _tensors(decoded: Decoded) -> dict[str, torch.Tensor]:
    return {
        "train_images": decoded.train.images,
        "train_labels": decoded.train.labels,
        "test_images": decoded.test.images,
        "test_labels": decoded.test.labels,
    }
