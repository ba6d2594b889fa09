"""Is the identity the best shortcut?

He, Zhang, Ren & Sun 2016, "Identity mappings in deep residual networks", arXiv:1603.05027, section 3, table 1 and
figure 3: residual networks of 110 layers with ReLU after the addition, whose shortcuts are scaled, gated, 1x1
convolutions or dropped out. All these forms can express the identity or come close to it, so that the paper blames
optimisation for their errors: their training loss is higher. Hence the claim has a part about training loss.

    python ablations/shortcut_forms.py
    python ablations/shortcut_forms.py --data cifar10 --budget paper --trainer.precision bf16-mixed

The paper's rule for "fail", a test error above 20 %, is used unchanged on all data. A run that diverges is a failure,
not a missing value: it counts as a network that guesses, with an error of 100 - 100 / classes in % and a training loss
of the logarithm of the number of classes, be it with or without identity shortcuts.

Differs from the paper: medians of 5 runs there, paired seeds here (7, the fewest that can contradict one claim of six
tests; 5 can only reproduce it). A tenth of the training images is set aside and gives the curves. "0 on the shortcut"
is the network built without shortcuts. Where the shape changes, gates stand on option A, which the paper does not
describe. Option C has a batch norm after the 1x1 convolution, as in He et al. 2015.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Quantity, log10, mean_of
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

IDENTITY, PLAIN, CONVOLUTION, DROPOUT = "identity", "plain", "convolution", "dropout"
SCALED_SHORTCUT, SCALED_BOTH = "scaled_shortcut", "scaled_both"
GATED = {"exclusive": "exclusive gating", "shortcut": "shortcut-only gating"}
ERROR, LOSS = "test/top1_error", "train/loss"


def gated(gate: str, bias: int) -> str:
    """The name of the arm with this gate and this bias at the start."""
    return f"{gate}_gate_{bias}"


# What stands for each family in the tests: the setting that did best in the paper, so that the claim does not win
# against a badly chosen rival. (Plain networks and a scaled shortcut beside a full branch failed in the paper.)
RIVALS = {
    SCALED_BOTH: "shortcut and branch times 0.5",
    gated("exclusive", -6): "exclusive gating, bias -6",
    gated("shortcut", -6): "shortcut-only gating, bias -6",
    CONVOLUTION: "1x1 convolutions as shortcuts",
    DROPOUT: "dropout of 0.5 on the shortcut",
}


# -- the arms ---------------------------------------------------------------------------------------------------------


def forms(exclusive_biases: Sequence[int]) -> dict[str, tuple[dict[str, Any], str]]:
    """Arm -> arguments of `resnet_cifar` and a remark, in the order of the paper's table 1."""
    found: dict[str, tuple[dict[str, Any], str]] = {
        IDENTITY: ({}, "the original: identity shortcuts, option A where the shape changes"),
        PLAIN: ({"skip": False}, "shortcut times 0: no shortcut"),
        SCALED_SHORTCUT: ({"shortcut_scale": 0.5}, "shortcut times 0.5"),
        SCALED_BOTH: ({"shortcut_scale": 0.5, "branch_scale": 0.5}, "shortcut and branch times 0.5"),
    }
    for gate, biases in (("exclusive", exclusive_biases), ("shortcut", (0, -6))):
        for bias in biases:
            found[gated(gate, bias)] = ({"gate": gate, "gate_bias": float(bias)}, f"{GATED[gate]}, bias {bias}")
    found[CONVOLUTION] = ({"shortcut": "C"}, "a 1x1 convolution in every shortcut (option C)")
    # Half of the shortcut's activations are 0 in training, and its expectation is half: hence the factor.
    found[DROPOUT] = ({"shortcut_dropout": 0.5, "shortcut_scale": 0.5}, "dropout of 0.5 on the shortcut")
    return found


def plan(budget: str, data: ImageData) -> Plan:
    """All forms at one depth; the paper's budget sweeps every bias of the exclusive gate, the others fewer.

    The small budgets train for few steps: a form that fails there may only be slow, which its curve shows.
    """
    at = Scale.of(budget, data)
    shape = {"depth": 38 if at.large else 56, "width": 8 if at.small else 16}
    biases: tuple[int, ...] = (0, -2, -4, -6, -7)
    seeds, train_images = 7, None
    recipe: dict[str, Any] = {"schedule": "linear", "nesterov": True, "warmup_steps": 40, "batch_size": 64}
    recipe |= {"epochs": at.epochs(9, 64)}
    if at.large:
        biases, seeds, train_images = (0, -3, -6), 5, 2000
    if not at.small:
        recipe |= {"batch_size": 128, "epochs": at.epochs(1), "warmup_steps": 60, "precision": FAST_TRAINING}
    if budget == "smoke":
        shape, seeds, train_images, recipe = {"depth": 14, "width": 8}, 2, 200, {**recipe, "epochs": 1}
    elif budget == "short":
        # Five seeds are the fewest that can reproduce a single claim: an hour is spent on seeds, not on epochs.
        shape, biases, seeds, train_images = {"depth": 56, "width": 16}, (0, -3, -6, -7), 5, 10_000
        recipe = {"epochs": at.epochs(6), "warmup_steps": 400, "warmup_rate": 0.01, "precision": FAST_TRAINING}
    elif budget == "paper":
        shape, biases, seeds, train_images = {"depth": 110, "width": 16}, tuple(range(0, -8, -1)), 7, 10_000
        recipe = {"warmup_steps": 400, "warmup_rate": 0.01}  # appendix
    arms = tuple(
        Arm(name, "resnet_cifar", {**shape, **arguments}, recipe, note)
        for name, (arguments, note) in forms(biases).items()
    )
    images = min(train_images or len(data.train), len(data.train))
    return Plan(arms, seeds, {"depth": shape["depth"], "train_images": images, "passes": images / len(data.test)})


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """The network's depth, what guessing scores, and the fit to training images without augmentation or dropout."""
    from ablations.harness.probing import Measurement
    from ablations.probes.activations.training_fit import fit

    classes = subject.data.num_classes
    yield Measurement(point("network"), "depth", subject.settings["depth"], "layers")
    yield Measurement(point("chance"), ERROR, 100.0 - 100.0 / classes, "%")
    yield Measurement(point("chance"), LOSS, math.log(classes), "nats")
    images = subject.data.evaluation_batches("train", device=subject.device, limit=subject.settings["train_images"])
    found = fit(subject.network, images, subject.on_pass)
    yield Measurement(point("trained_on"), LOSS, found.loss, "nats")
    yield Measurement(point("trained_on"), "train/top1_error", found.error, "%")


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """The training images that are asked, in passes over the test images."""
    return float(settings["passes"])


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Table 1 with ours beside the paper's, figure 3, error and training loss of every form, the sweep of biases."""
    from reports.drawings.shortcut_forms import draw

    return draw(records, folder)


# -- what decides -----------------------------------------------------------------------------------------------------


error = Quantity(ERROR, "%", "test error", guessing=ERROR)
loss = Quantity(LOSS, "nats", "training loss", "trained_on", guessing=LOSS)

# All thresholds are 0: the paper's closest rival is 0.30 points behind (6.91 against 6.61 %), and what it claims is
# that the identity is best. One test per family, because the mean over families would let one that fails outright carry
# the others; one test of training loss, because it is the families together of which the paper says it.
CLAIMS = (
    Claim(
        "SC1",
        "Identity is the best shortcut: scaled, gated, convolutional and dropped-out ones have a higher test error and "
        "a higher training loss.",
        "He et al. 2016, arXiv:1603.05027, section 3, table 1 and figure 3",
        "CIFAR-10, 110 layers, test error in %: identity 6.61; scaled 12.35 or fail (above 20); exclusive gating 8.70 "
        "at bias -6, 9.81 at -7, fail from 0 to -5; shortcut-only gating 6.91 at bias -6, 12.86 at 0; 1x1 convolution "
        "12.22; dropout fail. Training loss: figure only, higher",
        notes_value="the notes blame a sigmoid layer that is too weak and generalises worse; the paper shows higher "
        "training loss, and these forms contain the identity",
        tests=(
            *(
                Test(f"beats_{arm}", (error(arm) - error(IDENTITY)).called(f"test error, {says} minus identity"),
                     at_least=0.0)
                for arm, says in RIVALS.items()
            ),
            # Logarithms, so that one form that fails outright does not speak for the others.
            Test("training_loss", mean_of(*(log10(loss(arm) / loss(IDENTITY)) for arm in RIVALS)).called(
                "training loss over identity's, mean over the five forms of log10 of the ratio"), at_least=0.0),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="shortcut_forms",
    title="Forms of the shortcut",
    question="Is the identity the best shortcut?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=IDENTITY,
)

if __name__ == "__main__":
    main(ABLATION)
