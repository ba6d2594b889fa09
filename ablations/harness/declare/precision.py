"""Precision of a plan is a wish: bf16 where the device computes it fast, else fp32; resolved once, before any run.

What it is resolved to is part of a run's identity, so it follows from what the device is asked, never from a clock.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ablations.harness.declare.ablation import Plan


@dataclass(frozen=True)
class Wish:
    """A value that a plan wants where bf16 is fast, and what it takes instead elsewhere."""

    wanted: str
    otherwise: str


# Any, so that a typed setting may hold it until the device is known.
FAST_TRAINING: Any = Wish("bf16-mixed", "32-true")
"""For a recipe's `precision`, and for settings of probes that time training steps."""
FAST_PROBE: Any = Wish("bf16", "fp32")
"""For the `precision` of probes that only evaluate."""


def granted(plan: Plan, bf16_is_fast: bool) -> Plan:
    """The plan with plain values in place of wishes, in the recipes of its arms and the settings of its probes."""

    def plain(values: Mapping[str, object]) -> dict[str, object]:
        wishes = {key: value for key, value in values.items() if isinstance(value, Wish)}
        return {**values, **{key: w.wanted if bf16_is_fast else w.otherwise for key, w in wishes.items()}}

    arms = tuple(replace(arm, recipe=plain(arm.recipe)) for arm in plan.arms)
    probes = tuple(replace(probe, **plain(probe.settings)) for probe in plan.probes)  # type: ignore[arg-type]
    return replace(plan, arms=arms, probes=probes)


def remarks(plan: Plan, precisions: Iterable[str], bf16_is_fast: bool, trainer: Mapping[str, Any]) -> list[str]:
    """What a user must know of precision, one sentence each; none where bf16 is fast.

    plan: with its wishes. precisions: in which the runs train. trainer: the user's options.
    """
    if bf16_is_fast:
        return []
    found = []
    wishes = [arm.recipe.get("precision") for arm in plan.arms] if "precision" not in trainer else []
    asked = [value for probe in plan.probes for value in probe.settings.values()]
    if any(isinstance(value, Wish) for value in (*wishes, *asked)):
        found.append("fp32 where this budget would take bf16: this device computes bf16 more slowly than fp32.")
    if any(precision.startswith("bf16") for precision in precisions):
        found.append("Training in bf16-mixed is emulated on this device and takes several times as long as in 32-true.")
    return found


def bf16_is_fast(trainer: Mapping[str, Any]) -> bool:
    """Whether the device that these options of Trainer choose has instructions for bf16; no where that is not known."""
    import torch

    accelerator = trainer.get("accelerator", "auto")
    if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return accelerator in ("auto", "cpu") and _processor_is_fast()


@cache
def _processor_is_fast() -> bool:
    """Whether oneDNN takes bf16 convolutions, and does so with instructions for them.

    What it refuses torch computes by itself, 12 times slower than fp32. On a processor that has AVX-512 but no bf16
    oneDNN takes them and converts back and forth, 3.5 times slower; such an implementation is named for plain
    `avx512_core`, one with instructions for `avx512_core_bf16`, `avx10_1_512_amx` and the like.
    """
    import torch

    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return bf16_convolution().rpartition(":")[2] not in ("", "any", "avx512_core")


def bf16_convolution() -> str:
    """The implementation, as oneDNN names it, of a bf16 convolution, such as `jit_bf16:avx512_core_bf16`; "" for none.

    It is named nowhere but in what oneDNN prints of itself, to the process's standard output and not to Python's.
    """
    import torch
    from torch.backends import mkldnn

    images = torch.zeros(8, 16, 32, 32, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    weights = torch.zeros(16, 16, 3, 3, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    flush = ctypes.CDLL(None).fflush  # of every stream of C
    sys.stdout.flush()
    flush(None)
    stdout = os.dup(1)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 1)
        try:
            with torch.no_grad(), mkldnn.verbose(mkldnn.VERBOSE_ON):
                torch.nn.functional.conv2d(images, weights, padding=1)
            flush(None)
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        printed.seek(0)
        lines = printed.read().decode(errors="replace").splitlines()
    # onednn_verbose,v1,primitive,exec,cpu,convolution,IMPLEMENTATION,...
    fields = [line.split(",") for line in lines if ",exec,cpu,convolution," in line]
    return fields[0][fields[0].index("convolution") + 1] if fields else ""
