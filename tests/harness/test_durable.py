"""What carries a run is on the disk before it has its name, and so before `done` says that it is there."""

import os

import pytest

from ablations.harness.store.files import atomic_write_text, sweep
from ablations.harness.training.train import train


@pytest.fixture
def order(monkeypatch):
    """Files by inode: the names they took, and what was flushed to the disk, in the order in which it happened."""
    seen = []
    replace, fsync = os.replace, os.fsync

    def replacing(old, new, **keywords):
        seen.append(("named", os.stat(old).st_ino, os.path.basename(new)))
        replace(old, new, **keywords)

    def flushing(number):
        fsync(number)
        seen.append(("flushed", os.fstat(number).st_ino, os.fstat(number).st_size))

    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(os, "fsync", flushing)
    return seen


def test_contents_reach_the_disk_before_their_name_and_names_before_done(tiny, digits, tmp_path, order):
    run = tiny(epochs=1)
    train(run, digits, tmp_path, show_progress=False, snapshots=[2])
    folder = run.folder(tmp_path)
    parents = {path.stat().st_ino for path in (folder, folder / "snapshots")}
    named = {what[2]: at for at, what in enumerate(order) if what[0] == "named"}
    assert {"last.ckpt", "metrics.csv", "weights.safetensors", "epoch0001.safetensors", "done"} <= named.keys()
    for name, at in named.items():
        inode = order[at][1]
        flushed = [size for kind, number, size in order[:at] if kind == "flushed" and number == inode]
        assert flushed, f"{name} had its name before its contents were on the disk"
        (file,) = folder.rglob(name)
        assert name == "metrics.csv" or flushed[-1] == file.stat().st_size
        assert order[at + 1][0] == "flushed", f"the name of {name} was not flushed"
        assert order[at + 1][1] in parents, f"the name of {name} was not flushed"
    assert max(named.values()) == named["done"]


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in (".done.0123456789ab.tmp", "figures/.curve.png.0123456789ab.tmp", ".last.ckpt.tmp"):
        (tmp_path / name).write_bytes(b"half")
    for name in ("done", "notes.tmp", ".hidden"):
        atomic_write_text(tmp_path / name, "whole")
    sweep(tmp_path)
    assert {file.name for file in tmp_path.rglob("*")} == {"figures", "done", "notes.tmp", ".hidden"}
