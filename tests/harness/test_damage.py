"""What is damaged below --out is made again or named: the same command ends with what it left before."""

import json
import math
import os
import shutil
from dataclasses import replace

import pytest
from test_processes import is_held
from tiny_trial import TINY, carry_on, command, file_instead, folder_instead, left_by, loop_instead, make_cheap

from ablations.harness.execution import asking, perform
from ablations.harness.store.folders import discard, remove
from ablations.harness.store.integrity import sealed
from ablations.harness.tracking.tracking import remembered
from modules.training.classifier import Classifier


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    make_cheap(monkeypatch)


@pytest.fixture
def out(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "runs")


def run_of(out):
    (folder,) = (folder for folder in (out / "trained").iterdir() if not folder.name.startswith("."))
    return folder


def cut(keep):
    """Damage that leaves a part of a file's bytes, or of its lines."""

    def damage(file):
        content = file.read_bytes()
        lines = content.splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]) if keep == "lines" else content[: int(keep * len(content))])

    return damage


def flip(file):
    """One bit in the middle; the size stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def fill(text):
    return lambda file: file.write_text(text)


HALF, LAST_LINE, LAST_BYTES, EMPTY = cut(0.5), cut("lines"), cut(0.98), cut(0)
TRAINED, ASKED = "; trained again from its last checkpoint", "; asked again"
DAMAGE = [
    *(("metrics.csv", damage, TRAINED) for damage in (HALF, LAST_LINE, LAST_BYTES, flip, remove)),
    *(("done", damage, TRAINED) for damage in (HALF, EMPTY, flip, fill("[]"), fill("{}"), fill("[" * 100_000))),
    *(("weights.safetensors", damage, TRAINED) for damage in (remove, HALF)),
    *(("probes/norm-*.csv", damage, ASKED) for damage in (LAST_LINE, LAST_BYTES, flip)),
    ("probes/norm-*.csv", remove, ""),
    *(("probes/norm-*.json", damage, ASKED) for damage in (HALF, remove)),
    *(("probes/norm-*/norms.npz", damage, ASKED) for damage in (HALF, flip, remove)),
    ("probes/norm-????????", file_instead, ASKED),
    *(("probes", damage, "") for damage in (remove, file_instead, loop_instead)),
    ("snapshots/epoch0000.safetensors", HALF, ""),
    ("snapshots", remove, ""),
    ("last.ckpt", HALF, None),
    ("environment.json", remove, None),
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE)
def test_what_is_damaged_is_made_again(out, name, damage, said):
    expected = left_by(out)
    (file,) = run_of(out).glob(name)
    damage(file)
    told = carry_on(out)
    assert "already trained, already probed" in told if said is None else said in told
    found = left_by(out)
    if said is None and name == "environment.json":
        expected.pop(f"trained/{run_of(out).name}/environment.json")  # of a machine, not of the run
    assert found == expected
    again = carry_on(out)
    assert "already trained, already probed" in again
    assert "again" not in again


@pytest.mark.parametrize("damage", [HALF, remove, folder_instead, loop_instead])
def test_what_a_run_is_is_written_anew_where_it_cannot_be_read(out, damage):
    file = run_of(out) / "config.json"
    expected, config = left_by(out), file.read_text()
    damage(file)
    told = carry_on(out)
    assert "already trained, already probed" in told
    assert file.read_text() == config
    assert left_by(out) == expected


BELOW_ABLATIONS = [
    *((name, folder_instead) for name in ("records.csv", "verdicts.json", "ablation.json", "report.html")),
    *((name, damage) for name in ("figures", "files", "") for damage in (file_instead, loop_instead)),
    ("figures/norms.csv", folder_instead),
]


@pytest.mark.parametrize(("name", "damage"), BELOW_ABLATIONS)
def test_what_stands_in_the_place_of_a_conclusion_is_replaced(out, name, damage):
    """It was an error, or a traceback, at every later command."""
    expected = left_by(out)
    damage(out / "ablations/tiny/smoke-digits" / name)
    code, told, err = command(out)
    assert (code, err) == (0, "")
    assert "already trained, already probed" in told
    assert left_by(out) == expected


@pytest.mark.parametrize("look", ["is_settled", "outcome", "epochs_of", "read_csv"])
def test_a_run_that_is_discarded_between_two_looks_is_trained_under_its_lock(out, monkeypatch, look):
    """As by another command with --fresh, which has the lock that this one has not yet taken."""
    expected, folder = left_by(out), run_of(out)
    where = asking if look == "read_csv" else perform
    original, trained_with = getattr(where, look), []

    def looking(*arguments):
        monkeypatch.setattr(where, look, original)
        if look == "is_settled":  # the last of the looks that say that nothing is left to do
            found = original(*arguments)
            discard(folder)
            return found
        discard(folder)
        return original(*arguments)

    def training(run, *arguments):
        trained_with.append(is_held(out / ".locks" / run.name))
        return train(run, *arguments)

    train = perform.train
    monkeypatch.setattr(perform, "train", training)
    monkeypatch.setattr(where, look, looking)
    carry_on(out)
    assert trained_with == [True]
    assert left_by(out) == expected


@pytest.mark.parametrize("name", ["weights.safetensors", "snapshots/epoch0000.safetensors"])
def test_weights_that_have_changed_are_noticed_where_they_are_asked(out, name):
    """Their size is the same: only reading them tells."""
    expected = left_by(out)
    flip(run_of(out) / name)
    shutil.rmtree(run_of(out) / "probes")
    told = carry_on(out)
    assert ("weights.safetensors has changed" in told) == (name == "weights.safetensors")
    assert left_by(out) == expected


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("damage", [HALF, flip, EMPTY, fill("no checkpoint"), folder_instead])
def test_a_damaged_checkpoint_begins_again(out, ended, damage):
    folder, expected = run_of(out), left_by(out)
    damage(folder / "last.ckpt")
    if ended:
        (folder / "done").write_text("")
    else:
        (folder / "done").unlink()
    told = carry_on(out)
    assert f"{'done' if ended else 'last.ckpt'} is damaged; trained again from its start" in told
    assert left_by(out) == expected


def test_what_notes_nothing_is_damaged(out):
    """Sound words without a digest, which nothing can be held to."""
    expected, folder = left_by(out), run_of(out)
    said = json.loads((folder / "done").read_text())
    (folder / "done").write_text(json.dumps({key: said[key] for key in said.keys() - {"files", "digest"}}))
    for notes in folder.glob("probes/*.json"):
        notes.unlink()
    told = carry_on(out)
    assert f"done is damaged{TRAINED}" in told
    assert left_by(out) == expected


def test_answers_of_other_weights_are_asked_again(out):
    """Training again may give other weights, on a GPU for one; answers and what lies beside them go with the old."""
    expected = left_by(out)
    (notes,) = run_of(out).glob("probes/*.json")
    said = {key: value for key, value in json.loads(notes.read_text()).items() if key != "digest"}
    notes.write_text(json.dumps(sealed({**said, "weights": "0" * 64})))
    told = carry_on(out)
    assert "is of other weights; asked again" in told
    assert left_by(out) == expected


def test_fresh_never_reads_what_it_throws_away(out, monkeypatch):
    expected, read = left_by(out), []
    folder = run_of(out)
    inodes = {file.stat().st_ino: file.name for file in folder.rglob("*") if file.is_file()}
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\xff" * 100)

    import builtins
    import io

    def watch(original):
        def opening(file, *arguments, **keywords):
            if isinstance(file, str | os.PathLike) and os.path.exists(file) and os.stat(file).st_ino in inodes:
                read.append(inodes[os.stat(file).st_ino])
            return original(file, *arguments, **keywords)

        return opening

    monkeypatch.setattr(builtins, "open", watch(open))
    monkeypatch.setattr(io, "open", watch(io.open))
    kept = folder.rename(folder.with_name("kept"))  # or the inodes would be given to new files
    shutil.copytree(kept, folder, copy_function=os.link)
    told = carry_on(out, "--fresh")
    monkeypatch.undo()
    assert "already" not in told
    assert read == []
    shutil.rmtree(kept)
    assert left_by(out) == expected


@pytest.mark.parametrize("rest", [".{}.old", ".{}.discarded"])
@pytest.mark.parametrize("fresh", [True, False])
def test_remains_of_a_killed_replacement_never_block(out, rest, fresh):
    expected = left_by(out)
    folder = run_of(out)
    shutil.copytree(folder, folder.with_name(rest.format(folder.name)))
    shutil.rmtree(folder / "snapshots")  # so that the run is replaced
    carry_on(out, *(["--fresh"] if fresh else []))
    assert left_by(out) == expected


@pytest.mark.parametrize("damage", [remove, HALF, flip])
def test_what_is_left_beside_a_run_never_blocks(out, damage):
    expected = left_by(out)
    folder = run_of(out)
    beside = out / ".again" / "trained" / folder.name
    shutil.copytree(folder, beside)
    damage(beside / "last.ckpt")
    (beside / "done").write_text("{")
    shutil.rmtree(folder / "snapshots")
    carry_on(out)
    assert left_by(out) == expected
    assert not (out / ".again").exists()


def test_a_file_in_the_place_of_a_run_is_no_run(out):
    expected = left_by(out)
    folder = run_of(out)
    shutil.rmtree(folder)
    folder.write_text("a file")
    carry_on(out)
    assert left_by(out) == expected


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_damaged_memory_of_what_was_logged_is_logged_anew(tmp_path, content):
    """It stopped every later summary before."""
    file = tmp_path / "summary-tiny-smoke-digits.json"
    assert remembered(file) == {}
    file.write_text(content)
    assert remembered(file) == {}
    file.write_text('{"run_id": "tiny-1"}')
    assert remembered(file) == {"run_id": "tiny-1"}


# --- runs that diverged ---


@pytest.mark.parametrize("damage", [HALF, EMPTY, flip, fill("{}")])
@pytest.mark.parametrize("name", ["diverged", "metrics.csv"])
def test_a_damaged_end_of_a_diverged_run_is_made_again(tmp_path, monkeypatch, name, damage):
    step = Classifier.training_step

    def poisoned(self, *arguments):
        return step(self, *arguments) * (math.nan if self.trainer.global_step == 2 else 1)  # in the second epoch

    monkeypatch.setattr(Classifier, "training_step", poisoned)
    ablation = replace(TINY, charts=())
    out = tmp_path / "runs"
    code, _, err = command(out, ablation=ablation)
    assert code == 1
    assert "failed: relu seed 0" in err
    expected = left_by(out)
    damage(run_of(out) / name)
    code, told, err = command(out, ablation=ablation)
    assert code == 1
    assert f"{name} " in told
    assert "; trained again from its last checkpoint" in told
    assert "Traceback" not in err
    assert left_by(out) == expected
