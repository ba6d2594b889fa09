"""Two processes on one CPU: the same command trains, tests count every image once, divergence ends both processes."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from kept_wandb import Kept, models
from safetensors.torch import load_file

import datamodules
from modules import build
from modules.weights import load_weights

ROOT = Path(__file__).parents[2]

# Each of the two processes runs this file. The test set is cut to an odd size, and evaluation batches so that one
# process has two and the other one: nothing may wait for a batch that never comes.
ODD = """
import json, sys
from pathlib import Path
import torch
import datamodules
from ablations.harness import runtime
from ablations.harness.store.runs import Run
from ablations.harness.training import step_losses
from ablations.harness.training.callbacks import Diverged
from ablations.harness.training.train import train
from datamodules import images
from modules.training.classifier import Classifier
from modules.training.recipe import Recipe

out, poisoned = Path(sys.argv[1]), sys.argv[2] == "poisoned"
runtime.quiet()
images.EVALUATION_BATCH_SIZE = 224
step_losses.EVERY, step_losses.BEYOND = 10, 20
data = datamodules.load("digits")
data.test = data.test[torch.arange(449)]
recipe = Recipe(epochs=2, batch_size=64, learning_rate=0.05)
arguments = {"depth": 8, "width": 4, "survival_prob": 0.5}
options = {"devices": 2, "strategy": "ddp", "accelerator": "cpu"}
step, losses = Classifier.training_step, []
def keep(self, batch, index):
    loss = step(self, batch, index)
    losses.append(loss.item())
    bad = poisoned and self.global_rank == 1 and self.global_step == 20
    return loss * float("nan") if bad else loss
Classifier.training_step = keep
run = Run("resnet_cifar", arguments, recipe, data.identity, 0, options)
try:
    train(run, data, out, show_progress=False)
    (out / f"losses{torch.distributed.get_rank()}.json").write_text(json.dumps(losses))
except Diverged as error:
    print("DIVERGED", error.step)
"""


@pytest.fixture(scope="module")
def odd(start, tmp_path_factory):
    """Both runs of the script above: out, and exit code, stdout and stderr of its processes."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.py").write_text(ODD)
    found = {}
    for way in ("sound", "poisoned"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        # As Lightning starts them, which test_the_command_trains_in_two_processes leaves to it.
        both = [start(folder / "odd.py", folder / way, way, LOCAL_RANK=str(rank), **where) for rank in range(2)]
        told = [process.communicate(240) for process in both]
        found[way] = folder / way, [(process.returncode, *said) for process, said in zip(both, told, strict=True)]
    return found


@torch.no_grad()
def evaluated(network, data, rows):
    """Loss and top-1 error of one process, by a plain loop."""
    network = network.to(memory_format=torch.channels_last).eval()
    loss, wrong = 0.0, 0
    for images, labels in data.evaluation_batches("test"):
        images, labels = images[:rows], labels[:rows]
        logits = network(images)
        loss += torch.nn.functional.cross_entropy(logits.double(), labels, reduction="sum").item()
        wrong += int((logits.argmax(1) != labels).sum())
    return loss / rows, 100 * wrong / rows


def only(folder):
    (found,) = folder.iterdir()
    return found


def test_an_odd_test_set_counts_every_image_once(odd, digits):
    out, ended = odd["sound"]
    assert [code for code, *_ in ended] == [0, 0], ended
    folder = only(out / "trained")
    network = build("resnet_cifar", 10, 1, depth=8, width=4, survival_prob=0.5)
    load_weights(network, folder / "weights.safetensors")
    loss, error = evaluated(network, digits, 449)
    done = json.loads((folder / "done").read_text())
    assert done["test/top1_error"] == error
    assert done["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3
    environment = json.loads((folder / "environment.json").read_text())
    assert (environment["processes"], environment["batch_per_process"]) == (2, 32)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    saved = load_file(folder / "weights.safetensors")
    assert all(torch.equal(checkpoint["state_dict"][f"network.{name}"], saved[name]) for name in saved)


def test_a_loss_between_epochs_is_the_mean_over_both_processes(odd):
    out, _ = odd["sound"]
    checkpoint = torch.load(only(out / "trained") / "last.ckpt", weights_only=True)
    first, second = (json.loads((out / f"losses{rank}.json").read_text()) for rank in (0, 1))
    assert first != second
    rows = checkpoint["callbacks"]["StepLosses"]["rows"]
    assert [row["step"] for row in rows] == [10, 20, 30]
    for row in rows:
        steps = slice(row["step"] - 10, row["step"])
        assert row["train/loss_step"] == pytest.approx(sum(first[steps] + second[steps]) / 20, rel=1e-6)


def test_one_process_that_diverges_ends_both(odd):
    out, ended = odd["poisoned"]
    assert [(code, told) for code, told, _ in ended] == [(0, "DIVERGED 21\n")] * 2, "both processes end alike"
    folder = only(out / "trained")
    assert json.loads((folder / "diverged").read_text())["step"] == 21
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 18, "of the first epoch"
    assert not (folder / "done").exists()


def test_the_command_trains_in_two_processes(program, smoke, tmp_path):
    hiding = tmp_path / "elsewhere" / "modules" / "__init__.py"  # `python -m` would import it
    hiding.parent.mkdir(parents=True)
    hiding.touch()
    done = program(
        ROOT / "ablations" / "remove_layers.py", "--budget", "smoke", "--seeds", "1", "--arms", "preact_resnet",
        "--out", tmp_path,
        "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.accelerator", "cpu", "--wandb-weights",
        folder=tmp_path / "elsewhere",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("test error") == 1
    folder = only(tmp_path / "trained")
    config = json.loads((folder / "config.json").read_text())
    network = build("resnet_cifar", 10, 1, **{name: config["network"][name] for name in ("depth", "width", "order")})
    load_weights(network, folder / "weights.safetensors")
    loss, error = evaluated(network, datamodules.load("digits", split_seed=0), 450)
    found = json.loads((folder / "done").read_text())
    assert found["test/top1_error"] == error
    assert found["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    # Devices are no part of a run's identity, and the batches are the same: the result is near that of one process.
    alone = smoke[0] / "trained" / folder.name
    assert json.loads((alone / "config.json").read_text()) == config
    assert found["test/loss"] == pytest.approx(json.loads((alone / "done").read_text())["test/loss"], abs=0.5)
    tracked = [Kept(run) for run in (tmp_path / "wandb").glob("offline-run-*")]
    kinds = {run.run["job_type"]: run for run in tracked}
    assert len(kinds) == len(tracked) == 3, "one W&B run per trained run, probe and ablation, not one per process"
    train, probe = kinds["train"], kinds["probe"]
    assert train.config["run"] == probe.config["run"] == folder.name
    assert models(train.makes) == models(probe.uses) == [folder.name]
    assert probe.config["train_run"] == train.run["run_id"]
    assert os.path.exists(tmp_path / "ablations" / "remove_layers" / "smoke-digits" / "report.html")
