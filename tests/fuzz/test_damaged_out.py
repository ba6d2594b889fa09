"""Files below --out that were damaged after a run: repaired or made again, with the records of the undamaged ones."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from fuzz_driver import TRIED, Seen, carry_out, examples
from hypothesis import given
from hypothesis import strategies as st
from test_bad_data import damaged, write_folders

from ablations.harness.records import Records


class Finished:
    """A tiny run below --out, what its records were, and the command that made it."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "runs"
        self.words = ["--data=folder", f"--data-root={write_folders(folder / 'images')}", "--trainer.accelerator=cpu"]
        self.words += ["--workers=1"]
        seen, self.records = self.repeat(self.out)
        assert seen.code == 0, seen
        self.files = sorted(
            str(file.relative_to(self.out))
            for file in self.out.rglob("*")
            if file.is_file() and ".locks" not in file.parts
        )

    def repeat(self, out: Path, *more: str) -> tuple[Seen, list[str]]:
        """What the command says, and the records that would be judged, without those of time."""
        judged: list[Records] = []
        with patch("ablations.harness.execution.conclude", lambda trial, records, *_: judged.append(records) or False):
            seen = carry_out([*self.words, *more], out)
        return seen, [repr(row) for records in judged for row in records if "seconds" not in row.metric]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    return Finished(tmp_path_factory.mktemp("finished"))


def removed(file: Path) -> None:
    file.unlink()


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def another(file: Path) -> None:
    """The contents of its neighbour."""
    file.write_bytes(next(each for each in sorted(file.parent.iterdir()) if each.is_file()).read_bytes())


@examples(30)
@given(st.data())
def test_damaged_files(finished: Finished, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(finished.files))
    how: Callable[[Path], None] | None = data.draw(
        st.sampled_from([None, None, None, removed, folder, loop, pipe, another])
    )
    with tempfile.TemporaryDirectory() as copied:
        out = Path(copied) / "runs"
        shutil.copytree(finished.out, out)
        if how is None:
            (out / name).write_bytes(data.draw(damaged((out / name).read_bytes())))
        else:
            how(out / name)
        more = data.draw(st.sampled_from([[], [], [], ["--fresh"]]))
        seen, records = finished.repeat(out, *more)
    TRIED["damaged --out"] += 1
    assert seen.code == 0, (name, how, seen)
    assert "Traceback" not in seen.err, (name, how, seen)
    assert records == finished.records, (name, how, seen)


@examples(6)
@given(st.sampled_from([".old", ".again"]), st.sampled_from(["folder", "file", "loop"]), st.booleans())
def test_leftovers(finished: Finished, which: str, what: str, fresh: bool) -> None:
    """A folder that a killed process left in the way."""
    with tempfile.TemporaryDirectory() as copied:
        out = Path(copied) / "runs"
        shutil.copytree(finished.out, out)
        (run,) = (out / "trained").iterdir()
        place = run.with_name(f".{run.name}.old") if which == ".old" else out / ".again"
        if what == "folder":
            (place / "trained" / run.name).mkdir(parents=True)
            (place / "trained" / run.name / "done").write_text("{")
        elif what == "file":
            place.write_text("in the way")
        else:
            place.symlink_to(place.name)
        (run / "weights.safetensors").unlink()
        seen, records = finished.repeat(out, *(["--fresh"] if fresh else []))
    TRIED["damaged --out"] += 1
    assert seen.code == 0, (which, what, seen)
    assert records == finished.records, (which, what, seen)
