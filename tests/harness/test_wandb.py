"""Weights & Biases beside the files: W&B runs that hold what the files hold, and never a lost run."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.harness import tracking
from ablations.harness.command_line import Options
from ablations.harness.prepare import prepare
from ablations.harness.records import Record, Records, read_csv
from ablations.harness.summary_run import log_summary
from ablations.harness.tracking import Tracker
from ablations.harness.wandb_names import PROJECT, figure_key, means

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = {"config.json", "environment.json", "metrics.csv", "last.ckpt", "weights.safetensors", "done", "probes"}
TWO = ("preact_resnet", "original_resnet")


@pytest.fixture(autouse=True)
def _tells_again():
    """What one test was told, another is told too."""
    tracking._tell.cache_clear()


def offline_runs(out):
    return sorted((out / "wandb").glob("offline-run-*")) if (out / "wandb").exists() else []


class Kept:
    """An offline run as W&B's own reader gives it: run, config, history rows, last summary, media files, artifacts."""

    def __init__(self, folder):
        command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]

        def of(kind):
            return [record[kind] for record in records if record["type"] == kind]

        self.folder, (self.run,) = folder, of("run")
        self.config = self.run["config"]["update"]
        self.history = [row["item"] for row in of("history")]
        self.summary = {name: value for part in of("summary") for name, value in part["update"].items()}
        self.artifacts = {artifact["name"] for artifact in of("artifact")}

    def table(self, name):
        """Columns and rows of a logged table."""
        content = json.loads((self.folder / "files" / self.summary[f"tables/{name}.path"]).read_text())
        return content["columns"], content["data"]


def kept_runs(out):
    """Kind -> offline runs."""
    found = {"training": [], "probe": [], "summary": []}
    for kept in map(Kept, offline_runs(out)):
        found[kept.config["kind"]].append(kept)
    return found


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


def told(printed):
    return [line for line in printed.splitlines() if "W&B" in line]


# -- what is logged ---------------------------------------------------------------------------------------------------


def test_a_run_for_each_training_and_probe_and_one_for_the_ablation(smoke):
    out, _ = smoke
    trained = len(list((out / "trained").iterdir()))
    assert trained == 10
    assert len(offline_runs(out)) == trained + len(list((out / "trained").glob("*/probes/*.csv"))) + 1 == 21
    assert all("-remove_layers-" in folder.name for folder in offline_runs(out))


def test_tracked_runs_hold_what_the_files_hold(carried_out):
    _, out = carried_out(arms=TWO)
    found = kept_runs(out)
    assert {kind: len(runs) for kind, runs in found.items()} == {"training": 2, "probe": 2, "summary": 1}
    with_packages = [
        kind for kind, runs in found.items() for kept in runs if list(kept.folder.rglob("requirements.txt"))
    ]
    assert with_packages == ["summary"]
    (folder,) = (out / "ablations" / "remove_layers").iterdir()
    arms = {arm["name"]: arm for arm in json.loads((folder / "ablation.json").read_text())["arms"]}
    assert {kept.config["arm"] for kept in found["training"]} == set(arms) == set(TWO)
    for kept in found["training"] + found["probe"]:
        config, trained = kept.config, out / "trained" / kept.config["run"]
        own = json.loads((trained / "config.json").read_text())
        environment = json.loads((trained / "environment.json").read_text())
        assert config["seed"] == own["seed"] == 0
        assert config["claims"] == ["RL1", "RL2", "RL3", "RL4"]
        assert (config["data"], config["budget"], config["ablation"]) == ("digits", "smoke", "remove_layers")
        assert config["commit"] == environment.get("commit", "")
        for cost in ("parameters", "multiply_adds"):
            assert config[cost] == arms[config["arm"]][cost] > 0
        assert (kept.run["project"], kept.run["run_group"]) == (PROJECT, "remove_layers")
        assert kept.run["job_type"] == config["arm"]
        assert {"digits", "smoke", "RL1", config["kind"]} <= set(kept.run["tags"])
        if config["kind"] == "training":
            assert kept.run["display_name"] == f"{config['arm']}/seed=0"
            assert (config["network"], config["recipe"]) == (own["network"], own["recipe"])
            _check_history(kept, trained)
        else:
            _check_answers(kept, trained)


def _check_history(kept, trained):
    """Every value of metrics.csv and of `done` is in W&B's history, exactly, at its step."""
    with open(trained / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    *epochs, test = kept.history
    assert len(epochs) == len(rows) == 2
    for logged, row in zip(epochs, rows, strict=True):
        assert logged["trainer/global_step"] == int(row["step"])
        assert {name: logged[name] for name in row} == {name: float(value) for name, value in row.items()}
    done = json.loads((trained / "done").read_text())
    assert test["trainer/global_step"] == int(rows[-1]["step"])
    tested = {name: value for name, value in test.items() if name.startswith("test/")}
    assert tested == {name: value for name, value in done.items() if name.startswith("test/")} != {}


def _check_answers(kept, trained):
    """Every answer of the probe is in a table, and their means are metrics."""
    (file,) = (trained / "probes").glob("*.csv")
    answers = read_csv(file)
    logged = {name: value for row in kept.history for name, value in row.items() if name in means(answers)}
    assert logged == pytest.approx(means(answers), rel=1e-12)
    for probe in {row.probe for row in answers}:
        columns, rows = kept.table(probe)
        mine = answers.where(probe=probe)
        assert [row[columns.index("value")] for row in rows] == mine.values()
        fields = [column for column in columns if column not in ("metric", "value", "unit")]
        for cells, record in zip(rows, mine, strict=True):
            assert {f: cells[columns.index(f)] for f in fields if cells[columns.index(f)]} == dict(record.fields)


def test_the_summary_run_shows_verdicts_figures_and_tables(carried_out):
    _, out = carried_out(wandb_weights=True)
    (summary,) = kept_runs(out)["summary"]
    (folder,) = (out / "ablations" / "remove_layers").iterdir()
    verdicts = json.loads((folder / "verdicts.json").read_text())
    columns, rows = summary.table("verdicts")
    for cells, verdict in zip(rows, verdicts, strict=True):
        found = dict(zip(columns, cells, strict=True))
        assert [found["low"], found["high"]] == verdict["interval"]
        assert {key: verdict[key] for key in found if key not in ("low", "high")}.items() <= found.items()
        assert summary.summary[f"verdict/{verdict['claim']}"] == verdict["verdict"] == "undecided"
    figures = json.loads((folder / "ablation.json").read_text())["figures"]
    pictures = [figure for figure in figures if figure["file"].endswith(".png")]
    assert len(pictures) >= 4
    for figure in pictures:
        content = (folder / figure["file"]).read_bytes()
        assert summary.summary[f"{figure_key(figure['file'])}.sha256"] == hashlib.sha256(content).hexdigest()
    assert {figure_key(figure["file"]) for figure in figures} <= {name.partition(".")[0] for name in summary.summary}
    (trained,) = (out / "trained").iterdir()
    assert trained.name in summary.artifacts  # the weights, because they were asked for


def test_a_repeated_command_makes_no_runs_and_a_changed_one_replaces_the_summary(carried_out):
    _, out = carried_out()
    before = offline_runs(out)
    assert len(before) == 3
    carried_out()
    assert offline_runs(out) == before
    (summary,) = kept_runs(out)["summary"]
    assert not any(out.name in name or "digits-s" in name for name in summary.artifacts)  # weights were not asked for
    carried_out(claims=("RL1",))
    (new,) = set(offline_runs(out)) - set(before)
    assert Kept(new).run["run_id"] == summary.run["run_id"]
    assert len(Kept(new).table("verdicts")[1]) == 1


def test_a_folder_that_cannot_be_read_is_told_and_loses_nothing(tmp_path, capsys):
    (tmp_path / "ablation.json").write_text("{")
    assert log_summary(tmp_path, tmp_path, "offline") is False
    assert "W&B has no summary" in capsys.readouterr().out


def test_means_leave_out_what_is_not_finite():
    values = (("p x=1", 1.0), ("p x=2", float("nan")), ("p x=3", 2.0), ("q", float("inf")))
    rows = [Record("a", "b", 0, where, "loss", value, "", "r") for where, value in values]
    assert means(Records(rows)) == {"p/loss": 1.5}
    with pytest.raises(ValueError, match="notes"):
        figure_key("figures/notes.txt")


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
    # Their folders may carry the same second, so that names do not order them.
    epochs = [sum("train/loss" in row for row in kept.history) for kept in kept_runs(tmp_path)["training"]]
    assert sorted(epochs) == [2, 3]


# -- what fails -------------------------------------------------------------------------------------------------------


def test_disabled_leaves_no_trace(carried_out):
    printed, out = carried_out("disabled")
    assert not (out / "wandb").exists()
    assert not told(printed)


def test_a_tracker_that_cannot_start_loses_no_run(carried_out, monkeypatch):
    def fail(**_):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("wandb.init", fail)
    printed, out = carried_out("offline")
    (line,) = told(printed)
    assert "ConnectionError: no route to host" in line
    assert "and more" not in printed
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
    printed, out = carried_out("offline", arms=TWO)
    assert len(told(printed)) == 1
    # Each arm logs two epochs, a test and a probe; after its failure the first training is not asked again.
    assert len(calls) == call + 1 + 4
    # A W&B run that was left open would swallow the next one.
    assert len(offline_runs(out)) == 2 + 2 + 1


def test_a_tracker_that_cannot_end_loses_no_run(carried_out, monkeypatch):
    import wandb

    original = wandb.Run.finish

    def fail(self, *arguments):
        original(self, *arguments)
        raise TimeoutError("the last values are on their way")

    monkeypatch.setattr(wandb.Run, "finish", fail)
    printed, out = carried_out("offline")
    (line,) = told(printed)
    assert "TimeoutError: the last values are on their way" in line
    assert len(offline_runs(out)) == 3


def test_without_wandb_training_goes_on(carried_out, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    printed, out = carried_out("offline")
    assert told(printed) == ["  W&B is not installed; the run is recorded in its files alone"]
    assert not (out / "wandb").exists()


def test_a_tracker_that_cannot_be_made_loses_no_run(carried_out, monkeypatch):
    def fail(self, *_, **__):
        raise AttributeError("numpy has no float_")

    monkeypatch.setattr(Tracker, "__init__", fail)
    printed, _ = carried_out("offline")
    assert len(told(printed)) == 1
