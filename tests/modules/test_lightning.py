"""The LightningModules as users of Lightning expect them: by name alone, under any Trainer, with its tools."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from jsonargparse.typing import class_from_function
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import datamodules
from datamodules import ImageData
from modules import build, recipe_for
from modules.training.classifier import Classifier
from modules.training.recipe import Recipe, learning_rate

SMALL = {"width": 2}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(**{"accelerator": "cpu", "max_epochs": 1, **QUIET, **options})


@pytest.fixture
def data() -> ImageData:
    return datamodules.load("digits", batch_size=64)


class Rates(lightning.Callback):
    """The learning rate of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_start(self, loop: lightning.Trainer, *_: Any) -> None:
        self.found.append(loop.optimizers[0].param_groups[0]["lr"])


# -- what it is made of -----------------------------------------------------------------------------------------------


def test_a_name_is_enough(data: ImageData, tmp_path: Path) -> None:
    module = Classifier("resnet20")
    trainer(max_steps=1, default_root_dir=tmp_path).fit(module, data)
    assert module.recipe == recipe_for("resnet20")
    network = build("resnet20", 10, 1)
    assert [p.shape for p in module.network.parameters()] == [p.shape for p in network.parameters()]
    assert (module.hparams["num_classes"], module.hparams["in_channels"]) == (10, 1)


def test_a_network_with_a_linear_layer_is_built_for_the_width_of_the_images(data: ImageData) -> None:
    module = Classifier("lenet5")
    trainer().validate(module, data, verbose=False)
    assert module.hparams["arguments"] == {"image_size": 16}


def test_given_sizes_build_at_once_and_are_kept(data: ImageData) -> None:
    module = Classifier("resnet20", SMALL, num_classes=12, in_channels=1)
    before = module.network
    trainer().test(module, data, verbose=False)
    assert module.network is before
    assert module(torch.randn(2, 1, 16, 16)).shape == (2, 12)


def test_a_recipe_may_be_whole_or_a_few_fields() -> None:
    paper = recipe_for("resnet110")
    few = Classifier("resnet110", recipe={"learning_rate": 0.02, "milestones": [0.5]})
    assert few.recipe == replace(paper, learning_rate=0.02, milestones=(0.5,))
    whole = replace(paper, schedule="cosine", epochs=3)
    assert Classifier("resnet20", recipe=whole).recipe == whole
    assert Classifier("resnet20", recipe=asdict(whole)).recipe == whole


def test_what_is_unknown_is_named(data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"unknown network 'resnet21'; close are .*resnet20"):
        Classifier("resnet21")
    with pytest.raises(ValueError, match="resnet20 takes no argument wide"):
        Classifier("resnet20", {"wide": 2})
    with pytest.raises(ValueError, match=r"a recipe has no rate; it has .*learning_rate"):
        Classifier("resnet20", recipe={"rate": 0.1})
    with pytest.raises(AttributeError, match="give num_classes and in_channels"):
        Classifier("resnet20").network  # noqa: B018
    images = DataLoader(TensorDataset(torch.randn(4, 1, 8, 8), torch.zeros(4).long()))
    with pytest.raises(ValueError, match="num_classes is unknown: give it to Classifier, or the Trainer data"):
        trainer().fit(Classifier("resnet20"), images)


# -- how long it is trained -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "rates"), [
    ({"milestones": (0.5, 0.75)}, [0.4, 0.4, 0.04, 0.004]),
    ({"schedule": "linear"}, [0.4, 0.3, 0.2, 0.1]),
    ({"schedule": "cosine"}, [0.4, 0.2 + 0.1 * 2**0.5, 0.2, 0.2 - 0.1 * 2**0.5]),
    ({"schedule": "exponential", "final_fraction": 0.0001}, [0.4, 0.04, 0.004, 0.0004]),
    ({"schedule": "linear", "warmup_steps": 4}, [0.1, 0.3, 0.4, 0.2]),
    ({"schedule": "linear", "warmup_steps": 4, "warmup_rate": 0.01}, [0.01, 0.01, 0.4, 0.2]),
])  # fmt: skip
def test_schedules(fields: dict[str, Any], rates: list[float]) -> None:
    recipe = Recipe(epochs=1, learning_rate=0.4, **fields)
    assert [learning_rate(recipe, step, 8) for step in (0, 2, 4, 6)] == pytest.approx(rates)


@pytest.mark.parametrize(("options", "steps"), [
    ({"max_epochs": 2, "limit_train_batches": 4}, 8),
    ({"max_epochs": 4, "overfit_batches": 2}, 8),
    ({"max_epochs": -1, "max_steps": 8}, 8),
    ({"max_epochs": 4, "limit_train_batches": 4, "accumulate_grad_batches": 2}, 8),
])  # fmt: skip
@pytest.mark.filterwarnings("error:training has no end")
def test_the_schedule_is_as_long_as_the_trainer_trains(data: ImageData, options: dict[str, Any], steps: int) -> None:
    module, rates = Classifier("resnet20", SMALL, {"schedule": "linear"}), Rates()
    trainer(**options, callbacks=[rates], limit_val_batches=0).fit(module, data)
    found = rates.found[:: options.get("accumulate_grad_batches", 1)]
    assert found == pytest.approx([learning_rate(module.recipe, step, steps) for step in range(steps)])


@pytest.mark.parametrize("schedule", ["milestones", "linear", "cosine", "exponential"])
def test_training_without_an_end_keeps_its_rate_and_says_so(data: ImageData, schedule: str) -> None:
    class Enough(lightning.Callback):
        def on_train_batch_end(self, loop: lightning.Trainer, *_: Any) -> None:
            loop.should_stop = loop.global_step >= 5

    recipe = {"schedule": schedule, "learning_rate": 0.02, "warmup_steps": 2}
    module, rates = Classifier("resnet20", SMALL, recipe), Rates()
    with pytest.warns(UserWarning, match="training has no end: the learning rate stays at 0.02"):
        trainer(max_epochs=-1, callbacks=[rates, Enough()], limit_val_batches=0).fit(module, data)
    assert rates.found == pytest.approx([0.01, 0.02, 0.02, 0.02, 0.02])


def test_overfitting_learns_its_batches_by_heart(data: ImageData) -> None:
    module = Classifier("resnet20", {"width": 4}, {"learning_rate": 0.05})
    loop = trainer(max_epochs=40, overfit_batches=1, limit_val_batches=0)
    torch.manual_seed(0)
    loop.fit(module, data)
    assert loop.callback_metrics["train/top1_error"] < 20


@pytest.mark.parametrize(("recipe", "options", "longest"), [
    ({"gradient_clip": 0.01}, {}, 0.01),
    ({}, {"gradient_clip_val": 0.02}, 0.02),
    ({"gradient_clip": 0.01}, {"gradient_clip_val": 0.02}, 0.02),  # who gives a Trainer a length means it
    ({}, {}, None),
])  # fmt: skip
def test_long_gradients_are_cut(
    data: ImageData, recipe: dict[str, Any], options: dict[str, Any], longest: float | None
) -> None:
    class Norms(lightning.Callback):
        def __init__(self) -> None:
            self.found: list[float] = []

        def on_before_zero_grad(self, _: Any, module: lightning.LightningModule, *__: Any) -> None:
            if gradients := [p.grad for p in module.parameters() if p.grad is not None]:
                self.found.append(float(torch.nn.utils.get_total_norm(gradients)))

    norms = Norms()
    trainer(max_steps=3, callbacks=[norms], limit_val_batches=0, **options).fit(
        Classifier("resnet20", SMALL, recipe), data
    )
    assert norms.found
    for norm in norms.found:
        assert norm > 0.1 if longest is None else norm == pytest.approx(longest, rel=1e-3)


@pytest.mark.parametrize("longest", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_of_gradients_that_makes_no_sense(longest: float) -> None:
    with pytest.raises(ValueError, match="gradient_clip must be positive, or null for none"):
        Recipe(epochs=1, gradient_clip=longest)


# -- Lightning's tools ------------------------------------------------------------------------------------------------


def test_predictions_are_the_networks_logits_in_order(data: ImageData) -> None:
    module = Classifier("resnet20", SMALL)
    loop = trainer(precision="bf16-mixed")
    logits = torch.cat(loop.predict(module, data))
    assert logits.dtype == torch.float32
    with torch.no_grad():
        expected = [module.network.eval()(images) for images, _ in data.evaluation_batches("test")]
    assert torch.equal(logits, torch.cat(expected))
    images = torch.cat([images for images, _ in data.test_dataloader()])
    (alone,) = loop.predict(module, DataLoader(images, batch_size=len(images)))
    torch.testing.assert_close(alone, logits)


def test_the_bare_network_takes_batches_of_the_evaluation_loaders(data: ImageData) -> None:
    images, labels = next(iter(data.test_dataloader()))
    network = build("resnet20", 10, 1, width=2)
    assert (images.shape, labels.shape) == ((450, 1, 16, 16), (450,))
    nn.functional.cross_entropy(network(images), labels).backward()


def test_the_rate_that_lightning_finds_is_trained_with_and_saved(data: ImageData, tmp_path: Path) -> None:
    module = Classifier("resnet20", SMALL, {"schedule": "linear"})
    loop = trainer(max_epochs=2, limit_val_batches=1, callbacks=[rates := Rates()], default_root_dir=tmp_path)
    found = Tuner(loop).lr_find(module, datamodule=data, num_training=25, early_stop_threshold=None)
    assert module.lr == module.recipe.learning_rate == found.suggestion() != recipe_for("resnet20").learning_rate
    rates.found.clear()
    loop.fit(module, data)
    assert rates.found[0] == module.lr
    loop.save_checkpoint(tmp_path / "found.ckpt")
    assert Classifier.load_from_checkpoint(tmp_path / "found.ckpt", weights_only=True).lr == module.lr


def test_lightning_finds_a_batch_size(data: ImageData, tmp_path: Path) -> None:
    loop = trainer(default_root_dir=tmp_path)
    found = Tuner(loop).scale_batch_size(
        Classifier("resnet20", SMALL), datamodule=data, init_val=100, steps_per_trial=1, max_trials=2
    )
    assert found == data.batch_size > 64
    assert len(data.train_dataloader()) == len(data.train) // data.batch_size


def test_a_checkpoint_alone_restores_the_module(data: ImageData, tmp_path: Path) -> None:
    module = Classifier("lenet5", recipe={"learning_rate": 0.01})
    loop = trainer(limit_train_batches=2)
    loop.fit(module, data)
    loop.save_checkpoint(tmp_path / "module.ckpt")
    again = Classifier.load_from_checkpoint(tmp_path / "module.ckpt", weights_only=True)
    assert again.recipe == module.recipe
    images, _ = next(iter(data.test_dataloader()))
    assert torch.equal(again.network.eval()(images), module.network.eval()(images))
    went_on = trainer(max_epochs=2, limit_train_batches=2)
    went_on.fit(Classifier("lenet5", recipe={"learning_rate": 0.01}), data, ckpt_path=tmp_path / "module.ckpt")
    assert (went_on.current_epoch, went_on.global_step) == (2, 4)


@pytest.mark.parametrize(
    "recipe", [["--model.recipe={learning_rate: 0.02}"], ["--model.recipe.learning_rate=0.02"], []]
)
def test_lightning_cli(recipe: list[str], tmp_path: Path) -> None:
    words = ["fit", "--model.network=resnet20", "--model.arguments={width: 2}", "--data.name=digits", *recipe]
    options = {**QUIET, "accelerator": "cpu", "max_steps": 1, "limit_val_batches": 0}
    words += [f"--trainer.{name}={str(value).lower()}" for name, value in options.items()]
    load = class_from_function(datamodules.load, ImageData)
    cli = LightningCLI(Classifier, load, args=words, save_config_callback=None)
    assert cli.trainer.global_step == 1
    assert cli.model.recipe == replace(recipe_for("resnet20"), learning_rate=0.02 if recipe else 0.1)
    cli.trainer.save_checkpoint(tmp_path / "cli.ckpt")
    assert Classifier.load_from_checkpoint(tmp_path / "cli.ckpt", weights_only=True).recipe == cli.model.recipe
