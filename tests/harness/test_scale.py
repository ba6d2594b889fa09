"""Plans train for steps, whatever the number of images; what is short or does not fit is told or made to fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules
from ablations.harness import lengths
from ablations.harness.command.command_line import Options
from ablations.harness.declare import precision
from ablations.harness.declare.precision import FAST_TRAINING
from ablations.harness.declare.protocols import laptop_recipe
from ablations.harness.declare.scale import LEAST_STEPS, Scale
from ablations.harness.declare.scripts import scripts
from ablations.harness.prepare import prepare
from ablations.harness.training.lengths import steps
from ablations.harness.trial import Trial
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.made import made_data
from datamodules.sources.pixels import Decoded, Pixels

ABLATIONS = {ablation.name: ablation for ablation in scripts()}
DIGITS_ONLY = ("bird_parts", "house_numbers", "spatial_transformer")  # of single digits in grey they make their images
# One arm of a pair has larger batches and must see as many images.
SAME_IMAGES = ("vgg9_large_batch", "vgg9_large_batch_no_decay")


def at(budget: str, size: int, num_train: int, num_test: int = 500) -> Scale:
    return Scale(budget, "photos", size, num_train, num_test)


def photos(num_train: int, size: int = 32, channels: int = 3, num_test: int = 100) -> ImageData:
    """Black images of ten classes, none of them set aside."""
    splits = [
        Pixels(torch.zeros(number, size, size, channels, dtype=torch.uint8), torch.arange(number) % 10)
        for number in (num_train, num_test)
    ]
    return ImageData(Decoded(*splits, 10), name="photos", digest="0", augment=Augment(), validation=0.0)


@pytest.fixture
def trial_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Trial]:
    """Prepares a script's trial on made-up data."""

    def make(script: str, data: ImageData, budget: str = "laptop", fast: bool = True, **options: Any) -> Trial:
        monkeypatch.setattr(datamodules, "load", lambda *words, **options: data)
        monkeypatch.setattr(precision, "bf16_is_fast", lambda trainer: fast)
        return prepare(ABLATIONS[script], Options(budget, "parquet", tmp_path, tmp_path / "runs", **options))

    return make


@pytest.mark.parametrize("budget", ["laptop", "short"])
def test_the_data_of_the_calibrations_keep_their_epochs(budget: str) -> None:
    for number in (1, 2, 3, 9, 12, 18, 40, 130):
        for batch_size in (64, 128, 256):
            assert at(budget, 16, 1_212).epochs(number, batch_size) == number
            assert at(budget, 32, 45_000).epochs(number, batch_size) == number


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("num_train", [30, 54, 500, 1_819, 4_999, 7_200, 20_000, 50_000])
def test_other_numbers_of_images_get_as_many_steps(size: int, num_train: int) -> None:
    found = at("laptop", size, num_train)
    batch_size, wanted = (64, 12 * 18) if found.small else (128, 351)
    in_one = max(1, num_train // batch_size)
    steps = found.epochs(12 if found.small else 1, batch_size) * in_one
    assert abs(steps - wanted) <= max(in_one / 2, wanted / 10) or steps == in_one, "one epoch is the least"
    assert size < 28 or steps >= LEAST_STEPS


def test_few_images_have_the_networks_of_digits_on_a_laptop_alone() -> None:
    assert at("laptop", 32, 1_819).small
    assert at("laptop", 32, 1_819).large
    assert not at("laptop", 32, 5_000).small
    assert not at("short", 32, 1_819).small
    assert at("paper", 16, 60_000).small


def test_an_hour_is_a_laptop_with_changes_of_its_own() -> None:
    for size, num_train in ((16, 1_212), (32, 45_000), (32, 1_819)):
        hour, laptop = at("hour", size, num_train), at("laptop", size, num_train)
        assert hour.small is laptop.small
        for words in ({"paper": 1}, {"paper": 1, "laptop": 2, "smoke": 3}, {"paper": 1, "cifar": 2}):
            assert hour(**words) == laptop(**words), "where nothing is said of it"
        assert (hour(paper=1, cifar=2, hour=3), laptop(paper=1, hour=3)) == (3, 1)
        assert hour.recipe(short={"epochs": 2}, laptop={"momentum": 0.5}) == {"momentum": 0.5}
    for budget in ("smoke", "short", "paper"):
        assert at(budget, 16, 1_212)(paper=1, hour=3) == 1


def test_probes_are_bounded_by_the_number_of_images() -> None:
    assert at("laptop", 16, 1_212, 450).limit(600) is None
    assert at("laptop", 16, 1_212, 600).limit(600) is None
    assert at("laptop", 16, 1_212, 10_000).limit(600) == 600


def test_many_draws_go_through_no_more_test_images_than_cifar_has() -> None:
    for budget, num_test, limit in (("short", 10_000, None), ("short", 10_001, 10_000), ("paper", 10_001, None)):
        planned = ABLATIONS["remove_layers"].plan(at(budget, 4, 30, num_test))
        assert [each.limit for each in planned.probes if hasattr(each, "limit")] == [limit, limit]


@pytest.mark.parametrize("script", ABLATIONS)
def test_every_script_trains_long_enough_on_two_thousand_photos(
    trial_of: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(made_data, "_painted", made_of_one)
    trial = trial_of(script, photos(2_021, channels=1 if script in DIGITS_ONLY else 3))
    found = {job.arm: steps(job.run) for job in trial.jobs if job.arm not in SAME_IMAGES}
    assert min(found.values()) >= LEAST_STEPS
    assert max(found.values()) <= 2_500, "minutes, not hours"
    assert any("Short training" in remark for remark in trial.remarks) is (script == "loss_landscape")
    assert all((getattr(asked, "limit", None) or 0) <= 2_021 for asked in trial.plan.probes)


@pytest.mark.parametrize(("num_train", "epochs"), [(5_394, 4), (2_021, 11), (21_576, 1)])  # the first: CUB-200-2011
def test_birds_get_as_many_steps_whatever_the_number_of_photos(num_train: int, epochs: int) -> None:
    def recipes(budget: str, num_train: int) -> list[Any]:
        at = Scale(budget, "photos", 32, num_train, 100)
        return [arm.recipe for arm in ABLATIONS["bird_parts"].plan(at).arms]

    for recipe in recipes("laptop", num_train):
        assert recipe["epochs"] == epochs
        assert abs(epochs * (num_train // recipe["batch_size"]) - 674) < 674 / 20
    assert {recipe["epochs"] for recipe in recipes("short", 5_394)} == {30}


def made_of_one(maker: Any, digits: torch.Tensor, described: dict[str, torch.Tensor]) -> torch.Tensor:
    """All images like the first one: what a plan is depends on none of them."""
    first = {name: values[:1] for name, values in described.items()}
    return maker.paint(digits.contiguous(), first).expand(len(described["labels"]), -1, -1, -1)


@pytest.mark.parametrize("script", ["stochastic_depth", "path_lengths", "loss_landscape"])
def test_batches_fit_very_few_images(trial_of: Callable[..., Trial], script: str) -> None:
    trial = trial_of(script, photos(54, num_test=6))
    assert {job.run.recipe.batch_size for job in trial.jobs} == {32}
    assert min(steps(job.run) for job in trial.jobs) >= LEAST_STEPS
    assert any("Batches of 32 in place of 64" in remark for remark in trial.remarks)
    for asked in trial.plan.probes:
        assert getattr(asked, "batch_size", 1) <= 54 or script == "loss_landscape", "gradients are of whole batches"


def of_lengths(trial: Trial) -> list[str]:
    """What is told of lengths, batches and precision, and not of claims or data."""
    return [each for each in trial.remarks if each.startswith(("Short training", "Batches", "fp32"))]


def test_a_short_plan_says_so_and_a_smoke_plan_does_not(trial_of: Callable[..., Trial]) -> None:
    digits = datamodules.load("digits")
    (remark,) = of_lengths(trial_of("remove_layers", digits, trainer={"limit_train_batches": 30}))
    assert remark.startswith("Short training, 180 steps (4 arms)")
    assert of_lengths(trial_of("remove_layers", digits, "smoke")) == []


def test_a_part_of_the_batches_is_a_short_training(trial_of: Callable[..., Trial]) -> None:
    few = {"limit_train_batches": 1}
    (remark,) = trial_of("training_precision", datamodules.load("digits"), trainer=few).remarks
    assert remark.startswith("Short training, 16 steps")


def test_a_network_from_outside_is_told_nothing_of_training(trial_of: Callable[..., Trial]) -> None:
    outside = {"network": "resnet20", "weights": "random", "fast": False}
    assert trial_of("remove_layers", photos(54), "short", **outside).remarks == ()
    (remark,) = trial_of("loss_landscape", photos(54), "short", **outside).remarks
    assert remark.startswith("fp32 where this budget would take bf16"), "its probe would"


def test_arms_that_are_left_out_are_not_told_of(
    trial_of: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = ABLATIONS["remove_layers"]
    planned = ablation.plan(at("laptop", 32, 54))
    first, second, *_ = planned.arms
    wishes = replace(first, recipe={**first.recipe, "batch_size": 128, "precision": FAST_TRAINING})
    second = replace(second, recipe={**second.recipe, "batch_size": 64})
    two = replace(ablation, plan=lambda at: replace(planned, arms=(wishes, second)))
    monkeypatch.setitem(ABLATIONS, "remove_layers", two)
    monkeypatch.setattr("ablations.harness.prepare.check", lambda *parts: None)  # the claims' arms are not all there
    trial = trial_of("remove_layers", photos(54), fast=False, arms=(second.name,))
    (remark,) = of_lengths(trial)
    assert any(each.startswith("The 100 test images are the same") for each in trial.remarks)
    assert remark.startswith("Batches of 32 in place of 64")
    told = " ".join(trial_of("remove_layers", photos(54), fast=False).remarks)
    assert all(part in told for part in ("in place of 64", "in place of 128", "fp32 where"))


def test_the_plan_shows_steps_beside_epochs(command: Callable[..., Any]) -> None:
    code, printed, _ = command("--dry-run", "--arms", "fp32", ablation=ABLATIONS["training_precision"])
    assert code == 0
    head, row = (line.split() for line in printed.splitlines()[1:3])
    assert head[5:7] == ["epochs", "steps"]
    assert row[6:8] == ["16", "288"]


def test_a_plan_with_batches_that_fit_is_left_as_it_is() -> None:
    plan = ABLATIONS["training_precision"].plan(at("laptop", 32, 2_021))
    found, changed = lengths.fitted(plan, 2_021, lambda network: 128)
    assert list(found.arms) == plan.arms
    assert changed == {}


def test_a_scale_knows_the_shape_of_images_and_of_their_labels() -> None:
    found = Scale.of("laptop", datamodules.load("digits"))
    assert (found.channels, found.places) == (1, 1)
    numbers = datamodules.make(datamodules.load("digits"), "digit_sequences", size=16, longest=3)
    assert Scale.of("laptop", numbers).places == 3
    assert Scale.of("laptop", photos(30)).channels == 3


DIGITS, CIFAR = ("digits", 16, 1_212, 450), ("cifar10", 32, 45_000, 10_000)
LINEAR = {"momentum": 0.5, "schedule": "linear", "nesterov": True, "warmup_rate": None}
LARGE = {**LINEAR, "batch_size": 128, "warmup_steps": 100, "epochs": 1, "precision": FAST_TRAINING}


@pytest.mark.parametrize(("budget", "data", "expected"), [
    ("paper", CIFAR, {"momentum": 0.5}),
    ("short", CIFAR, {"momentum": 0.5, "epochs": 6}),
    ("laptop", DIGITS, {**LINEAR, "batch_size": 64, "warmup_steps": 40, "epochs": 12}),
    ("laptop", CIFAR, LARGE),
    ("hour", DIGITS, {**LINEAR, "batch_size": 64, "warmup_steps": 40, "epochs": 40}),
    ("hour", CIFAR, {**LARGE, "epochs": 40}),
    ("smoke", CIFAR, {**LARGE, "decay": "weights"}),
])  # fmt: skip
def test_each_budget_changes_what_the_larger_ones_say(budget, data, expected):
    changes = {"short": {"epochs": 6}, "cifar": {"warmup_steps": 100}, "smoke": {"decay": "weights"}}
    changes["hour"] = {"epochs": 40}
    assert laptop_recipe(Scale(budget, *data), 12, {"momentum": 0.5}, **changes) == expected
