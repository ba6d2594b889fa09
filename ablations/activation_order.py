"""Where should batch norm and ReLU stand in a residual block?

He, Zhang, Ren & Sun 2016, "Identity mappings in deep residual networks", arXiv:1603.05027, section 4, tables 2 and 3,
figures 1 and 6. Five orders of batch norm and ReLU at 110 layers; the original and full pre-activation at three depths.

    python ablations/activation_order.py
    python ablations/activation_order.py --data cifar10 --budget hour
    python ablations/activation_order.py --data cifar10 --budget paper --trainer.precision bf16-mixed

Two questions, for the order of the rows of table 2 can come from either: how soon the training loss falls (AO3), and
what the networks err on test images once those that can be trained are trained to the end (AO1, AO2). The second can be
seen where a trained network still errs: `hour` takes 2,000 images of 16 px without augmentation. Digits leave no error
to compare, so that AO1 and AO2 are out of reach there.

Differs from the paper: medians of 5 runs there, paired seeds here (8, the fewest that can contradict a claim of four
tests; 6 can only reproduce it). The paper trains on all 50k images; here a tenth is set aside, as in the 45k/5k split
of He et al. 2015, and gives the curves. The networks of 1001 layers compare at a batch size of 128, as in table 3; the
4.62 % of table 4 was measured at 64, without an original network beside it, and is an arm of its own at the paper
budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablations.harness.declare.ablation import Ablation, Amendment, Arm, Claim, Need, Plan, Test
from ablations.harness.declare.chart import Against, ArmTable, LossAndError
from ablations.harness.declare.measure import Measure, Quantity, counted, greatest, log2, top1_error
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import SLOW_START, laptop_recipe
from ablations.harness.declare.scale import Scale, View
from ablations.harness.declare.series import along, reduced
from ablations.harness.launch import main
from ablations.probes.activations.training_fit import TrainingFit
from ablations.probes.costs import Depth

ORIGINAL, RELU_ONLY, FULL = "original", "relu_only_preactivation", "full_preactivation"
ORDERS = {  # as modules.blocks.residual_block.ORDERS, which is heavy to import: what stands where
    ORIGINAL: "ReLU after the addition (He et al. 2015)",
    "bn_after_addition": "batch norm and ReLU after the addition",
    "relu_before_addition": "ReLU at the end of the branch",
    RELU_ONLY: "ReLU before, batch norm after each convolution",
    FULL: "batch norm and ReLU before each convolution",
}
SHALLOW, MIDDLE, DEEP = DEPTHS = ("_shallow", "_middle", "_deep")
SMALL_BATCH = "_deep_batch64"
FEW = View(image_size=16, train_images=2_000)


def plan(at: Scale) -> Plan:
    """Five orders at 110 layers, the original and full pre-activation at three depths, of which 110 is one."""
    depths = at(paper=(110, 164, 1001), short=(56, 110, 164), laptop=(20, 56, 110), smoke=(8, 14, 20))
    width = at(paper=16, laptop=8)
    deep = at(paper={"block": "bottleneck", "shortcut": "B"}, short={})  # of 164 and 1001 layers in the paper
    recipe = laptop_recipe(
        at, 12, SLOW_START,
        short={"epochs": at.epochs(6), "precision": FAST_TRAINING},
        laptop={"batch_size": 32, "epochs": at.epochs(6, 32)},
        hour={"batch_size": 64, "warmup_steps": 100, "epochs": at.epochs_of(1_550, 64), "augmentation": "none"},
    )  # fmt: skip

    def arm(order: str, suffix: str, depth: int, **changes: Any) -> Arm:
        arguments = {"depth": depth, "width": width, "order": order, **(deep if depth > 110 else {})}
        return Arm(order + suffix, "resnet_cifar", arguments, recipe | changes, f"{ORDERS[order]}, {depth} layers")

    arms = [arm(order, "", at(paper=110, smoke=20)) for order in ORDERS]
    for suffix, depth in zip(DEPTHS, depths, strict=True):
        every = tuple(ORDERS) if suffix == MIDDLE and at.budget == "paper" else (ORIGINAL, FULL)
        arms += [arm(order, suffix, depth) for order in every]
    arms += [arm(order, SMALL_BATCH, depths[-1], batch_size=64) for order in at(paper=(FULL,), short=())]
    images = at(paper=10_000, laptop=5_000, smoke=200)
    # Eight seeds are the fewest that can contradict one of three claims of four tests, six can reproduce one.
    probes = [TrainingFit(train_images=min(images, at.num_train)), Depth(of=(FULL + DEEP,))]
    return Plan(arms, at(paper=8, short=6, laptop=8, smoke=2), probes)


error_of = Quantity("train/top1_error", "%", "training error", "trained_on")
loss_of = Quantity("train/loss", "nats", "mean training loss of an epoch", "epoch")


def worse(order: str, suffix: str = "") -> Measure:
    """Test error of an order minus that of full pre-activation at the same depth, in % points."""
    return top1_error(order + suffix) - top1_error(FULL + suffix)


def relatively_worse(order: str) -> Measure:
    """The same in % of full pre-activation's test error."""
    return (100 * worse(order) / top1_error(FULL)).called(f"test error, {order} minus {FULL}, in % of the latter", "%")


def at_a_quarter(epochs: Sequence[float], losses: Sequence[float]) -> float:
    """The loss of the epoch that ends nearest to a quarter of the schedule."""
    return losses[max(1, round(len(losses) / 4)) - 1]


def slower(order: str, suffix: str = "") -> Measure:
    """log2 of an order's training loss at a quarter of the schedule over that of full pre-activation."""
    mine, others = (
        reduced("at a quarter", at_a_quarter, along(loss_of(each + suffix), "epoch")) for each in (order, FULL)
    )
    return log2(mine / others).called(
        f"log2 of the training loss at a quarter of the schedule, {order + suffix} over {FULL + suffix}"
    )


layers = counted(Quantity("layers", "", "layers", "network")(FULL + DEEP)).called("layers of the deepest network")


HE = "He et al. 2016, arXiv:1603.05027"
ELSEWHERE = "--data cifar10 --budget hour would do"
room = Need("room", top1_error(FULL), at_least=3.0, met_by=ELSEWHERE)  # three times the point that is looked for


def fits(*arms: str) -> Need:
    """They are trained to the end, so that what they err on test images is no matter of too few steps."""
    errors = greatest(*map(error_of, arms)).called("largest training error of orders that can be trained")
    return Need("fits", errors, at_most=1.0, met_by=f"more epochs ({ELSEWHERE})")


# In the paper batch norm after the addition and ReLU before it are 1.80 and 1.47 points worse: a point is asked for,
# with margins of a third of these. The original and ReLU-only are 0.24 and 0.34 points worse, near the noise of runs:
# full pre-activation must not be worse by more than a twentieth of its error, 0.3 points of the paper's 6.37.
TWENTIETH = -5.0
TENTH = 0.14  # of log2, a tenth more loss

CLAIMS = (
    Claim(
        "AO1",
        "Full pre-activation beats the four other orders of batch norm and ReLU.",
        f"{HE}, section 4.1, table 2",
        "CIFAR-10, 110 / 164 layers: full pre-activation 6.37 / 5.46 %, original 6.61 / 5.93, ReLU-only pre-activation "
        "6.71 / 5.91, ReLU before addition 7.84 / 6.14, batch norm after addition 8.17 / 6.50",
        tests=(
            Test("beats_bn_after_addition", worse("bn_after_addition"), at_least=1.0, margin=0.6),
            Test("beats_relu_before_addition", worse("relu_before_addition"), at_least=1.0, margin=0.5),
            Test("no_worse_than_original", relatively_worse(ORIGINAL), at_least=TWENTIETH),
            Test("no_worse_than_relu_only", relatively_worse(RELU_ONLY), at_least=TWENTIETH),
        ),
        needs=(room, fits(ORIGINAL, RELU_ONLY, FULL)),
        amended=(
            Amendment("2026-11-28", "test errors of all four above, on digits at 38 layers", "a point, a twentieth of "
                      "the error where the paper's gap is its noise, trained networks of 110 layers that still err",
                      "digits leave one error of 450 to compare, and half of the orders were not trained to the end"),
        ),
    ),
    Claim(
        "AO2",
        "The advantage of full pre-activation over the original order grows with depth.",
        f"{HE}, section 4.2, table 3",
        "CIFAR-10, original minus full pre-activation: 0.24 % points at 110 layers, 0.47 at 164, 2.69 at 1001",
        tests=(
            Test("grows", (worse(ORIGINAL, DEEP) - worse(ORIGINAL, SHALLOW)).called(
                "advantage over the original order, at the greatest depth minus at the smallest"), at_least=0.0,
                margin=0.8),  # a third of the paper's 2.45
        ),
        needs=(
            room,
            fits(ORIGINAL + DEEP, FULL + DEEP),
            # The paper's 0.24 and 0.47 points at 110 and 164 layers are near the noise of runs, which eight seeds of
            # 60 % error cannot see half of.
            Need("depth", layers, at_least=1_000.0, met_by="--data cifar10 --budget paper would do"),
        ),
        amended=(
            Amendment("2026-11-28", "38, 56 and 110 layers on digits", "a thousand layers trained to the end, where "
                      "these err", "the paper's advantage at 110 layers is less than its runs differ by; of how soon "
                      "networks of up to 110 layers train, AO3 judges"),
        ),
    ),
    Claim(
        "AO3",
        "Full pre-activation is easier to train than the original order, the more so the deeper, and than batch norm "
        "after the addition.",
        f"{HE}, section 4.1, figure 6 (left); section 4.2, figure 1",
        "figures only: the training loss falls sooner, with 1001 layers far sooner than in the original order",
        tests=(
            Test("sooner_than_original", slower(ORIGINAL), at_least=0.0, margin=TENTH),
            Test("sooner_than_bn_after_addition", slower("bn_after_addition"), at_least=0.0, margin=TENTH),
            Test("grows", (slower(ORIGINAL, DEEP) - slower(ORIGINAL, SHALLOW)).called(
                "that of the original order, at the greatest depth minus at the smallest"), at_least=0.0, margin=TENTH),
        ),
        amended=(
            Amendment("2026-11-28", "no claim", "a claim of its own", "a pilot showed the order in how soon networks "
                      "train, which AO1 counted as test error"),
        ),
    ),
)  # fmt: skip

PUBLISHED = {  # CIFAR-10, 110 layers, test error in %
    ORIGINAL: 6.61, "bn_after_addition": 8.17, "relu_before_addition": 7.84, RELU_ONLY: 6.71, FULL: 6.37,
}  # fmt: skip
TABLE = ArmTable(
    "orders",
    "Orders of batch norm and ReLU, and three depths",
    {
        "layers": "depth",
        "paper, 110 layers: test error, %": PUBLISHED,
        "here: test error, %": top1_error,
        "here: training error, %": error_of,
        "here: training loss": Quantity("train/loss", probe="trained_on"),
    },
    "Table 2 of the paper (CIFAR-10). At 164 layers it has 5.93, 6.50, 6.14, 5.91 and 5.46 % in the order of the rows, "
    "at 1001 layers 7.61 (original) and 4.92 % (full pre-activation; 4.62 in batches of 64, table 4). Medians over "
    "runs, as there, with their range. Training error and loss: of the finished networks, on training images without "
    "augmentation.",
    medians=True,
)
PANELS = {order: {ORIGINAL: ORIGINAL, order: order} for order in ORDERS if order not in (ORIGINAL, FULL)}
for name, suffix in {"shallow": SHALLOW, "deep": DEEP}.items():
    PANELS[f"{FULL}, the {name}est networks"] = {order + suffix: order for order in (ORIGINAL, FULL)}

ABLATION = Ablation(
    name="activation_order",
    title="The order of batch norm and ReLU",
    question="Where should batch norm and ReLU stand in a residual block?",
    claims=CLAIMS,
    plan=plan,
    charts=(
        TABLE,
        LossAndError(
            "curves", "Training curves of each order against the original", PANELS,
            "As figures 1 and 6 of the paper, which show test error.",
        ),
        Against(
            "depth", "Test error over depth", top1_error, "test error (%)", "layers",
            {order: {order + suffix: "depth" for suffix in DEPTHS} for order in (ORIGINAL, FULL)},
            caption="The rows of the paper's table 3 as a figure.",
        ),
    ),
    baseline=ORIGINAL,
    views={"laptop": FEW, "hour": FEW},
)  # fmt: skip

if __name__ == "__main__":
    main(ABLATION)
