"""Weights & Biases beside the files: one W&B run per trained run, with what its files say, and never a lost run."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.harness.command_line import Options
from ablations.harness.tracking import PROJECT, Tracker
from ablations.harness.trial import prepare

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = {"config.json", "environment.json", "metrics.csv", "last.ckpt", "weights.safetensors", "done", "probes"}


def offline_runs(out):
    return sorted((out / "wandb").glob("offline-run-*")) if (out / "wandb").exists() else []


def inspect(folder, *words):
    """What W&B's own reader says about an offline run."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", *words, "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(done.stdout)] if words else [json.loads(line) for line in done.stdout.splitlines()]


def value_of(entry):
    """Configs are stored as {"value": ...} or plainly, as the version likes."""
    return entry["value"] if isinstance(entry, dict) and set(entry) <= {"value", "desc"} else entry


def test_one_tracked_run_per_trained_run(smoke):
    out, _ = smoke
    assert len(offline_runs(out)) == len(list((out / "trained").iterdir())) == 10


@pytest.mark.parametrize("number", [0, -1])
def test_a_tracked_run_says_what_its_files_say(smoke, number):
    out, _ = smoke
    folder = offline_runs(out)[number]
    (summary,) = inspect(folder, "--summary")
    config = {name: value_of(entry) for name, entry in summary["config"].items()}
    trained = out / "trained" / config["run"]
    own = json.loads((trained / "config.json").read_text())
    assert config["seed"] == own["seed"] == (0 if number == 0 else 1)
    assert config["arm"] == ("preact_resnet" if number == 0 else "vgg_bn")
    assert config["claims"] == ["RL1", "RL2", "RL3", "RL4"]
    assert config["network"] == own["network"]
    assert config["recipe"] == own["recipe"]
    text = json.dumps(inspect(folder))
    for word in (PROJECT, "remove_layers", f"{config['arm']}/seed={config['seed']}", "digits", "smoke", "RL1"):
        assert word in text, word
    records = [record for record in inspect(folder) if "run" in str(record.get("type", ""))]
    assert any(config["arm"] in json.dumps(record) and "remove_layers" in json.dumps(record) for record in records)
    metrics = {name: value_of(entry) for name, entry in (summary.get("summary") or summary["metrics"]).items()}
    with open(trained / "metrics.csv", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]
    for name, value in last.items():
        assert metrics[name] == pytest.approx(float(value), rel=1e-12), name
    done = json.loads((trained / "done").read_text())
    assert metrics["test/top1_error"] == done["test/top1_error"]
    assert metrics["trainer/global_step"] == int(last["step"])


@pytest.fixture
def carried_out(small_ablation, tmp_path, capsys):
    """Carries out one tiny arm and checks that its files are complete; gives what was printed and the root."""

    def run(wandb="offline", **changes):
        given = {"budget": "smoke", "data": "digits", "data_root": tmp_path, "out": tmp_path, "wandb": wandb}
        options = Options(**{**given, "arms": ("preact_resnet",), **changes})
        capsys.readouterr()
        assert prepare(small_ablation(epochs=2), options).carry_out() is False
        for folder in (tmp_path / "trained").iterdir():
            assert {file.name for file in folder.iterdir()} == FILES
            assert len((folder / "metrics.csv").read_text().splitlines()) == 3
        assert len(list((tmp_path / "trained").iterdir())) == len(options.arms)
        return capsys.readouterr().out, tmp_path

    return run


def test_disabled_leaves_no_trace(carried_out):
    told, out = carried_out("disabled")
    assert not (out / "wandb").exists()
    assert "W&B" not in told


def test_a_tracker_that_cannot_start_loses_no_run(carried_out, monkeypatch):
    def fail(**_):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("wandb.init", fail)
    told, out = carried_out("offline")
    lines = [line for line in told.splitlines() if "W&B" in line]
    assert len(lines) == 1
    assert "ConnectionError: no route to host" in lines[0]
    assert "and more" not in told
    assert not offline_runs(out)


@pytest.mark.parametrize("call", [1, 2])
def test_a_tracker_that_stops_in_the_middle_loses_no_run(carried_out, monkeypatch, call):
    original, calls = Tracker.__mro__[1].log_metrics, []

    def fail(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("the service died")
        original(self, *arguments, **keywords)

    monkeypatch.setattr(Tracker.__mro__[1], "log_metrics", fail)
    told, out = carried_out("offline", arms=("preact_resnet", "original_resnet"))
    assert len([line for line in told.splitlines() if "W&B" in line]) == 1
    # Each arm logs two epochs and a test; after its failure the first is not asked again.
    assert len(calls) == call + 3
    # A W&B run that was left open would swallow the next one.
    assert len(offline_runs(out)) == call


def test_without_wandb_training_goes_on(carried_out, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    told, out = carried_out("offline")
    assert [line for line in told.splitlines() if "W&B" in line] == [
        "  W&B is not installed; the run is recorded in its files alone"
    ]
    assert not (out / "wandb").exists()


def test_a_tracker_that_cannot_be_made_loses_no_run(carried_out, monkeypatch):
    def fail(self, *_, **__):
        raise AttributeError("numpy has no float_")

    monkeypatch.setattr(Tracker, "__init__", fail)
    told, _ = carried_out("offline")
    assert len([line for line in told.splitlines() if "W&B" in line]) == 1


def test_a_resumed_run_is_tracked_from_its_first_epoch(small_ablation, tmp_path, monkeypatch):
    """W&B cannot go on with an offline run, so a new one shows the whole history."""
    from ablations.harness import training

    options = Options("smoke", "digits", tmp_path, tmp_path, arms=("preact_resnet",))
    original, calls = training.History.on_train_epoch_start, []

    def interrupt(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(self, *arguments)

    monkeypatch.setattr(training.History, "on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(small_ablation(epochs=3), options).carry_out()
    assert prepare(small_ablation(epochs=3), options).carry_out() is False
    epochs = []  # of each W&B run; their folders may carry the same second, so that names do not order them
    for run in offline_runs(tmp_path):
        rows = [r for r in inspect(run) if "history" in str(r.get("type", "")) and "train/loss" in str(r)]
        epochs.append(len(rows))
    assert sorted(epochs) == [2, 3]
