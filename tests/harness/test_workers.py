"""Runs side by side leave what runs one after the other leave; failures and Ctrl-C end all of them."""

import csv
import fcntl
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import load_file

from ablations.harness.command.command_line import Options
from ablations.harness.execution.workers import WORTH_STEPS, worth
from ablations.remove_layers import ABLATION

ROOT = Path(__file__).parents[2]
BROKEN = """
def broken(subject):
    raise RuntimeError(f"no answer about {subject.arm}")

small_ablation = replace(small_ablation, probe=broken)
"""
# A third arm that is the first under another name: the same run.
TWICE = """
from dataclasses import dataclass

@dataclass
class Needs:
    its_module: "int" = 0

def twice(budget, data):
    planned = small(budget, data)
    return replace(planned, arms=(*planned.arms, replace(planned.arms[0], name="again")), snapshots=3)

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


def trial(steps, device="cpu", workers=None, **trainer):
    """As much of a trial as the decision looks at: two runs of so many steps."""
    recipe = SimpleNamespace(epochs=steps // 2, batch_size=5)
    run = SimpleNamespace(recipe=recipe, data={"num_train": 10}, trainer=trainer)
    return SimpleNamespace(
        ablation=ABLATION,
        options=Options("laptop", "digits", Path(), Path(), workers=workers, trainer=trainer),
        jobs=[SimpleNamespace(run=run)] * 2,
        device=SimpleNamespace(type=device),
    )


def test_processes_are_used_where_they_are_worth_it(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    groups = [[0], [1]]
    assert worth(trial(WORTH_STEPS), groups) == 2, "no more than there is to do"
    assert worth(trial(WORTH_STEPS // 4), groups) == 1
    assert worth(trial(WORTH_STEPS // 2), groups) == 2
    assert worth(trial(WORTH_STEPS // 2, limit_train_batches=1), groups) == 1, "half of the batches are left out"
    assert worth(trial(WORTH_STEPS // 2, accumulate_grad_batches=2), groups) == 2, "as many batches in half the steps"
    assert worth(trial(WORTH_STEPS, "cuda"), groups) == 1
    assert worth(trial(WORTH_STEPS, workers=1), groups) == 1
    assert worth(trial(1, workers=2), groups) == 2
    assert worth(trial(WORTH_STEPS, workers=2), []) == 1
    assert worth(trial(WORTH_STEPS, devices=2), groups) == 1
    unknown = trial(WORTH_STEPS)
    unknown.ablation = replace(ABLATION)  # no name stands for it in a file
    assert worth(unknown, groups) == 1


def is_held(lock):
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
