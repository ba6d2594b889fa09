"""bf16 where the device computes it fast: what the device is asked, what a plan's wish comes to, and who is told."""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablations.harness import conclusion
from ablations.harness.command.command_line import Options
from ablations.harness.declare import precision
from ablations.harness.declare.ablation import Ablation, Arm, Plan
from ablations.harness.declare.precision import FAST_PROBE, FAST_TRAINING, granted
from ablations.harness.declare.probe import Probe, Subject
from ablations.harness.declare.scale import Scale
from ablations.harness.execution import distributed
from ablations.harness.execution.perform import perform
from ablations.harness.prepare import prepare
from ablations.harness.trial import Trial
from ablations.training_precision import ABLATION as TRAINING_PRECISION

ASK = """
from ablations.harness.declare import precision
print("before")
print(precision.bf16_is_fast({"accelerator": "cpu"}), precision.bf16_convolution() or "none")
"""


# -- what the device is asked -----------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit is one of x86 instructions")
@pytest.mark.parametrize("most", ["AVX2", "AVX512_CORE"])
def test_a_processor_without_bf16_instructions_is_not_fast(python: Callable[..., Any], most: str) -> None:
    done = python("-c", ASK, ONEDNN_MAX_CPU_ISA=most)
    assert done.returncode == 0, done.stderr
    first, answer = done.stdout.splitlines()  # nothing that oneDNN prints is among them
    assert first == "before"
    assert answer in ("False none", "False jit_bf16:avx512_core")


@pytest.mark.parametrize(("implementation", "fast"), [
    ("brg_conv_fwd:avx512_core_bf16", True),
    ("jit_bf16:avx512_core_bf16", True),
    ("brg_conv_fwd:avx10_1_512_amx", True),
    ("brgconv:sve_256", True),
    ("jit_bf16:avx512_core", False),
    ("ref:any", False),
    ("", False),
])  # fmt: skip
def test_an_implementation_tells_whether_it_has_instructions(
    monkeypatch: pytest.MonkeyPatch, implementation: str, fast: bool
) -> None:
    asked = precision._processor_is_fast.__wrapped__
    monkeypatch.setattr(precision, "bf16_convolution", lambda: implementation)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert asked() is fast
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert asked() is False, "torch would not give the convolution to oneDNN"


@pytest.mark.parametrize(("cuda", "trainer", "fast"), [
    (True, {}, True),
    (False, {}, False),
    (True, {"accelerator": "gpu"}, True),
    (True, {"accelerator": "cpu"}, None),
    (None, {"accelerator": "mps"}, False),
    (None, {}, None),
])  # fmt: skip
def test_the_device_that_trains_is_asked(
    monkeypatch: pytest.MonkeyPatch, cuda: bool | None, trainer: dict[str, Any], fast: bool | None
) -> None:
    """cuda: whether a GPU says that it has bf16, None without one. fast: None where the processor is asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda and not including_emulation)
    for processor in (True, False):
        monkeypatch.setattr(precision, "_processor_is_fast", lambda answer=processor: answer)
        assert precision.bf16_is_fast(trainer) is (processor if fast is None else fast)


# -- what a wish comes to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Asks(Probe):
    precision: str
    limit: int = 5

    def ask(self, subject: Subject) -> tuple[()]:
        return ()


def test_wishes_of_recipes_and_settings_are_granted_or_not() -> None:
    arms = (Arm("wishes", "lenet5", {}, {"precision": FAST_TRAINING}), Arm("asks", "lenet5", {}, {"epochs": 2}))
    plan = Plan(arms, 1, [Asks(precision=FAST_PROBE)])
    for fast, trained, asked in ((True, "bf16-mixed", "bf16"), (False, "32-true", "fp32")):
        found = granted(plan, fast)
        assert [arm.recipe for arm in found.arms] == [{"precision": trained}, {"epochs": 2}]
        (probe,) = found.probes
        assert probe.settings == {"precision": asked, "limit": 5}


def test_the_script_that_compares_precisions_wishes_for_none() -> None:
    plan = TRAINING_PRECISION.plan(Scale("laptop", "cifar10", 32, 45_000, 10_000))
    assert [arm.recipe["precision"] for arm in granted(plan, bf16_is_fast=False).arms] == ["32-true", "bf16-mixed"]


@pytest.fixture
def wishing(small_ablation: Callable[..., Ablation]) -> Ablation:
    """An ablation whose tiny arms all wish for bf16."""
    return small_ablation(epochs=12, precision=FAST_TRAINING)


@pytest.fixture
def prepared(wishing: Ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    """Prepares its trial on a machine that is fast or not."""

    def make(fast: bool, **options: Any) -> Trial:
        monkeypatch.setattr(precision, "bf16_is_fast", lambda trainer: fast)
        return prepare(wishing, Options("laptop", "digits", tmp_path, tmp_path / "runs", **options))

    return make


@pytest.mark.parametrize("fast", [True, False])
def test_runs_are_known_by_what_their_wish_came_to(prepared: Callable[..., Trial], fast: bool) -> None:
    trial = prepared(fast)
    wanted = "bf16-mixed" if fast else "32-true"
    assert {each.run.identity()["recipe"]["precision"] for each in trial.jobs} == {wanted}
    assert any("bf16" in remark for remark in trial.remarks) is not fast


def test_a_users_own_precision_is_no_wish(prepared: Callable[..., Trial]) -> None:
    trial = prepared(False, trainer={"precision": "bf16-mixed"})
    assert {each.run.identity()["recipe"]["precision"] for each in trial.jobs} == {"bf16-mixed"}
    (remark,) = (remark for remark in trial.remarks if "bf16" in remark)
    assert "emulated" in remark


def test_processes_of_ddp_are_told_the_precision(
    prepared: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = prepared(False, trainer={"accelerator": "cpu", "devices": 2, "strategy": "ddp"}, wandb="disabled")
    ended = SimpleNamespace(returncode=1)
    monkeypatch.setattr(distributed, "subprocess", SimpleNamespace(run=lambda command, **_: ended))
    with pytest.raises(OSError, match="ended with exit code 1"):
        perform(trial.jobs[0])
    request = json.loads((trial.jobs[0].folder / "job.json").read_text())
    assert request["job"]["run"]["recipe"]["precision"] == "32-true"


# -- who is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_the_plan_shows_precisions_and_why(
    wishing: Ablation, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(precision, "bf16_is_fast", lambda trainer: fast)
    code, plan, _ = command("--dry-run", ablation=wishing)
    assert code == 0
    assert ("bf16-mixed" if fast else "32-true") in plan
    assert ("fp32 where this budget would take bf16" in plan) is not fast
    _, own, _ = command("--dry-run", "--trainer.precision", "bf16-mixed", ablation=wishing)
    assert ("emulated on this device" in own) is not fast
    assert "would take bf16" not in own


def test_a_reader_of_the_page_is_told(prepared: Callable[..., Trial]) -> None:
    assert any("more slowly than fp32" in sentence for sentence in conclusion._not_done(prepared(False)))
    assert not any("bf16" in sentence for sentence in conclusion._not_done(prepared(True)))


def test_asking_leaves_standard_output_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("first ")
    precision.bf16_convolution()
    print("second")
    assert capfd.readouterr().out == "first second\n"
