"""Options of lightning.Trainer: each is a flag or says why not; what only fails after the start is found before it."""

import inspect
import re

import pytest
from lightning import Trainer
from tqdm import tqdm

from ablations.harness.command.command_line import parse, parser_for
from ablations.harness.training import lengths
from ablations.harness.training.train import train
from ablations.harness.training.trainer_options import REFUSED, check, check_batches
from ablations.remove_layers import ABLATION


def test_every_option_of_lightning_is_a_flag_or_says_why_not():
    known = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    flags = {name for action in parser_for(ABLATION, with_trainer=True)._actions for name in action.option_strings}
    flags = {flag.removeprefix("--trainer.") for flag in flags if re.fullmatch(r"--trainer\.\w+", flag)} - {"help"}
    assert flags | set(REFUSED) == known
    assert not flags & set(REFUSED)
    assert all(REFUSED.values())


@pytest.mark.parametrize(("options", "parts"), [
    ({"limit_train_batches": 0.01}, ["limit_train_batches 0.01", "less than one of 21"]),
    ({"limit_val_batches": 0.4}, ["limit_val_batches 0.4", "less than one of 2"]),
    ({"limit_test_batches": 0.5}, ["limit_test_batches 0.5", "less than one of 1"]),
    ({"accumulate_grad_batches": 22}, ["accumulate_grad_batches 22", "21 batches"]),
    ({"accumulate_grad_batches": 6, "limit_train_batches": 5}, ["accumulate_grad_batches 6", "5 batches"]),
    ({"val_check_interval": 22}, ["val_check_interval 22", "21 batches"]),
    ({"val_check_interval": 11, "limit_train_batches": 0.5}, ["val_check_interval 11", "10 batches"]),
], ids=str)  # fmt: skip
def test_a_part_that_is_not_there_is_refused(options, parts):
    with pytest.raises(ValueError, match="batches") as told:
        check_batches(options, train=21, val=2, test=1)
    assert [part for part in parts if part not in str(told.value)] == []


def test_parts_that_are_there_are_taken():
    check_batches({}, 1, 0, 1)
    check_batches({"limit_val_batches": 0.1}, 21, 0, 1)  # there is no validation split
    check_batches({"val_check_interval": 22, "check_val_every_n_epoch": None}, 21, 2, 1)
    check_batches({"val_check_interval": 0.25, "accumulate_grad_batches": 21, "limit_train_batches": 1.0}, 21, 2, 1)


@pytest.mark.parametrize(("word", "value"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5), ("2", 2)])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_one_batch_is_not_all_of_them(split, word, value):
    name = f"limit_{split}_batches"
    found = parse(ABLATION, [f"--trainer.{name}", word]).trainer[name]
    assert (type(found), found) == (type(value), value)


def test_indices_of_devices_are_a_list():
    for words, devices in (("2", 2), ("0,2", [0, 2]), ("1,", [1]), ("[0, 1]", [0, 1]), ("-1", -1), ("auto", "auto")):
        assert parse(ABLATION, ["--trainer.devices", words]).trainer["devices"] == devices


def test_what_is_taken_trains(tiny, digits, tmp_path):
    options = {
        "accelerator": "cpu", "accumulate_grad_batches": 2, "benchmark": True, "check_val_every_n_epoch": 2,
        "detect_anomaly": True, "enable_model_summary": False, "gradient_clip_val": 0.5, "inference_mode": False,
        "gradient_clip_algorithm": "norm", "limit_train_batches": 4, "limit_val_batches": 1, "limit_test_batches": 1,
        "log_every_n_steps": 0, "profiler": "simple", "val_check_interval": 2,
    }  # fmt: skip
    check(options)
    done = train(tiny(epochs=2, trainer=options), digits, tmp_path, show_progress=False)
    assert 0 <= done["test/top1_error"] <= 100
    (folder,) = (tmp_path / "trained").iterdir()
    assert (folder / "metrics.csv").read_text().splitlines()[-1].startswith("2,4,")  # two steps an epoch


@pytest.mark.parametrize(("options", "batches"), [
    ({}, 18),
    ({"limit_train_batches": 3}, 3),
    ({"limit_train_batches": 40}, 18),
    ({"limit_train_batches": 0.3, "accumulate_grad_batches": 2}, 5),
    ({"accumulate_grad_batches": 7}, 18),
])  # fmt: skip
def test_the_length_that_is_told_is_the_length_that_is_trained(options, batches, tiny, digits, tmp_path, monkeypatch):
    bars = []
    monkeypatch.setattr("ablations.harness.training.train.tqdm", lambda **given: bars.append(tqdm(**given)) or bars[-1])
    trainer = {"accelerator": "cpu", "limit_val_batches": 0, **options}
    run = tiny("mlp", {"depth": 2, "width": 8, "image_size": 16}, trainer=trainer)
    train(run, digits, tmp_path, show_progress=False)
    trained = int((run.folder(tmp_path) / "metrics.csv").read_text().splitlines()[-1].split(",")[1])
    assert lengths.steps(run) == bars[0].total == trained
    assert lengths.batches(run) == 2 * batches
