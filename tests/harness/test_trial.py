"""A whole trial in this process: nothing is done twice, and a run that diverges stops no other."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar
from unittest.mock import Mock

import torch
from test_training import FILES, poison
from tiny_trial import RECIPE, TINY, Norm, carried_out, command, plan
from written_files import write_folder

from ablations.harness.command.command_line import Options
from ablations.harness.declare.probe import Measurement
from ablations.harness.declare.scale import View
from ablations.harness.execution.job import source
from ablations.harness.explain import explanation
from ablations.harness.prepare import prepare
from ablations.harness.training.train import train

TWO = {"arms": ("preact_resnet", "plain_twin")}


def trained(out):
    return sorted((out / "trained").iterdir())


def test_a_second_trial_repeats_nothing(small_ablation, tmp_path, monkeypatch, capsys):
    ablation = small_ablation()
    assert carried_out(ablation, tmp_path, **TWO) is False
    times = {f: f.stat().st_mtime_ns for folder in trained(tmp_path) for f in folder.rglob("*") if f.is_file()}
    assert len(trained(tmp_path)) == 2
    asked = {"chance", "delete_each", "lesions_at_random"}  # the last of one arm alone
    assert len(times) == 2 * len(FILES) + 2 * (2 + 3), "with answers to each probe and what is noted of them"
    assert {f.name.partition("-")[0] for f in times if f.parent.name == "probes"} == asked
    capsys.readouterr()
    with monkeypatch.context() as patch:
        for name in ("harness.execution.perform.train", "probes.lesions.lesions.error_rates"):
            patch.setattr(f"ablations.{name}", Mock(side_effect=AssertionError("trained or asked again")))
        assert carried_out(ablation, tmp_path, **TWO) is False
    out = capsys.readouterr().out
    assert out.count("already trained, already probed") == 2
    found = {f: f.stat().st_mtime_ns for folder in trained(tmp_path) for f in folder.rglob("*") if f.is_file()}
    assert found == times
    assert carried_out(ablation, tmp_path, **TWO, fresh=True) is False
    again = {f: f.stat().st_mtime_ns for folder in trained(tmp_path) for f in folder.rglob("*") if f.is_file()}
    assert again.keys() == times.keys()
    assert all(again[file] > times[file] for file in times), "--fresh trains and asks again"


def test_a_diverged_run_is_told_and_the_others_go_on(small_ablation, tmp_path, monkeypatch, capsys):
    ablation = small_ablation(epochs=2)
    with monkeypatch.context() as patch:
        poison(patch, 25)  # in the second epoch of the first arm
        assert carried_out(ablation, tmp_path, **TWO) is True, "a run failed"
    told = capsys.readouterr()
    states = {row["arm"]: row["state"] for row in summary(tmp_path)["runs"]}
    assert states == {"preact_resnet": "diverged", "plain_twin": "done"}
    assert told.err.count("failed:") == 1
    assert "preact_resnet seed 0" in told.err
    assert "step 25" in told.err
    assert "--fresh" in told.err
    verdicts = json.loads((folder_of(tmp_path) / "verdicts.json").read_text())
    assert {verdict["verdict"] for verdict in verdicts} == {"undecided"}
    assert ",nan," in (folder_of(tmp_path) / "records.csv").read_text()
    assert (folder_of(tmp_path) / "report.html").exists()
    # It stays diverged: the same command would compute the same.
    with monkeypatch.context() as patch:
        patch.setattr("ablations.harness.execution.perform.train", None)
        assert carried_out(ablation, tmp_path, **TWO) is True
    capsys.readouterr()
    assert carried_out(ablation, tmp_path, **TWO, fresh=True) is False
    assert {row["state"] for row in summary(tmp_path)["runs"]} == {"done"}


def two_arms(at):
    planned = plan(at)
    return replace(
        planned, arms=[*planned.arms, replace(planned.arms[0], name="again", recipe={**RECIPE, "epochs": 1})]
    )


PAIR = replace(TINY, plan=two_arms)


def test_data_with_a_test_split_of_their_own_are_loaded_once_for_all_seeds(tmp_path):
    root = write_folder(tmp_path / "few", sizes=[(16, 16)] * 4)
    options = Options("smoke", "folder", root, tmp_path / "runs", seeds=3)
    trial = prepare(PAIR, options)
    assert {id(job.data) for job in trial.jobs} == {id(trial.data)}
    assert "The 8 test images are the same for every seed: the intervals understate the spread." in trial.remarks
    part = prepare(PAIR, replace(options, train_images=4))
    assert [job.load["split_seed"] for job in part.jobs] == [0, 0, 1, 1, 2, 2]
    one = prepare(PAIR, replace(options, seeds=1))
    assert not [remark for remark in one.remarks if "for every seed" in remark]


def test_each_seed_trains_on_images_of_its_own_of_which_files_tell(tmp_path, monkeypatch):
    """Seeds of one arm differ in their images, arms of one seed do not."""
    seen = {}

    def remember(run, data, *_, **__):
        assert data.identity == run.data, "foretold without loading them"
        seen.setdefault(run.seed, []).append(data)
        return train(run, data, *_, **__)

    monkeypatch.setattr("ablations.harness.execution.perform.train", remember)
    words = ["--train-images", "40", "--image-size", "12", "--seeds", "2", "--workers", "1"]
    code, told, _ = command(tmp_path, *words, ablation=PAIR)
    assert code == 0
    assert "for every seed" not in told, "each has test images of its own"
    assert "Data: 12 px, 40 of 1,211 training images." in told
    (first, again), (second, _) = seen[0], seen[1]
    assert first is again
    for split, number in (("train", 40), ("val", 136), ("test", 450)):
        one, other = (getattr(data, split).images for data in (first, second))
        assert one.shape == other.shape == (number, 12, 12, 1)
        assert not torch.equal(one, other)
    assert source.cache_info().currsize == 1, "the data of one seed are held"
    (folder,) = (tmp_path / "ablations" / "tiny").iterdir()
    assert folder.name == "smoke-digits-12px-40-images"
    found = json.loads((folder / "ablation.json").read_text())
    assert found["data"] == "digits"
    assert "Data: 12 px, 40 of 1,211 training images." in found["not_done"]
    for file in (tmp_path / "trained").glob("*/config.json"):
        data = json.loads(file.read_text())["data"]
        assert (data["train_images"], data["num_train"], data["num_test"]) == (40, 40, 450)
        assert data["drawn_by"] == json.loads(file.read_text())["seed"]


def test_a_budget_takes_less_of_data_that_have_more_unless_the_command_says_otherwise(tmp_path):
    ablation = replace(TINY, views={"smoke": View(12, 60), "hour": View(20, 5_000)})

    def prepared(budget="smoke", **options):
        trial = prepare(ablation, Options(budget, "digits", tmp_path, tmp_path / "runs", **options))
        assert {(job.data.image_size, len(job.data.train)) for job in trial.jobs} <= {shape(trial)}
        return trial, [remark for remark in trial.remarks if "training images." in remark or "Data:" in remark]

    def shape(trial):
        return trial.data.image_size, len(trial.data.train)

    trial, told = prepared()
    assert (shape(trial), told) == ((12, 60), ["Data: 12 px, 60 of 1,211 training images."])
    assert trial.folder.name == "smoke-digits"
    trial, told = prepared(image_size=14, train_images=70)
    assert (shape(trial), told) == ((14, 70), ["Data: 14 px, 70 of 1,211 training images."])
    assert trial.folder.name == "smoke-digits-14px-70-images"
    trial, told = prepared(train_images=1_211)
    assert shape(trial) == (12, 1_211)
    assert trial.folder.name == "smoke-digits-1211-images"
    for given in ({"budget": "hour"}, {"budget": "short"}, {"network": "lenet5", "weights": "random"}):
        trial, told = prepared(**given)
        assert (shape(trial), told) == ((16, 1_211), []), "digits have no more, another budget says nothing of it"
    text = explanation(ablation, "cifar10")
    assert "data: 12 px, 60 of 45,000 training images" in text
    assert "data: 20 px, 5,000 of 45,000 training images" in text
    assert "data: 12 px, 7 of 1,211 training images" in explanation(ablation, "digits", train_images=7)
    assert "data: 20" not in explanation(ablation, "digits")


@dataclass(frozen=True, kw_only=True)
class Shown(Norm):
    """Tells of the first seed what it tells of no other."""

    units: ClassVar = {"shown": ""}
    shows_first: ClassVar = True

    def ask(self, subject):
        if subject.is_first:
            yield Measurement("picture", "shown", subject.seed)


def test_seeds_are_counted_from_the_first_one(tmp_path):
    shows = replace(TINY, plan=lambda at: replace(plan(at), probes=[Norm(), Shown()]))
    words = ["--arms", "relu", "--claims", "T1"]
    shown = {}
    for first, number in ((100, 2), (101, 1)):
        code, told, _ = command(
            tmp_path, *words, "--first-seed", str(first), "--seeds", str(number), "--dry-run", ablation=shows
        )
        assert f"{number} seed{'s' * (number > 1)} from {first}" in told
        code, told, _ = command(tmp_path, *words, "--first-seed", str(first), "--seeds", str(number), ablation=shows)
        assert code == 0
        folder = tmp_path / "ablations" / "tiny" / "smoke-digits"
        found = json.loads((folder / "ablation.json").read_text())
        assert found["seeds"] == [run["seed"] for run in found["runs"]] == [*range(first, first + number)]
        (verdict,) = json.loads((folder / "verdicts.json").read_text())
        assert verdict["seeds"] == number, "they are those that are judged"
        shown[first] = [row for row in (folder / "records.csv").read_text().splitlines() if ",picture," in row]
    assert "already trained" in told, "101 was the second before"
    assert [len(rows) for rows in shown.values()] == [1, 1]
    assert ",100.0," in shown[100][0]
    assert ",101.0," in shown[101][0], "asked again, now that it is the first"


def folder_of(out):
    return out / "ablations" / "remove_layers" / "smoke-digits"


def summary(out):
    return json.loads((folder_of(out) / "ablation.json").read_text())
