"""Processes beside and after each other leave what one leaves: of side-by-side runs, killed ones, two commands.

Whatever was ended by Ctrl-C, kill -9 or a failure, the same command goes on where it was, and ends with the same
weights to the last bit.
"""

import csv
import fcntl
import json
import os
import random
import shlex
import signal
import time
from types import SimpleNamespace

import pytest
from programs import wait_for
from safetensors.torch import load_file

from ablations.harness.execution.engines import WORTH_STEPS, worth
from ablations.harness.launch import main

EPOCHS = 6
ARMS = ("stochastic_depth", "vgg")
# Says which processes train, makes epochs last until the test has killed what it wants to kill, and kills itself in the
# middle of a checkpoint's bytes, at a place that no outsider could hit.
SLOW = """
import os, signal, time
from pathlib import Path
import lightning
from ablations.harness.training.callbacks import History

begin, save, calls = History.on_train_epoch_start, lightning.Trainer.save_checkpoint, []

def begin_late(self, trainer, *arguments):
    Path(os.environ["PROCESSES"], str(os.getpid())).touch()
    time.sleep(float(os.environ["SECONDS_AN_EPOCH"]) if trainer.current_epoch else 0)
    begin(self, trainer, *arguments)

def cut_off(self, path, *arguments, **keywords):
    save(self, path, *arguments, **keywords)
    calls.append(1)
    if len(calls) == int(os.environ["KILL_AT_CHECKPOINT"]):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

if "PROCESSES" in os.environ:
    History.on_train_epoch_start, lightning.Trainer.save_checkpoint = begin_late, cut_off
"""


BROKEN = """
from dataclasses import dataclass
from ablations.harness.declare.probe import Probe

@dataclass(frozen=True, kw_only=True)
class Broken(Probe):
    def ask(self, subject):
        raise RuntimeError(f"no answer about {subject.arm}")

small_ablation = replace(small_ablation, plan=lambda at: replace(small(at), probes=(Broken(),)))
"""
# A third arm that is another under a name of its own: the same run.
TWICE = """
from dataclasses import dataclass
from ablations.harness.declare.probe import Measurement, Probe

@dataclass(frozen=True, kw_only=True)
class Seen(Probe):
    snapshots: int = 3
    words: tuple[str, ...] = ("its", "module")
    units = {"epochs": ""}

    def ask(self, subject):
        assert self.words == ("its", "module")
        yield Measurement("seen", "epochs", float(len(subject.snapshots)))

def twice(at):
    planned = small(at)
    (arm,) = (arm for arm in planned.arms if arm.name == "stochastic_depth")
    again = replace(arm, name="again")
    return replace(planned, arms=(*planned.arms, again), probes=(*planned.probes, Seen()))

small_ablation = replace(small_ablation, plan=twice)
"""


@pytest.fixture
def file(script):
    return script({"epochs": EPOCHS}, SLOW)


@pytest.fixture
def begin(start, tmp_path):
    """As `start`, with slow epochs; the processes that train leave their numbers as names of files."""
    folder = tmp_path / "processes"
    folder.mkdir()

    def beginning(*words, seconds=2.0, kill_at=0):
        given = {"SECONDS_AN_EPOCH": seconds, "KILL_AT_CHECKPOINT": kill_at, "PROCESSES": folder}
        return start(*words, **{name: str(value) for name, value in given.items()})

    return beginning


def words(file, out, *more, arms=ARMS):
    fixed = ["--budget", "smoke", "--wandb", "disabled", "--trainer.accelerator", "cpu", "--arms", *arms]
    return [str(word) for word in (file, *fixed, *more, "--out", out)]


def ended(process, code):
    out, err = process.communicate(240)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def tables(out, network="*"):
    return list(out.glob(f"trained/{network}-*/metrics.csv"))


def epochs(out, network="*"):
    """Finished epochs, of all runs or of one network's, from their tables."""
    return sum(len(file.read_text().splitlines()) - 1 for file in tables(out, network))


def done(out, network="*"):
    return [json.loads(file.read_text()) for file in out.glob(f"trained/{network}-*/done")]


def is_held(lock):
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def left_by(out):
    """Records and verdicts, but for the rows that a clock measures, and weights."""
    folder = out / "ablations/remove_layers/smoke-digits"
    with (folder / "records.csv").open(newline="") as stream:
        records = [row for row in csv.reader(stream) if "seconds" not in row]
    weights = {file.relative_to(out): load_file(file) for file in out.glob("trained/**/*.safetensors")}
    return records, json.loads((folder / "verdicts.json").read_text()), weights


def assert_same(out, other):
    """Asserts that both folders hold the same to the last bit, and gives the weights."""
    (*told, weights), (*expected, others) = left_by(out), left_by(other)
    assert told == expected
    assert weights.keys() == others.keys()
    for name, tensors in weights.items():
        assert tensors.keys() == others[name].keys()
        assert all(tensors[key].equal(others[name][key]) for key in tensors), name
    return weights


@pytest.fixture
def assert_undisturbed(small_ablation, once):
    """Asserts that below --out is, to the last bit, what a command leaves that nothing disturbs, and nothing else."""

    def whole(out):
        with pytest.raises(SystemExit) as left:
            main(small_ablation(epochs=EPOCHS), words("", out)[1:])
        return left.value.code

    undisturbed, code = once("undisturbed", whole)
    assert code == 0

    def check(out):
        assert len(assert_same(out, undisturbed)) == 2
        assert not list(out.rglob("*.tmp"))
        assert not [lock for lock in (out / ".locks").iterdir() if is_held(lock)]

    return check


def test_side_by_side_is_as_one_after_the_other(script, program, tmp_path):
    file, arms = script({"epochs": 2}, TWICE), [*ARMS, "again"]
    for workers in (1, 2):
        done = program(*words(file, tmp_path / f"{workers}", "--workers", workers, arms=arms))
        assert done.returncode == 0, done.stderr
        assert ("2 runs at once" in done.stdout) == (workers == 2)
        assert done.stdout.count("again seed 0: ") == done.stdout.count("already trained") == 1, "a shared run"
    names = {file.name for file in assert_same(tmp_path / "1", tmp_path / "2")}
    assert names == {"weights.safetensors", "epoch0000.safetensors", "epoch0001.safetensors", "epoch0002.safetensors"}
    again = program(*words(file, tmp_path / "2", "--workers", 2, arms=arms))
    assert again.stdout.count("already trained, already probed") == 3


def test_a_job_that_fails_is_named_and_the_others_end(script, program, tmp_path):
    file = script({"epochs": 1}, BROKEN)
    done = program(*words(file, tmp_path / "runs", "--workers", 2))
    assert done.returncode == 1
    assert "no answer about" in done.stderr
    assert "seed 0, whose files are in" in done.stderr
    assert "resume with:" in done.stderr


def groups_of(steps, **trainer):
    """As much of two runs of so many steps as the decision looks at."""
    recipe = SimpleNamespace(epochs=steps // 2, batch_size=5)
    run = SimpleNamespace(recipe=recipe, data={"num_train": 10}, trainer=trainer)
    return [[(0, SimpleNamespace(run=run))], [(1, SimpleNamespace(run=run))]]


CPU, CUDA = SimpleNamespace(type="cpu"), SimpleNamespace(type="cuda")


def test_processes_are_used_where_they_are_worth_it(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert worth(groups_of(WORTH_STEPS), None, CPU) == 2, "no more than there is to do"
    assert worth(groups_of(WORTH_STEPS // 4), None, CPU) == 1
    assert worth(groups_of(WORTH_STEPS // 2), None, CPU) == 2
    half, as_many = {"limit_train_batches": 1}, {"accumulate_grad_batches": 2}
    assert worth(groups_of(WORTH_STEPS // 2, **half), None, CPU) == 1, "half of the batches are left out"
    assert worth(groups_of(WORTH_STEPS // 2, **as_many), None, CPU) == 2, "as many batches in half the steps"
    assert worth(groups_of(WORTH_STEPS), None, CUDA) == 1
    assert worth(groups_of(WORTH_STEPS), 1, CPU) == 1
    assert worth(groups_of(2), 2, CPU) == 2
    assert worth([], 2, CPU) == 1
    assert worth(groups_of(WORTH_STEPS, devices=2), None, CPU) == 1


def test_ctrl_c_and_kill_and_kill_again(begin, file, program, tmp_path, assert_undisturbed):
    out = tmp_path / "a blank"
    process = begin(*words(file, out, "--fresh"), seconds=0.3)
    process.wait_for(lambda: epochs(out, "resnet_cifar") >= 2)
    process.send_signal(signal.SIGINT)
    _, err = ended(process, 130)
    assert "Resume with:" in err
    command = shlex.split(err.strip().splitlines()[-1])
    assert command == ["python", *words(file, out)], "without --fresh, which would begin again, and quoted"
    reached = epochs(out, "resnet_cifar")
    assert 2 <= reached < EPOCHS

    ended(begin(*command[1:], kill_at=2), -signal.SIGKILL)
    assert epochs(out, "resnet_cifar") == reached + 1
    assert list(out.glob("trained/*/.last.ckpt.tmp")), "the kill came while the checkpoint was written"
    assert not list(out.glob("trained/*/weights.safetensors"))

    process = begin(*command[1:], seconds=0)
    process.wait_for(lambda: tables(out, "vgg_cifar"))
    delay = random.Random().uniform(0, 1)
    print(f"killed {delay} s after the first epoch of vgg")
    time.sleep(delay)
    process.kill()
    process.communicate()
    (finished,) = out.glob("trained/resnet_cifar-*")
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.is_file()}
    assert finished / "done" in before

    told = program(*command[1:])
    assert told.returncode == 0, told.stderr
    assert "already trained" in told.stdout
    after = {file: file.stat().st_mtime_ns for file in finished.rglob("*") if file.is_file()}
    assert after == before, "a finished run is not trained again"
    assert_undisturbed(out)


def test_of_two_processes_and_their_parent_each_may_be_ended(begin, file, program, tmp_path, assert_undisturbed):
    out = tmp_path / "runs"
    command = words(file, out, "--workers", 2)
    process = begin(*command)
    process.wait_for(lambda: len(tables(out)) == 2)
    workers = [int(file.name) for file in (tmp_path / "processes").iterdir()]
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)  # to the parent alone: it tells the others
    _, err = ended(process, 130)
    assert "Resume with:" in err
    assert not any(map(is_running, workers))

    before = epochs(out)
    process = begin(*command)
    process.wait_for(lambda: epochs(out) > before)
    (worker, _) = {int(file.name) for file in (tmp_path / "processes").iterdir()} - set(workers)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(240)
    assert process.returncode == 1, err
    assert "a process ended without a word" in err
    assert "resume with:" in err
    workers = [int(file.name) for file in (tmp_path / "processes").iterdir()]
    assert not any(map(is_running, workers)), "the other one is stopped too"

    before = epochs(out)
    process = begin(*command)
    process.wait_for(lambda: epochs(out) > before)
    process.kill()
    process.communicate()
    # Or two processes would write the same run when the command is repeated.
    wait_for(lambda: not any(map(is_held, (out / ".locks").iterdir())))
    assert len(done(out)) < 2, "they end when they find themselves alone"

    assert program(*words(file, out)).returncode == 0
    assert min(run["resumed_from_epoch"] for run in done(out)) >= 1
    assert_undisturbed(out)


def test_one_of_two_commands_on_the_same_folder_is_killed(begin, file, tmp_path, assert_undisturbed):
    out = tmp_path / "runs"
    killed = begin(*words(file, out, arms=["vgg"]), seconds=300)
    killed.wait_for(lambda: tables(out, "vgg_cifar"))
    other = begin(*words(file, out), seconds=1)
    other.wait_for(lambda: tables(out, "resnet_cifar"))
    assert killed.poll() is None
    killed.kill()
    killed.communicate()
    ended(other, 0)
    (vgg,) = done(out, "vgg_cifar")
    assert vgg["resumed_from_epoch"] >= 1, "what the killed command had done is not lost"
    assert_undisturbed(out)
