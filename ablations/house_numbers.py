"""Do spatial transformers, one at the input or four inside, read house numbers better, and for how much more time?

Jaderberg et al. 2015, "Spatial transformer networks", arXiv:1506.02025, section 4.2, table 2, appendix A.5. One network
with five heads reads numbers of up to five digits, each place with a null class; a number is wrong if any place is.
Arms: the convolutional network, one transformer in front (`single`), four before the first convolutions (`multi`).

    python ablations/house_numbers.py
    python ablations/house_numbers.py --data house_numbers --data-root SVHN_FULL --budget paper

`--data house_numbers` is SVHN's full numbers; any single digits in grey are set side by side instead
(`made/digit_sequences.py`). Differs from the paper at the laptop budget: numbers of 48 pixels, convolutions a sixth
as wide, hidden layers a twelfth (256 of 3072), neither dropout nor weight decay, 2000 steps of 32 in bf16 with Nesterov
momentum, at a rate of 0.03 that falls along a cosine after 40 steps of warm-up. A step is timed on networks of the
published width at 64 pixels, in fp32 but for `short`, whatever the arms are, because how sampling compares with
convolutions depends on the width; on a CPU with one thread by default, while another run may train on the other core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Measure, Quantity, median_ratio, top1_error
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.scale import epochs_of
from ablations.harness.launch import main
from ablations.harness.store.records import Records, point

if TYPE_CHECKING:
    from torch import Tensor

    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

CNN, SINGLE, MULTI = "cnn", "single", "multi"
TRANSFORMERS = {CNN: "none", SINGLE: "single", MULTI: "multi"}  # arm -> what `st_svhn` calls it
NOTES = {CNN: "no transformer", SINGLE: "one transformer in front", MULTI: "four inside, one of them in front"}
LONGEST = 5  # digits of the numbers that are made
PUBLISHED = {CNN: (4.0, 5.6), SINGLE: (3.7, 3.9), MULTI: (3.6, 3.9)}  # sequence error in % at 64 and at 128 pixels
SLOWER = 6.0  # % that the paper's four transformers add to forward and backward pass

LAPTOP_SIZE, LAPTOP_STEPS = 48, 2000  # found on seeds from 1001 on, which no verdict uses


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """The three networks; raises ValueError for images that are neither numbers nor single digits in grey."""
    is_numbers = data.test.labels.ndim > 1
    if not (is_numbers or data.in_channels == 1):
        raise ValueError(
            f"{data.name}: colour images with one label each; allowed: numbers (--data house_numbers), or single "
            "digits in grey, of which numbers are made"
        )
    arguments: dict[str, Any] = {"num_digits": data.test.labels.shape[1] if is_numbers else LONGEST}
    numbers: dict[str, Any] = {} if is_numbers else {"name": "digit_sequences", "longest": LONGEST}
    # Seven seeds are the fewest that can contradict one of two claims that has two tests.
    steps, batch, seeds = 400_000, 128, 7
    settings: dict[str, Any] = {"precision": "32-true", "rounds": 20, "timed_batch": 128}
    settings |= {"timed_size": 64, "timed_width": 48, "timed_hidden": 3072}
    recipe: dict[str, Any] = {}
    if budget == "short":
        steps, recipe = 8_000, {"precision": FAST_TRAINING}
        settings["precision"] = FAST_TRAINING
    if budget in ("laptop", "smoke"):
        # What keeps the published width from overfitting keeps a thin network from learning in so few steps.
        arguments |= {"width": 8, "hidden": 256, "dropout": 0.0}
        steps, batch = LAPTOP_STEPS, 32
        recipe = {"learning_rate": 0.03, "schedule": "cosine", "nesterov": True, "warmup_steps": 40}
        recipe |= {"weight_decay": 0.0, "precision": FAST_TRAINING}
        settings |= {"rounds": 8, "timed_batch": 8}
        numbers |= {"size": LAPTOP_SIZE} if numbers else {}
    if budget == "smoke":
        arguments |= {"width": 4, "hidden": 32}
        settings |= {"rounds": 2, "timed_batch": 2, "timed_size": 32, "timed_width": 4, "timed_hidden": 32}
        steps, seeds = 0, 2
        numbers |= {"size": 16} if numbers else {}
    recipe |= {"batch_size": batch, "epochs": epochs_of(steps, batch, data.identity["num_train"])}
    arms = tuple(
        Arm(name, "st_svhn", {**arguments, "transformers": transformers}, recipe, NOTES[name], data=numbers)
        for name, transformers in TRANSFORMERS.items()
    )
    return Plan(arms, seeds, settings)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """Errors by place and by length, the windows of the transformers, and what a step of each network costs."""
    from ablations.probes.transformers.poses import transformers

    yield from errors(subject)
    if transformers(subject.network):
        yield from found_windows(subject)
        keep_looks(subject)
    if subject.arm == MULTI:
        yield from step_costs(subject)


def errors(subject: Subject) -> Iterator[Measurement]:
    """% of test numbers with a wrong digit at each place, and % wrong among the numbers of each length."""
    import torch

    from ablations.harness.probing import Measurement

    parts = []
    with torch.no_grad():
        for images, labels in subject.data.evaluation_batches("test", device=subject.device):
            parts.append((subject.network(images).argmax(dim=1) != labels).cpu())
            subject.on_pass()
    wrong, length = torch.cat(parts), lengths(subject.data)
    for place, share in enumerate(wrong.double().mean(dim=0).tolist(), start=1):
        yield Measurement(point("place", place=place), "error", 100.0 * share, "%")
    for number in length.unique().tolist():
        share = wrong[length == number].any(dim=1).double().mean().item()
        yield Measurement(point("length", length=number), "error", 100.0 * share, "%")


def lengths(data: ImageData) -> Tensor:
    """Digits of each test number: int64 (N,)."""
    return (data.test.labels != data.num_classes - 1).sum(dim=1)


def seen_through(subject: Subject, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Of each transformer, in order, the matrices (N, 3, 3) from its window to the image itself.

    A later transformer reads what an earlier one gave, so that its transform follows theirs.
    """
    import torch

    from ablations.probes.transformers.poses import matrices, thetas, transformers

    found = thetas(subject.network, batches, subject.on_pass)
    through: list[Tensor] = []
    for name, transformer in transformers(subject.network).items():
        own = matrices(transformer, found[name])
        through.append(torch.matmul(through[-1], own) if through else own)
    return through


def corners(matrix: Tensor) -> Tensor:
    """Corners of the windows of affine matrices (N, 3, 3), clockwise from the upper left: (N, 4, 2), x first."""
    square = matrix.new_tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    return (square @ matrix.mT)[:, :, :2]


def found_windows(subject: Subject) -> Iterator[Measurement]:
    """Sizes of the windows, and where the truth is known, how they lie to the number; transformer 0 is the image.

    A window counts as the upright box around it. Numbers of no digit are left out.
    """
    import torch

    from ablations.harness.probing import Measurement
    from ablations.probes.transformers.poses import overlap
    from datamodules.made.made_data import MadeData

    data = subject.data
    through = seen_through(subject, data.evaluation_batches("test", device=subject.device))
    rows = lengths(data) > 0
    for number, matrix in enumerate([torch.eye(3).double().expand_as(through[0]), *through]):
        edges = corners(matrix[rows])
        box = torch.cat([edges.amin(dim=1), edges.amax(dim=1)], dim=1)
        where = point("window", transformer=number)
        area = (box[:, 2:] - box[:, :2]).prod(dim=1) / 4
        yield Measurement(where, "window/area", 100.0 * area.median().item(), "%")
        if isinstance(data, MadeData):
            true = true_boxes(data.truth["test"])[rows]
            inside = torch.cat([torch.maximum(box[:, :2], true[:, :2]), torch.minimum(box[:, 2:], true[:, 2:])], dim=1)
            within = (inside[:, 2:] - inside[:, :2]).clamp(min=0).prod(dim=1)
            share = within / (true[:, 2:] - true[:, :2]).prod(dim=1)
            yield Measurement(where, "window/overlap", 100.0 * overlap(box, true).mean().item(), "%")
            yield Measurement(where, "window/covers", 100.0 * share.mean().item(), "%")


def true_boxes(truth: Mapping[str, Tensor]) -> Tensor:
    """The box around all digits of each number, float64 (N, 4); that of the first place if there is no digit."""
    import torch

    boxes, last = truth["boxes"].double(), (truth["length"] - 1).clamp(min=0)
    return torch.cat([boxes[:, 0, :2], boxes[torch.arange(len(boxes)), last, 2:]], dim=1)


def keep_looks(subject: Subject) -> None:
    """Writes looks.npz: for the first test number of each length, what the last transformer sees of the image itself.

    images, outputs: grey uint8 (n, S, S). outlines: (n, 4, 2), the corners of the window in pixels. labels: (n, D).
    """
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    from ablations.harness.store.files import write_npz

    data, length = subject.data, lengths(subject.data)
    rows = torch.stack([(length == number).nonzero()[0, 0] for number in length.unique().tolist() if number > 0])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    # Outside the image there is the mean, which is 0 for the network.
    values = data.test.images[rows].movedim(-1, 1).float() / 255 - mean
    matrix = seen_through(subject, [((values / std).to(subject.device), rows)])[-1]
    grid = affine_grid(matrix[:, :2].float(), list(values.shape), align_corners=False)
    shown = {"images": values, "outputs": grid_sample(values, grid, align_corners=False)}
    write_npz(
        subject.folder / "looks.npz",
        outlines=(((corners(matrix) + 1) * data.image_size - 1) / 2).numpy(),
        labels=data.test.labels[rows].numpy(),
        **{name: ((x + mean) * 255).mean(dim=1).round().clamp(0, 255).byte().numpy() for name, x in shown.items()},
    )


def step_costs(subject: Subject) -> Iterator[Measurement]:
    """Multiply-adds of a network of each arm at the published width, and seconds of its training steps, in turns."""
    from dataclasses import replace

    import torch

    from ablations.harness.probing import Measurement
    from ablations.harness.stopwatch import in_turns, training_steps
    from modules import build, recipe_for
    from modules.blocks.cost import cost

    settings, size = subject.settings, subject.settings["timed_size"]
    devices = [subject.device] if subject.device.type == "cuda" else []
    # A tiny rate, because what is timed must not blow up.
    recipe = replace(recipe_for("st_svhn"), learning_rate=1e-6, precision=settings["precision"])
    steps = {}
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(subject.seed)
        images = torch.randn(settings["timed_batch"], 3, size, size, device=subject.device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.randint(11, (len(images), LONGEST), device=subject.device)
        for name, kind in TRANSFORMERS.items():
            network = build(
                "st_svhn", 11, 3, image_size=size, transformers=kind, num_digits=LONGEST,
                width=settings["timed_width"], hidden=settings["timed_hidden"],
            ).to(subject.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
            counted = cost(network, (3, size, size)).multiply_adds / 1e6
            yield Measurement(point("timed", network=name), "multiply_adds", counted, "M")
            steps[name] = training_steps(network, recipe, images, labels, 1)
        found = in_turns(steps, settings["rounds"], subject.device, subject.on_pass)
    for name, seconds in found.items():
        for number, value in enumerate(seconds):
            yield Measurement(point("timed", network=name, round=number), "seconds", value, "s")


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """Two over the test images; what is timed is a small part of the time unless the arms are thin."""
    return 2.0


def check(settings: Mapping[str, Any], network: Any) -> None:
    """Raises ValueError for a network from outside, which would read but one label, and for what cannot be timed."""
    from typing import get_args

    from modules.blocks.layers import check_choice
    from modules.training.recipe import Precision

    if network is not None:
        raise ValueError("house_numbers makes the numbers for its own arms; it takes no network from outside")
    check_choice("--probe.precision", settings["precision"], get_args(Precision))
    for name, least in {"rounds": 1, "timed_batch": 1, "timed_size": 16, "timed_width": 1, "timed_hidden": 1}.items():
        if settings[name] < least:
            raise ValueError(f"--probe.{name} {settings[name]}: give {least} or more")


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Errors beside the paper's, by length and place, numbers before and after a transformer, and costs."""
    from reports.drawings.house_numbers import draw

    return draw(records, folder)


# -- what decides -----------------------------------------------------------------------------------------------------


def dearer(metric: str, network: str) -> Measure:
    """% that a training step of a network costs more than the plain network's: median over the rounds."""
    of = Quantity(metric, "%", f"{metric} of a training step", "timed")
    return 100 * (median_ratio(of(MULTI, network=network), of(MULTI, network=CNN)) - 1)


PAPER = "Jaderberg et al. 2015, arXiv:1506.02025, section 4.2"


def _fewer(arm: str) -> Test:
    says = f"error on numbers, plain network minus {'one transformer' if arm == SINGLE else 'four transformers'}"
    return Test(arm, (top1_error(CNN) - top1_error(arm)).called(says), at_least=0.0)


CLAIMS = (
    Claim(
        "SV1a",
        "One transformer at the input, or four inside, beat the convolutional network on numbers of several digits.",
        f"{PAPER}, table 2",
        "at 64 / 128 pixels: CNN 4.0 / 5.6, single 3.7 / 3.9, multi 3.6 / 3.9 % of numbers wrong",
        tests=(_fewer(SINGLE), _fewer(MULTI)),
    ),
    Claim(
        "SV1b",
        "Four transformers inside take at most 6 % more time, beside what their multiply-adds cost.",
        PAPER,
        "only 6 % slower (forward and backward pass) than the CNN",
        tests=(
            Test("slower", (dearer("seconds", MULTI) - dearer("multiply_adds", MULTI)).called(
                "time of a training step that four transformers add, less the part of multiply-adds they add "
                "(published width)", "%"), at_most=SLOWER),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="house_numbers",
    title="Reading house numbers with spatial transformers",
    question="Do one or four spatial transformers read numbers of several digits better, and for how much more time?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    baseline=CNN,
    check=check,
)

if __name__ == "__main__":
    main(ABLATION)
