"""Weights & Biases beside the files: W&B runs that hold what the files hold, and never a lost run."""

import csv
import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import tiny_trial
from kept_wandb import Kept, models

from ablations.harness.store.records import Record, Records, read_csv
from ablations.harness.store.wandb_names import PROJECT, figure_key, means
from ablations.harness.tracking import lineage, tracking
from ablations.harness.tracking.summary_run import log_summary
from ablations.harness.tracking.tracking import Tracker
from ablations.harness.training.callbacks import History

FILES = {"config.json", "environment.json", "metrics.csv", "last.ckpt", "weights.safetensors", "done", "probes"}
TWO = ("preact_resnet", "plain_twin")


@pytest.fixture(autouse=True)
def _tells_again():
    """What one test was told, another is told too."""
    tracking._tell.cache_clear()


def offline_runs(out):
    return sorted((out / "wandb").glob("offline-run-*")) if (out / "wandb").exists() else []


def kept_runs(out):
    """Job type -> offline runs."""
    found = {"train": [], "probe": [], "summary": []}
    for kept in map(Kept, offline_runs(out)):
        found[kept.run["job_type"]].append(kept)
    return found


def carry(ablation, out, wandb="offline", **changes):
    return tiny_trial.carried_out(ablation, out, wandb=wandb, **changes)


@pytest.fixture
def carried_out(small_ablation, tmp_path, capsys):
    """Carries out one tiny arm and checks that its files are complete; gives what was printed and the root."""

    def run(wandb="offline", **changes):
        capsys.readouterr()
        assert carry(small_ablation(epochs=2), tmp_path, wandb, **changes) is False
        for folder in (tmp_path / "trained").iterdir():
            assert {file.name for file in folder.iterdir()} == FILES
            assert len((folder / "metrics.csv").read_text().splitlines()) == 3
        assert len(list((tmp_path / "trained").iterdir())) == len(changes.get("arms", "1"))
        return capsys.readouterr().out, tmp_path

    return run


@pytest.fixture(scope="module")
def tracked(small_ablation, tmp_path_factory):
    """The root of two arms that W&B has seen, which tests only read."""
    out = tmp_path_factory.mktemp("tracked")
    assert carry(small_ablation(epochs=2), out, arms=TWO) is False
    return out


def told(printed):
    return [line for line in printed.splitlines() if "W&B" in line]


# -- what is logged ---------------------------------------------------------------------------------------------------


def test_a_run_for_each_network_with_its_answers_and_one_for_the_ablation(smoke):
    out, _ = smoke
    trained = len(list((out / "trained").iterdir()))
    assert trained == len(list((out / "trained").glob("*/probes/delete_each-*.csv"))) == 12
    assert len(offline_runs(out)) == trained + 1
    assert all("-remove_layers-" in folder.name for folder in offline_runs(out))


def test_tracked_runs_hold_what_the_files_hold(tracked):
    out, found = tracked, kept_runs(tracked)
    assert {kind: len(runs) for kind, runs in found.items()} == {"train": 2, "probe": 0, "summary": 1}
    with_packages = [
        kind for kind, runs in found.items() for kept in runs if list(kept.folder.rglob("requirements.txt"))
    ]
    assert with_packages == ["summary"]
    (folder,) = (out / "ablations" / "remove_layers").iterdir()
    arms = {arm["name"]: arm for arm in json.loads((folder / "ablation.json").read_text())["arms"]}
    assert {kept.config["arm"] for kept in found["train"]} == set(arms) == set(TWO)
    for kept in found["train"]:
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
        assert {"digits", "smoke", "RL1", "train"} <= set(kept.run["tags"])
        assert kept.run["display_name"] == f"{config['arm']}/seed=0"
        assert (config["network"], config["recipe"]) == (own["network"], own["recipe"])
        assert kept.exit_code == 0
        _check_history(kept, trained)
        _check_answers(kept, trained)
        _check_data(kept, own["data"])
        assert not models(kept.uses) + models(kept.makes), "weights were not asked for"


def _check_history(kept, trained):
    """Every value of metrics.csv and of `done` is in W&B's history, exactly, at its step."""
    with open(trained / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    *epochs, test = [row for row in kept.history if "epoch" in row or any(name.startswith("test/") for name in row)]
    assert len(epochs) == len(rows) == 2
    for logged, row in zip(epochs, rows, strict=True):
        assert logged["trainer/global_step"] == int(row["step"])
        assert {name: logged[name] for name in row} == {name: float(value) for name, value in row.items()}
    done = json.loads((trained / "done").read_text())
    assert test["trainer/global_step"] == int(rows[-1]["step"])
    tested = {name: value for name, value in test.items() if name.startswith("test/")}
    assert tested == {name: value for name, value in done.items() if name.startswith("test/")} != {}
    errors = [float(row["val/top1_error"]) for row in rows]
    assert kept.summary["val/top1_error"] == {"min": min(errors), "last": errors[-1]}, "what W&B's table shows"
    assert kept.summary["train/loss"] == float(rows[-1]["train/loss"])


def _check_data(kept, data):
    """The run uses its data: an artifact without files, whose reference and metadata say which they are."""
    (artifact,) = kept.uses
    assert (artifact["type"], artifact["name"]) == ("dataset", "digits")
    (entry,) = artifact["manifest"]["contents"]
    assert entry["ref"].startswith("cnn-ablations://digits/")
    assert "local_path" not in entry
    metadata = json.loads(artifact["metadata"])
    assert metadata == {key: value for key, value in data.items() if key != "augment"}
    assert {"digest", "num_train", "num_val", "num_test"} <= set(metadata)


def _check_answers(kept, trained):
    """Every answer to a probe is in a table, and their means are metrics."""
    answers = Records(row for file in (trained / "probes").glob("*.csv") for row in read_csv(file))
    logged = {name: value for row in kept.history for name, value in row.items() if name in means(answers)}
    assert logged == pytest.approx(means(answers), rel=1e-12)
    for probe in {row.probe for row in answers}:
        columns, rows = kept.table(probe)
        mine = answers.where(probe=probe)
        assert [row[columns.index("value")] for row in rows] == mine.values()
        fields = [column for column in columns if column not in ("metric", "value", "unit")]
        for cells, record in zip(rows, mine, strict=True):
            assert {f: cells[columns.index(f)] for f in fields if cells[columns.index(f)]} == dict(record.fields)


def test_the_summary_run_shows_verdicts_figures_and_tables(tracked):
    (summary,) = kept_runs(tracked)["summary"]
    (folder,) = (tracked / "ablations" / "remove_layers").iterdir()
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


def test_a_network_and_its_data_are_a_lineage_over_several_commands(carried_out):
    """On request: data -> training, which makes the network -> its probe by a later command, and the summary."""
    _, out = carried_out(wandb_weights=True)
    (trained,) = (out / "trained").iterdir()
    first = kept_runs(out)
    (train,), (summary,) = first["train"], first["summary"]
    assert models(train.makes) == models(summary.uses) == [trained.name]
    assert not models(train.uses) + models(summary.makes)
    (made,) = (artifact for artifact in train.makes if artifact["type"] == "model")
    files = {entry["path"]: Path(entry["local_path"]) for entry in made["manifest"]["contents"]}
    assert files == {name: trained / name for name in ("weights.safetensors", "config.json")}
    shutil.rmtree(trained / "probes")
    carried_out(wandb_weights=True)
    (probe,) = kept_runs(out)["probe"]
    assert probe.config["train_run"] == train.run["run_id"]
    assert probe.run["run_group"] == train.run["run_group"]
    assert probe.run["display_name"] == train.run["display_name"] == "preact_resnet/seed=0"
    assert {key: probe.config[key] for key in ("arm", "seed", "run")} == {
        key: train.config[key] for key in ("arm", "seed", "run")
    }
    _check_answers(probe, trained)
    assert models(probe.uses) == [trained.name]
    for kind, named in (("model", (train.makes, probe.uses, summary.uses)), ("dataset", (train.uses, probe.uses))):
        found = [artifact["digest"] for artifacts in named for artifact in artifacts if artifact["type"] == kind]
        assert len(found) == len(named)
        assert len(set(found)) == 1, "one version, whoever names it"


def test_other_data_are_another_version(digits):
    identity = digits.identity
    one = lineage.dataset(identity)
    assert lineage.dataset({**identity, "augment": {"flip": True}}) == one, "augmentation belongs to the run"
    for changed in ({"digest": "0" * 8}, {"split_seed": 1}, {"num_train": 7}):
        other = lineage.dataset({**identity, **changed})
        assert other["name"] == one["name"]
        assert other["reference"] != one["reference"]


def test_a_repeated_command_makes_no_runs_and_a_changed_one_replaces_the_summary(carried_out, tracked, tmp_path):
    out = shutil.copytree(tracked, tmp_path, dirs_exist_ok=True)
    before = offline_runs(out)
    assert len(before) == 3
    carried_out(arms=TWO)
    assert offline_runs(out) == before
    (summary,) = kept_runs(out)["summary"]
    assert not models(summary.uses + summary.makes)  # weights were not asked for
    carried_out(arms=TWO, claims=("RL1",))
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


def test_candidates_of_a_search_are_trainings_with_a_number(small_ablation, tmp_path):
    def searched(at):
        planned = ablation.plan(at)
        arms = [replace(arm, search={"learning_rate": (0.01, 0.1)}) for arm in planned.arms]
        return replace(planned, arms=tuple(arms))

    ablation = small_ablation(epochs=1)
    assert carry(replace(ablation, plan=searched), tmp_path, search=2) is False
    found = {kept.run["display_name"]: kept for kept in kept_runs(tmp_path)["train"]}
    assert set(found) == {f"preact_resnet/{which}" for which in ("candidate=0", "candidate=1", "seed=0")}
    for number in (0, 1):
        kept = found[f"preact_resnet/candidate={number}"]
        assert (kept.config["arm"], kept.config["candidate"]) == ("preact_resnet", number)
        assert "candidate" in kept.run["tags"]
        assert any("train/loss" in row for row in kept.history)
    assert "candidate" not in found["preact_resnet/seed=0"].config


def test_a_run_that_diverges_has_ended_and_shows_its_last_losses(small_ablation, tmp_path):
    assert carry(small_ablation(epochs=1, learning_rate=1e30), tmp_path) is True
    (train,) = kept_runs(tmp_path)["train"]
    (trained,) = (tmp_path / "trained").iterdir()
    step = json.loads((trained / "diverged").read_text())["step"]
    assert train.summary["diverged/step"] == train.summary["trainer/global_step"] == step
    assert [row["trainer/global_step"] for row in train.history if "train/loss_step" in row] == list(range(1, step + 1))
    assert train.exit_code == 0


def test_a_resumed_run_is_tracked_from_its_first_epoch(small_ablation, tmp_path, monkeypatch):
    """W&B cannot go on with an offline run, so a new one shows the whole history."""
    original, calls = History.on_train_epoch_start, []

    def interrupt(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(self, *arguments)

    monkeypatch.setattr(History, "on_train_epoch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry(small_ablation(epochs=3), tmp_path)
    assert carry(small_ablation(epochs=3), tmp_path) is False
    # Their folders may carry the same second, so that names do not order them.
    found = kept_runs(tmp_path)["train"]
    assert sorted((sum("train/loss" in row for row in kept.history), kept.exit_code) for kept in found) == [
        (2, 1),
        (3, 0),
    ]


# -- what fails -------------------------------------------------------------------------------------------------------


def test_disabled_leaves_no_trace(carried_out):
    printed, out = carried_out("disabled")
    assert not (out / "wandb").exists()
    assert not told(printed)


@pytest.mark.parametrize(("where", "error", "said"), [
    ("wandb.init", ConnectionError("no route to host\nand more"), "ConnectionError: no route to host"),
    (f"{Tracker.__module__}.Tracker.__init__", AttributeError("numpy has no float_"), "AttributeError"),
], ids=["start", "make"])  # fmt: skip
def test_a_tracker_that_cannot_begin_loses_no_run(carried_out, monkeypatch, where, error, said):
    monkeypatch.setattr(where, Mock(side_effect=error))
    printed, out = carried_out("offline")
    (line,) = told(printed)
    assert said in line
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
    # Each arm logs two epochs, a test and a probe; after its failure the first is not asked again.
    assert len(calls) == call + 4
    # A W&B run that was left open would swallow the next one.
    assert len(offline_runs(out)) == 2 + 1


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
    assert len(offline_runs(out)) == 2


def test_an_artifact_that_cannot_be_noted_costs_a_line_and_no_metric(carried_out, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb.Artifact, "add_reference", Mock(side_effect=TypeError("artifacts have changed")))
    printed, out = carried_out("offline")
    assert told(printed)[0] == "  W&B has no artifact of the dataset (TypeError: artifacts have changed)"
    (train,) = kept_runs(out)["train"]
    assert sum("train/loss" in row for row in train.history) == 2


def test_without_wandb_training_goes_on(carried_out, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    printed, out = carried_out("offline")
    assert told(printed) == ["  W&B is not installed; the run is recorded in its files alone"]
    assert not (out / "wandb").exists()
