"""Killed before any operation on a file, or while it writes one, the same command ends as if undisturbed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from file_operations import put_back, states_of
from tiny_trial import TINY, carry_on, command, left_by, make_cheap

WITHOUT_SNAPSHOTS = replace(TINY, name="other", plan=lambda at: replace(TINY.plan(at), probes=()), charts=())


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    make_cheap(monkeypatch)


def finished_without_snapshots(out):
    """The run is then trained again beside what stands, which it replaces at the end."""
    assert command(out, ablation=WITHOUT_SNAPSHOTS)[0] == 0


def damaged(out):
    carry_on(out)
    (table,) = out.glob("trained/*/metrics.csv")
    table.write_text(table.read_text()[:-20])
    (answers,) = out.glob("trained/*/probes/*.csv")
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("start", "more", "least"),
    [(Path.mkdir, (), 60), (finished_without_snapshots, (), 30), (damaged, (), 12), (carry_on, ("--fresh",), 30)],
    ids=["first run", "replaced", "damaged", "fresh"],
)
def test_every_kill_ends_alike(tmp_path, monkeypatch, start, more, least):
    out = tmp_path / "runs"
    start(out)
    with states_of(out, monkeypatch) as states:
        carry_on(out, *more)
    monkeypatch.undo()
    make_cheap(monkeypatch)
    expected = left_by(out)
    assert any(state.half for state in states)
    if start is not Path.mkdir:  # temporary files, and what is written after the runs, are written as in a first run
        runs = {repr([(k, v) for k, v in s.content.items() if not k.startswith("ablations/")]): s for s in states}
        states = [state for state in runs.values() if not state.half.endswith(".tmp")]
    assert len(states) >= least
    for number, state in enumerate(states):
        killed = tmp_path / f"{number}"
        put_back(state.content, killed)
        what = f"killed before {state.operation} {state.name}{f', {state.half} half written' if state.half else ''}"
        code, _, err = command(killed)
        assert (code, err) == (0, ""), what
        found = left_by(killed)
        assert found.keys() == expected.keys(), what
        assert found == expected, what
        shutil.rmtree(killed)
