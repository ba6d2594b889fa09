"""Runs side by side leave what runs one after the other leave; failures and Ctrl-C end all of them."""

import csv
import fcntl
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import load_file

from ablations.harness.execution.engines import WORTH_STEPS, worth

ROOT = Path(__file__).parents[2]
BROKEN = """
from dataclasses import dataclass
from ablations.harness.declare.probe import Probe

@dataclass(frozen=True, kw_only=True)
class Broken(Probe):
    def ask(self, subject):
        raise RuntimeError(f"no answer about {subject.arm}")

small_ablation = replace(small_ablation, plan=lambda at: replace(small(at), probes=(Broken(),)))
"""
# A third arm that is the first under another name: the same run.
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
    again = replace(planned.arms[0], name="again")
    return replace(planned, arms=(*planned.arms, again), probes=(*planned.probes, Seen()))

small_ablation = replace(small_ablation, plan=twice)
"""


def words(file, out, *more):
    return [
        file, "--budget", "smoke", "--wandb", "disabled", "--trainer.accelerator", "cpu", "--out", out, *more
    ]  # fmt: skip


def records(out):
    """The rows of records.csv but for those that a clock measures."""
    with (out / "ablations/remove_layers/smoke-digits/records.csv").open(newline="") as stream:
        return [row for row in csv.reader(stream) if "seconds" not in row]


def weights(out):
    return {str(file.relative_to(out)): load_file(file) for file in out.glob("trained/**/*.safetensors")}


def test_side_by_side_is_as_one_after_the_other(script, program, tmp_path):
    file = script({"epochs": 2}, TWICE)
    arms = ["--arms", "preact_resnet", "vgg", "again"]
    found = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        done = program(*words(file, out, *arms, "--workers", workers))
        assert done.returncode == 0, done.stderr
        assert ("2 runs at once" in done.stdout) == (workers == 2)
        assert done.stdout.count("again seed 0: ") == done.stdout.count("already trained") == 1, "a shared run"
        found[workers] = records(out), weights(out)
    assert found[1][0] == found[2][0]
    assert found[1][1].keys() == found[2][1].keys()
    for name, tensors in found[1][1].items():
        assert all(tensors[key].equal(found[2][1][name][key]) for key in tensors), name
    names = {Path(name).name for name in found[2][1]}
    assert names == {"weights.safetensors", "epoch0000.safetensors", "epoch0001.safetensors", "epoch0002.safetensors"}
    again = program(*words(file, tmp_path / "2", *arms, "--workers", 2))
    assert again.stdout.count("already trained, already probed") == 3


def test_a_job_that_fails_is_named_and_the_others_end(script, program, tmp_path):
    file = script({"epochs": 1}, BROKEN)
    done = program(*words(file, tmp_path / "runs", "--arms", "preact_resnet", "vgg", "--workers", 2))
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


def is_held(lock):
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
