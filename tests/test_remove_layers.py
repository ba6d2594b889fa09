"""The ablation at smoke budget: what it records of every network, and that a second time changes no byte."""

import json

from ablations.harness.store.records import read_records
from ablations.remove_layers import ERROR, PAIR, PLAIN, PLAIN_BN, RESIDUAL, STOCHASTIC, TWIN

ADD = (RESIDUAL, STOCHASTIC, PAIR)  # have a shortcut to delete
FOLDER = "ablations/remove_layers/smoke-digits"


def test_smoke_trains_every_arm_and_leaves_nothing_unfinished(smoke):
    out, told = smoke
    summary = json.loads((out / FOLDER / "ablation.json").read_text())
    assert {run["state"] for run in summary["runs"]} == {"done"}
    assert {(run["arm"], run["seed"]) for run in summary["runs"]} == {
        (arm, seed) for arm in (RESIDUAL, STOCHASTIC, PLAIN, PLAIN_BN, TWIN, PAIR) for seed in (0, 1)
    }
    for seed in (0, 1):
        assert f"{RESIDUAL} seed {seed}: test error" in told
    for file in out.rglob("*"):
        assert not file.name.startswith(".write-test")
        assert not file.name.endswith(".tmp")


def test_smoke_records_every_question(smoke):
    out, _ = smoke
    records = read_records(out / FOLDER)
    assert {row.ablation for row in records} == {"remove_layers"}
    for arm, blocks in ((RESIDUAL, 6), (STOCHASTIC, 6), (PLAIN, 14), (PLAIN_BN, 14), (TWIN, 3), (PAIR, 3)):
        for seed in (0, 1):
            rows = records.where(arm=arm, seed=seed)
            assert len(rows.where(probe="delete")) == blocks
            assert len(rows.where(probe="delete_shortcut")) == (blocks if arm in ADD else 0)
            assert rows.where(probe="chance", metric=ERROR).values() == [90.0]
            (run,) = {row.run for row in rows}
            done = json.loads((out / "trained" / run / "done").read_text())
            assert rows.where(probe="intact").values() == [done["test/top1_error"]], "probe and training agree"
            assert rows.where(probe="test", metric=ERROR).values() == [done["test/top1_error"]]
    assert {row.arm for row in records.where(probe="delete_random")} == {RESIDUAL}
    assert {row.fields["k"] for row in records.where(probe="delete_random")} == set("123456")
    assert len(records.where(arm=RESIDUAL, seed=0, probe="reorder")) == 8


def test_a_second_time_changes_no_byte(smoke_copy, command):
    out, _ = smoke_copy
    before = {name: (out / FOLDER / name).read_bytes() for name in ("records.csv", "verdicts.json")}
    trained = {file: file.stat().st_mtime_ns for file in (out / "trained").rglob("*") if file.is_file()}
    code, told, _ = command("--budget", "smoke", "--trainer.accelerator", "cpu", "--out", out)
    assert (code, told.count("already trained, already probed")) == (0, 12)
    assert {name: (out / FOLDER / name).read_bytes() for name in before} == before
    assert {file: file.stat().st_mtime_ns for file in (out / "trained").rglob("*") if file.is_file()} == trained
