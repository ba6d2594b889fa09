"""Files below --out that were damaged after a run: repaired or made again, and all is as if nothing had happened."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from refusals import examples
from test_bad_data import damaged
from tiny_trial import carry_on, file_instead, folder_instead, left_by, loop_instead, make_cheap

from ablations.harness.store.folders import remove

Harm = Callable[[Path], None]
FOLDERS = ("probes", "figures", "files")
# Of a run that has ended nothing reads the first two and nothing can make them; the last is what was in the way.
UNNEEDED = ("environment.json", "last.ckpt", ".again", "something")


def pipe_instead(place: Path) -> None:
    remove(place)
    os.mkfifo(place)


def another(file: Path) -> None:
    """The contents of its neighbour."""
    file.write_bytes(next(each for each in sorted(file.parent.iterdir()) if each.is_file()).read_bytes())


def assert_as_before(tiny_run: Path, harm: Harm, *more: str) -> None:
    """Asserts that the command, repeated on a copy that `harm` was done to, ends well and leaves the same."""
    with tempfile.TemporaryDirectory() as copied, pytest.MonkeyPatch.context() as patch:
        make_cheap(patch)
        out = Path(shutil.copytree(tiny_run, Path(copied) / "runs"))
        harm(out)
        carry_on(out, *more)
        found, expected = (
            {name: content for name, content in left_by(place).items() if Path(name).name not in UNNEEDED}
            for place in (out, tiny_run)
        )
        assert found == expected


FRESH = st.sampled_from([[], [], [], ["--fresh"]])
HARM: list[Harm] = [loop_instead, pipe_instead]


@examples(30)
@given(st.data(), st.sampled_from([None, None, None, remove, folder_instead, *HARM, another]), FRESH)
def test_damaged_files(tiny_run: Path, data: st.DataObject, how: Harm | None, more: list[str]) -> None:
    files = sorted(
        file.relative_to(tiny_run) for file in tiny_run.rglob("*") if file.is_file() and ".locks" not in file.parts
    )
    # Weights of another content and the same size are noticed when they are read, and not before.
    files = [file for file in files if how is not another or file.suffix != ".safetensors"]
    name = data.draw(st.sampled_from(files))
    whole = (tiny_run / name).read_bytes()
    content = b"" if how else data.draw(damaged(whole))
    assume(name.suffix != ".safetensors" or len(content) != len(whole))
    assert_as_before(tiny_run, lambda out: how(out / name) if how else (out / name).write_bytes(content), *more)


@examples(12)
@given(st.data(), st.sampled_from([remove, file_instead, *HARM]), FRESH)
def test_damaged_folders(tiny_run: Path, data: st.DataObject, how: Harm, more: list[str]) -> None:
    folders = sorted(
        place.relative_to(tiny_run)
        for place in tiny_run.rglob("*")
        if place.is_dir() and (place.name in FOLDERS or place.parent.name in FOLDERS)
    )
    assert {place.name for place in folders} > set(FOLDERS)
    name = data.draw(st.sampled_from(folders))
    assert_as_before(tiny_run, lambda out: how(out / name), *more)


@pytest.mark.parametrize("what", [folder_instead, file_instead, loop_instead])
@pytest.mark.parametrize("which", [".old", ".again"])
@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_leftovers(tiny_run: Path, which: str, what: Harm, more: list[str]) -> None:
    """What a killed process left in the way of the place where a run is made anew."""

    def harm(out: Path) -> None:
        (run,) = (out / "trained").iterdir()
        what(run.with_name(f".{run.name}.old") if which == ".old" else out / ".again")
        remove(run / "snapshots")  # so that its like is made beside it

    assert_as_before(tiny_run, harm, *more)
