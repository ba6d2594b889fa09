"""Does training in bf16 cost accuracy?

Not a claim of the notes but a question of this suite's own: bf16 training about halves the time of a run, and becomes
the default of a budget only where paired seeds show that nothing is lost. Both arms see the same initial weights, the
same order of samples and the same augmentation; both are evaluated in fp32.

    python ablations/training_precision.py
    python ablations/training_precision.py --data cifar10
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import top1_error
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

ERROR = "test/top1_error"
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}


def plan(budget: str, data: ImageData) -> Plan:
    """A ResNet-20 in both precisions, with as many seeds and epochs as the budget allows."""
    recipe: dict[str, Any] = {"schedule": "linear", "nesterov": True, "batch_size": 64, "warmup_steps": 40}
    at = Scale.of(budget, data)
    epochs, seeds = at.epochs(16, 64), 12
    if not at.small:
        recipe |= {"batch_size": 128, "warmup_steps": 60}
        epochs, seeds = at.epochs(1), 3
    if budget == "smoke":
        epochs, seeds = 1, 2
    elif budget == "short":
        epochs, seeds = at.epochs(20), 8
    elif budget == "paper":
        recipe, epochs, seeds = {}, 182, 8
    arms = tuple(
        Arm(name, "resnet_cifar", {"depth": 20}, {**recipe, "epochs": epochs, "precision": precision})
        for name, precision in PRECISIONS.items()
    )
    return Plan(arms, seeds)


def probe(subject: Subject) -> Iterable[Measurement]:
    """Asks nothing beyond the test error that every run records."""
    return ()


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Nothing is asked, so nothing is passed."""
    return 0.0


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Test errors of both arms, seed by seed."""
    from reports.charts.paired_seeds import draw_pairs

    return draw_pairs(records, folder, list(PRECISIONS), ERROR, "test error in %")


ABLATION = Ablation(
    name="training_precision",
    title="bf16 against fp32 training",
    question="Does training in bf16 cost accuracy?",
    claims=(
        Claim(
            "TP1",
            "Training in bf16 costs no accuracy worth noticing (less than 0.5 % points of test error).",
            "this suite's own condition for making bf16 a default",
            "",
            tests=(
                Test("loss", (top1_error("bf16") - top1_error("fp32")).called(
                    "test error after bf16 minus after fp32 training"), at_most=0.5),
            ),
        ),
    ),
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline="fp32",
)  # fmt: skip

if __name__ == "__main__":
    main(ABLATION)
