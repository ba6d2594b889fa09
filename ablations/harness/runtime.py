"""The process that computes: memory allocator, threads, and what the libraries print."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next step instead of giving it back; True if it agreed.

    Activations come and go at every step; returning their pages costs about a quarter of a training step on a CPU.
    Other C libraries have no such switch, and lose nothing but this.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        gigabytes = 1 << 30
        return bool(libc.mallopt(M_MMAP_THRESHOLD, gigabytes) and libc.mallopt(M_TRIM_THRESHOLD, 2 * gigabytes - 1))
    except (OSError, AttributeError):
        return False


progress_line: int | None = None
"""On which line of the terminal this process shows its progress, where several do."""


def quiet() -> None:
    """Keeps advertising and advice of the libraries off the terminal; errors still come through."""
    import lightning.pytorch  # noqa: F401  (first, because it sets its own level when it is imported)

    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "pytorch_lightning", "wandb"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*does not have many workers.*", ".*LeafSpec.*", ".*isinstance.treespec.*", ".*lr_scheduler.step.*"):
        warnings.filterwarnings("ignore", message=text)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    warnings.filterwarnings("ignore", module="PIL")  # of damaged images, which are refused by name
    os.environ.setdefault("WANDB_SILENT", "true")


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many threads for tensor operations until exit; None leaves them as they are."""
    import torch

    before = torch.get_num_threads()
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)


def compiling_pays() -> bool:
    """Whether torch.compile finds a C++ compiler and a CPU on which it pays.

    Measured: with a matrix unit (AMX) convolutions are so fast that fusing the rest gains a quarter; without one
    (AVX-512 alone) compiled steps were a little slower than eager ones.
    """
    try:
        matrix_unit = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        matrix_unit = False
    return matrix_unit and any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)


def environment(device: str) -> dict[str, Any]:
    """Versions, machine and commit, as plain values; what a number may depend on beyond a run's identity."""
    import lightning
    import numpy
    import torch
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "lightning": lightning.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else _cpu(),
        "threads": torch.get_num_threads(),
        **_commit(),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "CPU"


def _commit() -> dict[str, Any]:
    """Commit of the code and whether it was changed since; empty where the code is no git checkout."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    commit, dirty, _ = found.stdout.strip().partition("-")
    return {"commit": commit, "uncommitted_changes": bool(dirty)}


def say(*words: object) -> None:
    """Prints a line at once; every line a user sees comes through here or through a progress bar."""
    print(*words, file=sys.stdout, flush=True)
