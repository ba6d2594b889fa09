"""A whole trial in this process: nothing is done twice, and a run that diverges stops no other."""

import json

from test_training import FILES, poison
from tiny_trial import carried_out

TWO = {"arms": ("preact_resnet", "original_resnet")}


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

    def refuse(*_, **__):
        raise AssertionError("trained or asked again")

    with monkeypatch.context() as patch:
        patch.setattr("ablations.harness.execution.perform.train", refuse)
        patch.setattr("ablations.probes.lesions.lesions.error_rates", refuse)
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
    assert states == {"preact_resnet": "diverged", "original_resnet": "done"}
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


def folder_of(out):
    return out / "ablations" / "remove_layers" / "smoke-digits"


def summary(out):
    return json.loads((folder_of(out) / "ablation.json").read_text())
