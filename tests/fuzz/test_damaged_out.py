"""Files below --out that were damaged after a run: repaired or made again, and all is as if nothing had happened."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import examples
from test_bad_data import damaged
from tiny_trial import ONE, command, left_by, make_cheap

from ablations.harness.store.folders import remove

FOLDERS = ("probes", "figures", "files")
# Of a run that has ended nothing reads the first two and nothing can make them; the last is what was in the way.
UNNEEDED = ("environment.json", "last.ckpt", ".again", "something")


@pytest.fixture(scope="module", autouse=True)
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below --out of a run that has ended."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        code, _, err = command(out, ablation=ONE)
    assert code == 0, err
    return out


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


def is_as_before(finished: Path, harm: Callable[[Path], None], *more: str) -> None:
    """Asserts that the command, repeated on a copy that `harm` was done to, ends well and leaves the same."""
    with tempfile.TemporaryDirectory() as copied, pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        out = Path(shutil.copytree(finished, Path(copied) / "runs"))
        harm(out)
        code, _, err = command(out, *more, ablation=ONE)
        assert code == 0, err
        assert "Traceback" not in err
        found, expected = (
            {name: content for name, content in left_by(place).items() if Path(name).name not in UNNEEDED}
            for place in (out, finished)
        )
        assert found == expected


FRESH = st.sampled_from([[], [], [], ["--fresh"]])


@examples(30)
@given(st.data(), st.sampled_from([None, None, None, remove, folder, loop, pipe, another]), FRESH)
def test_damaged_files(
    finished: Path, data: st.DataObject, how: Callable[[Path], None] | None, more: list[str]
) -> None:
    files = sorted(
        file.relative_to(finished) for file in finished.rglob("*") if file.is_file() and ".locks" not in file.parts
    )
    name = data.draw(st.sampled_from(files))
    content = b"" if how else data.draw(damaged((finished / name).read_bytes()))
    is_as_before(finished, lambda out: how(out / name) if how else (out / name).write_bytes(content), *more)


@examples(12)
@given(st.data(), st.sampled_from([remove, file, loop, pipe]), FRESH)
def test_damaged_folders(finished: Path, data: st.DataObject, how: Callable[[Path], None], more: list[str]) -> None:
    folders = sorted(
        place.relative_to(finished)
        for place in finished.rglob("*")
        if place.is_dir() and (place.name in FOLDERS or place.parent.name in FOLDERS)
    )
    assert {place.name for place in folders} > set(FOLDERS)
    name = data.draw(st.sampled_from(folders))
    is_as_before(finished, lambda out: how(out / name), *more)


@pytest.mark.parametrize("what", [folder, file, loop])
@pytest.mark.parametrize("which", [".old", ".again"])
@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_leftovers(finished: Path, which: str, what: Callable[[Path], None], more: list[str]) -> None:
    """What a killed process left in the way of the place where a run is made anew."""

    def harm(out: Path) -> None:
        (run,) = (out / "trained").iterdir()
        what(run.with_name(f".{run.name}.old") if which == ".old" else out / ".again")
        remove(run / "snapshots")  # so that its like is made beside it

    is_as_before(finished, harm, *more)
