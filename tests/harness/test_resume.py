"""A killed program goes on where it was and ends with the same weights, to the last bit."""

import random
import shlex
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ablations.harness.launch import main

ROOT = Path(__file__).parents[2]

# A kill -9 in the middle of a checkpoint's bytes, at a place that no outsider could hit.
KILLS_ITSELF = """
import os, signal
import lightning

at, save, calls = int(os.environ.get("KILL_AT_CHECKPOINT", 0)), lightning.Trainer.save_checkpoint, []

def cut_off(self, path, *arguments, **keywords):
    save(self, path, *arguments, **keywords)
    calls.append(1)
    if len(calls) == at:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

if at:
    lightning.Trainer.save_checkpoint = cut_off
"""


def ended(process, code):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def epochs(out, network):
    """Finished epochs of the only run of a network, from its table."""
    tables = list(out.glob(f"trained/{network}-*/metrics.csv"))
    return len(tables[0].read_text().splitlines()) - 1 if tables else 0


def weights(out):
    return {file.parent.name: load_file(file) for file in out.glob("trained/*/weights.safetensors")}


def same_weights(one, other):
    return one.keys() == other.keys() and all(
        one[run].keys() == other[run].keys() and all(one[run][name].equal(other[run][name]) for name in one[run])
        for run in one
    )


def times(folder):
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_ctrl_c_and_kill_and_kill_again(start, script, small_ablation, tmp_path):
    out, whole = tmp_path / "a blank", tmp_path / "whole"
    file = script({"epochs": 8}, KILLS_ITSELF)
    words = [file, "--budget", "smoke", "--arms", "stochastic_depth", "vgg", "--wandb", "disabled"]
    words += ["--trainer.accelerator", "cpu", "--out", out]

    process = start(*words, "--fresh")
    process.wait_for(lambda: epochs(out, "resnet_cifar") >= 2)
    process.send_signal(signal.SIGINT)
    _, err = ended(process, 130)
    assert "Resume with:" in err
    assert "Traceback" not in err
    command = shlex.split(err.strip().splitlines()[-1])
    assert command == ["python", *map(str, words)], "without --fresh, which would begin again, and quoted"
    reached = epochs(out, "resnet_cifar")
    assert 2 <= reached < 8

    ended(start(*command[1:], KILL_AT_CHECKPOINT="2"), -signal.SIGKILL)
    assert epochs(out, "resnet_cifar") == reached + 1
    assert list(out.glob("trained/*/.last.ckpt.tmp")), "the kill came while the checkpoint was written"
    assert not weights(out)

    process = start(*command[1:])
    process.wait_for(lambda: epochs(out, "vgg_cifar") >= 1)
    delay = random.Random().uniform(0, 1)
    time.sleep(delay)
    process.kill()
    process.communicate()
    finished = next(out.glob("trained/resnet_cifar-*"))
    before = times(finished)
    assert finished / "done" in before

    told, _ = ended(start(*command[1:]), 0)
    assert "already trained" in told
    assert times(finished) == before, "a finished run is not trained again"
    assert not list(out.rglob(".last.ckpt.tmp"))

    with pytest.raises(SystemExit) as code:
        main(small_ablation(epochs=8), [*map(str, words[1:-1]), str(whole)])
    assert code.value.code == 0
    assert len(weights(out)) == 2
    assert same_weights(weights(out), weights(whole)), f"killed {delay} s after the first epoch of vgg"


def test_the_command_itself_survives_a_kill_at_a_random_moment(start, smoke, tmp_path):
    """Of the smoke run, two arms with one seed; the runs are the same whatever else the command asks for."""
    uninterrupted, _ = smoke
    words = ["ablations/remove_layers.py", "--budget", "smoke", "--arms", "vgg_bn", "preact_resnet", "--seeds", "1"]
    words += ["--wandb", "disabled", "--trainer.accelerator", "cpu", "--out", tmp_path]
    process = start(*words)
    process.wait_for(lambda: list(tmp_path.glob("trained/*/config.json")))
    delay = random.Random().uniform(0, 2)
    time.sleep(delay)
    process.kill()
    process.communicate()
    ended(start(*words), 0)
    found, expected = weights(tmp_path), weights(uninterrupted)
    assert len(found) == 2
    assert same_weights(found, {run: expected[run] for run in found}), f"killed {delay} s after the start of training"
