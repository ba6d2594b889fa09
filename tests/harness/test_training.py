"""One run: its files, its end, a resume that is exact to the last bit, and a loss that is no number."""

import copy
import csv
import json
import math
import os
from dataclasses import replace
from unittest.mock import Mock

import lightning
import pytest
import torch
from safetensors.torch import load_file

from ablations.harness.store.runs import outcome
from ablations.harness.training.callbacks import Diverged, DrawsByStep
from ablations.harness.training.lengths import epochs_between_validations
from ablations.harness.training.train import train
from modules import build
from modules.training.classifier import Classifier
from modules.weights import load_weights

FILES = {"config.json", "environment.json", "metrics.csv", "last.ckpt", "weights.safetensors", "done"}
DROPOUT = {"width": 4, "hidden": 16, "num_pools": 3, "dropout": 0.5}
STOCHASTIC = {"depth": 8, "width": 4, "survival_prob": 0.5}


def table(folder):
    with open(folder / "metrics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def weights(folder):
    return load_file(folder / "weights.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def quietly(run, data, out, **changes):
    return train(run, data, out, show_progress=False, **changes)


@torch.no_grad()
def evaluated(run, data, file):
    """Loss and top-1 and top-5 error of saved weights, by a plain loop in fp32."""
    network = build(run.network, 10, 1, **run.arguments).to(memory_format=torch.channels_last)
    load_weights(network, file)
    network.eval()
    loss, wrong, wrong5 = 0.0, 0, 0
    for images, labels in data.evaluation_batches("test"):
        logits = network(images)
        loss += torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum").item()
        wrong += int((logits.argmax(1) != labels).sum())
        wrong5 += len(labels) - int((logits.topk(5).indices == labels[:, None]).sum())
    count = len(data.test)
    return loss / count, 100 * wrong / count, 100 * wrong5 / count


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Uninterrupted runs, trained once however many tests compare with them."""
    kept = {}

    def get(run, data):
        if run.name not in kept:
            out = tmp_path_factory.mktemp("finished")
            kept[run.name] = (run.folder(out), quietly(run, data, out))
        return kept[run.name]

    return get


def test_a_finished_run_leaves_its_files(tiny, digits, finished):
    run = tiny(epochs=3)
    folder, done = finished(run, digits)
    assert {file.name for file in folder.iterdir()} == FILES
    assert json.loads((folder / "done").read_text()) == done
    assert json.loads((folder / "config.json").read_text()) == {
        **json.loads(json.dumps(run.identity())),
        "name": run.name,
    }
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["torch"], environment["processes"], environment["batch_per_process"]) == (
        torch.__version__, 1, 64,
    )  # fmt: skip
    assert outcome(folder) == {"state": "done", **done}


def test_the_table_has_one_row_per_epoch(tiny, digits, finished):
    folder, done = finished(tiny(epochs=3), digits)
    rows = table(folder)
    steps = len(digits.train) // 64
    assert [(row["epoch"], row["step"]) for row in rows] == [(str(e), str(e * steps)) for e in (1, 2, 3)]
    for name in ("train/loss", "train/top1_error", "val/loss", "val/top1_error", "val/top5_error", "learning_rate"):
        assert all(math.isfinite(float(row[name])) for row in rows), name
    assert not [name for name in rows[0] if name.startswith("test")], "the test set is read once, at the end"
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"]), "it learns"
    assert done["epochs"] == 3
    assert done["resumed_from_epoch"] == 0


@pytest.mark.parametrize(("num_train", "num_val", "epochs", "every"), [
    (45_000, 5_000, 200, 1), (1_211, 136, 18, 1), (2_000, 800, 10, 1), (2_000, 5_000, 99, 9), (2_000, 5_000, 50, 10),
    (2_000, 5_000, 97, 6), (100, 5_000, 4, 4), (100, 0, 4, 1),
])  # fmt: skip
def test_validation_takes_a_small_part_of_the_time(tiny, num_train, num_val, epochs, every):
    run = tiny(epochs=epochs)
    sizes = {**run.data, "num_train": num_train, "num_val": num_val}
    assert epochs_between_validations(replace(run, data=sizes)) == every
    asked = replace(run, data=sizes, trainer={"val_check_interval": 0.5})
    assert epochs_between_validations(asked) == 1, "a user's own word stands"


def test_fewer_validations_change_no_weight(tiny, digits, finished, tmp_path, monkeypatch):
    run = tiny(epochs=4)
    every_epoch, _ = finished(run, digits)
    monkeypatch.setattr("ablations.harness.training.train.epochs_between_validations", lambda _: 2)
    quietly(run, digits, tmp_path)
    assert same(weights(run.folder(tmp_path)), weights(every_epoch))
    assert [bool(row["val/loss"]) for row in table(run.folder(tmp_path))] == [False, True, False, True]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("arguments", [None, STOCHASTIC])
def test_the_test_error_is_that_of_the_saved_weights(tiny, digits, finished, precision, arguments):
    """Exact counts also after training in bf16, because evaluation is in fp32."""
    run = tiny(epochs=3, precision=precision, arguments=arguments)
    folder, done = finished(run, digits)
    loss, top1, top5 = evaluated(run, digits, folder / "weights.safetensors")
    assert (done["test/top1_error"], done["test/top5_error"]) == (top1, top5)
    assert done["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert weights(folder)["head.fc.weight"].dtype == torch.float32


def test_bf16_training_is_another_run(tiny, digits, finished):
    one, other = (finished(tiny(epochs=3, precision=p), digits)[0] for p in ("32-true", "bf16-mixed"))
    assert not same(weights(one), weights(other))


def test_the_callers_random_numbers_and_data_do_not_matter(tiny, digits, finished, tmp_path):
    run = tiny(epochs=2, arguments=STOCHASTIC)
    folder, done = finished(run, digits)
    torch.manual_seed(12345)
    torch.rand(77)
    other = copy.copy(digits)
    other.seed, other.batch_size = 99, 8  # of another run, as the same data serves all of them
    again = quietly(run, other, tmp_path)
    assert same(weights(run.folder(tmp_path)), weights(folder))
    assert again["test/loss"] == done["test/loss"]
    assert (other.seed, other.batch_size) == (99, 8), "a run does not write to the data it is given"


def test_seeds_differ(tiny, digits, finished):
    one, other = (finished(tiny(seed=seed), digits)[0] for seed in (0, 1))
    assert not same(weights(one), weights(other))


# --- interruption ---


class Interrupt(Exception):
    """Stands for a kill at a moment that a test chooses."""


def stop_at(patch, number, before, file="last.ckpt"):
    """Raises Interrupt at replacement `number` of a file, before or after it happens."""
    original, calls = os.replace, []

    def stopping(*arguments, **keywords):
        if not any(str(argument).endswith(f"/{file}") for argument in arguments):
            return original(*arguments, **keywords)
        calls.append(1)
        if before and len(calls) == number:
            raise Interrupt
        result = original(*arguments, **keywords)
        if len(calls) == number:
            raise Interrupt
        return result

    patch.setattr(os, "replace", stopping)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [("resnet_cifar", None), ("resnet_cifar", STOCHASTIC), ("vgg_cifar", DROPOUT)],
    ids=["plain", "stochastic depth", "dropout"],
)
def test_a_resumed_run_has_the_same_weights_to_the_last_bit(
    tiny, digits, finished, tmp_path, monkeypatch, network, arguments
):
    run = tiny(network, arguments, epochs=4)
    folder, done = finished(run, digits)
    out = tmp_path
    for after in (2, 1):  # epochs: twice interrupted
        with monkeypatch.context() as patch:
            stop_at(patch, after, before=False)
            with pytest.raises(Interrupt):
                quietly(run, digits, out)
        torch.rand(5)
    assert outcome(run.folder(out)) is None
    again = quietly(run, digits, out)
    assert again["resumed_from_epoch"] == 3
    assert same(weights(run.folder(out)), weights(folder))
    measured = {"seconds", "wall_seconds", "images_per_second", "resumed_from_epoch", "files", "digest"}
    assert {k: v for k, v in again.items() if k not in measured} == {k: v for k, v in done.items() if k not in measured}
    ours, theirs = table(run.folder(out)), table(folder)
    assert [{k: v for k, v in row.items() if k not in measured} for row in ours] == [
        {k: v for k, v in row.items() if k not in measured} for row in theirs
    ]


@pytest.mark.parametrize(("file", "number", "before"), [
    ("last.ckpt", 2, True),  # the second checkpoint is written, but not yet in its place
    ("last.ckpt", 2, False),  # it is in its place, but the table is one epoch behind
    ("metrics.csv", 2, False),  # everything is trained, nothing tested
    ("weights.safetensors", 1, True),  # everything is tested
    ("done", 1, True),  # only `done` is missing
])  # fmt: skip
def test_an_end_between_two_files_costs_nothing(tiny, digits, finished, tmp_path, monkeypatch, file, number, before):
    run = tiny(epochs=2)
    folder, done = finished(run, digits)
    with monkeypatch.context() as patch:
        stop_at(patch, number, before, file)
        with pytest.raises(Interrupt):
            quietly(run, digits, tmp_path)
    assert outcome(run.folder(tmp_path)) is None
    again = quietly(run, digits, tmp_path)
    assert same(weights(run.folder(tmp_path)), weights(folder))
    assert again["test/loss"] == done["test/loss"]
    assert [row["epoch"] for row in table(run.folder(tmp_path))] == ["1", "2"]
    assert {file.name for file in run.folder(tmp_path).iterdir()} == FILES


def test_a_checkpoint_cut_off_while_written_is_not_used(tiny, digits, finished, tmp_path, monkeypatch):
    run = tiny(epochs=2)
    folder, _ = finished(run, digits)

    def half(self, path, *_):
        path.write_bytes(b"PK half a checkpoint")
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "save_checkpoint", half)
        with pytest.raises(Interrupt):
            quietly(run, digits, tmp_path)
    assert not (run.folder(tmp_path) / "last.ckpt").exists()
    quietly(run, digits, tmp_path)
    assert same(weights(run.folder(tmp_path)), weights(folder))
    assert {file.name for file in run.folder(tmp_path).iterdir()} == FILES


def test_ctrl_c_in_training_and_in_testing_is_no_error(tiny, digits, finished, tmp_path, monkeypatch):
    import signal

    run = tiny(epochs=2)
    folder, _ = finished(run, digits)
    for hook in ("on_train_epoch_start", "on_test_epoch_start"):
        with monkeypatch.context() as patch:
            patch.setattr(Classifier, hook, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                quietly(run, digits, tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the next Ctrl-C works too"
        assert outcome(run.folder(tmp_path)) is None
    quietly(run, digits, tmp_path)
    assert same(weights(run.folder(tmp_path)), weights(folder))


# --- divergence ---


def poison(patch, step, value=math.nan):
    """Makes the loss of one training step (from 1) a value that is no number."""
    original, calls = Classifier.training_step, []

    def poisoned(self, *arguments):
        calls.append(1)
        loss = original(self, *arguments)
        return loss * value if len(calls) == step else loss

    patch.setattr(Classifier, "training_step", poisoned)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(tiny, digits, tmp_path, monkeypatch, value):
    run = tiny(epochs=4)
    steps = len(digits.train) // 64
    poison(monkeypatch, 2 * steps + 3, value)
    with pytest.raises(Diverged) as caught:
        quietly(run, digits, tmp_path)
    folder = run.folder(tmp_path)
    assert (caught.value.step, caught.value.epoch) == (2 * steps + 3, 2)
    said = json.loads((folder / "diverged").read_text())
    assert (said["step"], said["epoch"]) == (2 * steps + 3, 3)
    assert str(2 * steps + 3) in said["why"]
    assert outcome(folder)["state"] == "diverged"
    assert not (folder / "done").exists()
    assert not (folder / "weights.safetensors").exists()
    assert [row["epoch"] for row in table(folder)] == ["1", "2"]
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * steps
    network = build("resnet_cifar", 10, 1, **run.arguments)
    load_weights(network, folder / "last.ckpt")
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_an_absurd_learning_rate_diverges(tiny, digits, tmp_path):
    run = tiny("vgg_cifar", {**DROPOUT, "dropout": 0.0}, learning_rate=1e30)
    with pytest.raises(Diverged) as caught:
        quietly(run, digits, tmp_path)
    assert 1 < caught.value.step < 10
    assert not (run.folder(tmp_path) / "last.ckpt").exists(), "no epoch was good"


def test_weights_ruined_by_the_last_step_are_not_kept(tiny, digits, tmp_path, monkeypatch):
    """The loss is computed before the step, so the last step of an epoch can break the weights unseen."""
    run = tiny(epochs=3)
    steps = len(digits.train) // 64
    original = DrawsByStep.on_train_batch_start

    def ruin(self, trainer, *arguments):
        if trainer.global_step == 2 * steps - 1:
            trainer.optimizers[0].param_groups[0]["lr"] = math.inf
        original(self, trainer, *arguments)

    monkeypatch.setattr(DrawsByStep, "on_train_batch_start", ruin)
    with pytest.raises(Diverged) as caught:
        quietly(run, digits, tmp_path)
    assert (caught.value.step, caught.value.epoch) == (2 * steps, 1)
    checkpoint = torch.load(run.folder(tmp_path) / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == steps


def test_a_test_loss_that_is_no_number_is_divergence(tiny, digits, tmp_path, monkeypatch):
    def blank(self, split, loss, *arguments):
        original(self, split, loss * math.inf if split == "test" else loss, *arguments)

    original = Classifier._update
    monkeypatch.setattr(Classifier, "_update", blank)
    run = tiny(epochs=1)
    with pytest.raises(Diverged):
        quietly(run, digits, tmp_path)
    assert outcome(run.folder(tmp_path))["state"] == "diverged"
