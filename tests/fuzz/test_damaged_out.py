"""Files below --out that were damaged after a run: repaired or made again, with the records of the undamaged ones."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fuzz_driver import Seen, carry_out, examples
from hypothesis import given
from hypothesis import strategies as st
from test_bad_data import damaged, write_folders

from ablations.harness.conclusion import conclude
from ablations.harness.store.files import atomic_write_text
from ablations.harness.store.folders import remove
from ablations.harness.store.records import Records
from ablations.harness.trial import Trial

FOLDERS = ("probes", "figures", "files")
UNNEEDED = ("environment.json", "last.ckpt")  # of a run that has ended: nothing reads them and nothing can make them


def page_of_one_line(folder: Path) -> Path:
    """In the place of the page, which takes longer than the training."""
    atomic_write_text(folder / "report.html", "a page\n")
    return folder / "report.html"


class Finished:
    """A tiny run below --out, what its records were, and the command that made it."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "runs"
        self.words = ["--data=folder", f"--data-root={write_folders(folder / 'images')}", "--trainer.accelerator=cpu"]
        self.words += ["--workers=1"]
        seen, self.records = self.repeat(self.out)
        assert seen.code == 0, seen
        self.files = below(self.out)
        self.folders = sorted(
            str(place.relative_to(self.out))
            for place in self.out.rglob("*")
            if place.is_dir() and (place.name in FOLDERS or place.parent.name in FOLDERS)
        )
        assert {Path(name).name for name in self.folders} > set(FOLDERS)

    def repeat(self, out: Path, *more: str) -> tuple[Seen, list[str]]:
        """What the command says, and the records that would be judged, without those of time."""
        judged: list[Records] = []

        def concluding(trial: Trial, records: Records, *rest: Any) -> bool:
            judged.append(records)
            return conclude(trial, records, *rest)

        with (
            patch("ablations.harness.execution.execute.conclude", concluding),
            patch("reports.pages.page.write_page", page_of_one_line),
        ):
            seen = carry_out([*self.words, *more], out)
        return seen, [repr(row) for records in judged for row in records if "seconds" not in row.metric]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("finished"))


def below(out: Path) -> list[str]:
    """The files that a run leaves, by their names below `out`, without its locks."""
    files = (file for file in out.rglob("*") if file.is_file() and ".locks" not in file.parts)
    return sorted(str(file.relative_to(out)) for file in files)


def removed(place: Path) -> None:
    remove(place)


def folder(file: Path) -> None:
    remove(file)
    file.mkdir()
    (file / "something").write_text("in the way")


def file(place: Path) -> None:
    remove(place)
    place.write_text("in the way")


def loop(place: Path) -> None:
    remove(place)
    place.symlink_to(place.name)


def pipe(place: Path) -> None:
    remove(place)
    os.mkfifo(place)


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
        is_as_before(finished, out, (name, how), *more)


@examples(12)
@given(st.data())
def test_damaged_folders(finished: Finished, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(finished.folders))
    how: Callable[[Path], None] = data.draw(st.sampled_from([removed, file, loop, pipe]))
    with tempfile.TemporaryDirectory() as copied:
        out = Path(copied) / "runs"
        shutil.copytree(finished.out, out)
        how(out / name)
        more = data.draw(st.sampled_from([[], [], [], ["--fresh"]]))
        is_as_before(finished, out, (name, how), *more)


def is_as_before(finished: Finished, out: Path, damage: object, *more: str) -> None:
    """Asserts that the command, repeated on a damaged copy, ends well with the same records and the same files."""
    seen, records = finished.repeat(out, *more)
    assert seen.code == 0, (damage, seen)
    assert "Traceback" not in seen.err, (damage, seen)
    assert records == finished.records, (damage, seen)
    left = {name for name in below(out) if Path(name).name not in UNNEEDED}
    needed = {name for name in finished.files if Path(name).name not in UNNEEDED}
    assert needed <= left, (damage, needed - left, seen)


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
    assert seen.code == 0, (which, what, seen)
    assert records == finished.records, (which, what, seen)
