"""What is special of `spatial_transformer`: networks for digits of every size, and runs that make their images."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.store.records import read_records
from ablations.spatial_transformer import ADDITION, FLIPPED, FULL, HALF_ST, SMALL_ST, TRANSLATED, UPSIDE_DOWN, plan
from modules import build, fitted
from modules.blocks.cost import cost

ARMS = (FULL, ADDITION["two_st"], FLIPPED, TRANSLATED)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("size", [16, 28])
def test_every_network_can_be_built(budget: str, size: int) -> None:
    shapes = {"distorted_digits": (10, 1), "digit_addition": (19, 2), "same_digits": (10, 2)}
    for arm in plan(Scale(budget, "digits", size, 10_000, 500, channels=1)).arms:
        classes, channels = shapes[arm.data["name"]]
        width: int = arm.data["size"]
        with torch.device("meta"):
            network = build(arm.network, classes, channels, **fitted(arm.network, arm.arguments, width)).eval()
            given = network(torch.zeros(2, channels, width, width))
        assert given.shape[0] == 2, arm.name
        assert given.shape[1] == classes or arm.data["name"] == "same_digits", arm.name


@pytest.mark.parametrize("budget", ["laptop", "paper"])
def test_what_attends_to_half_costs_more_than_to_a_third_and_less_than_all_pixels(budget: str) -> None:
    arms = {arm.name: arm for arm in plan(Scale(budget, "digits", 16, 1_212, 450, channels=1)).arms}
    costs = []
    for arm in (arms[name] for name in (SMALL_ST, HALF_ST, "tc_st_cnn_affine")):
        size: int = arm.data["size"]
        network = build(arm.network, 10, 1, **fitted(arm.network, arm.arguments, size))
        costs.append(cost(network, (1, size, size)).multiply_adds)
    assert costs[0] < costs[1] < costs[2]
    assert arms[HALF_ST].arguments["output_size"] == pytest.approx(size / 2, abs=0.5)


@pytest.fixture(scope="module")
def command(program: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, str]]:
    """Runs the script's smoke budget with some arms; gives --out and what was printed."""

    def run(name: str, *words: object) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp(name)
        done = program(
            "ablations/spatial_transformer.py", "--budget", "smoke", "--wandb", "disabled", "--out", out,
            "--trainer.accelerator", "cpu", "--arms", *words,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return out, done.stdout

    return run


@pytest.fixture(scope="module")
def alone(command: Callable[..., tuple[Path, str]]) -> Path:
    return command("alone", *ARMS)[0]


def test_arms_have_data_of_their_own_and_leave_pictures(alone: Path) -> None:
    configs = [json.loads(file.read_text())["data"] for file in (alone / "trained").glob("*/config.json")]
    assert {data["made"]["maker"] for data in configs} == {"DistortedDigits", "DigitAddition", "SameDigits"}
    folder = alone / "ablations" / "spatial_transformer" / "smoke-digits"
    records = read_records(folder)
    losses = {record.arm: record.unit for record in records if record.metric == "test/loss"}
    assert losses == {**dict.fromkeys(ARMS, "nats"), TRANSLATED: ""}, "the loss of triplets is a distance"
    poses = {row.metric: row.value for row in records.where(FULL, 0, "pose") if row.metric.endswith("removed")}
    assert set(poses) == {"shift/removed", "scale/removed", "angle/removed"}
    assert all(math.isfinite(value) for value in poses.values())
    deviations = {row.fields["sampling"]: row.value for row in records.where(FULL, 0, "sampler")}
    assert set(deviations) == {"bilinear", "nearest"}
    assert max(deviations.values()) <= 1e-9
    assert {row.arm for row in records.where(probe="class", label=UPSIDE_DOWN)} == {FLIPPED}
    before, after = (
        records.where(TRANSLATED, 0, "pairs", "iou", when=when).values() for when in ("untrained", "trained")
    )
    assert before != after, "of the network at the start, and of the trained one"
    kept = {file.relative_to(folder / "files").as_posix(): np.load(file) for file in folder.glob("files/*/*.npz")}
    looks, training = kept[f"{FULL}-s0/looks.npz"], kept[f"{FULL}-s0/training.npz"]
    assert looks["images"].shape == looks["outputs"].shape == (10, 12, 12)
    assert looks["outlines"].shape == (10, 32, 2)
    assert training["epochs"].tolist() == [0, 1]
    assert np.abs(training["outputs"][0].astype(int) - training["images"]).max() <= 1, "the identity at the start"
    assert np.array_equal(training["outputs"][-1], looks["outputs"])
    assert kept[f"{ADDITION['two_st']}-s0/looks.npz"]["outputs"].shape == (2, 9, 2, 24, 24), "of nine sums"
    assert kept[f"{TRANSLATED}-s0/pairs.npz"]["images"].shape == (6, 2, 30, 30)


def test_two_processes_train_the_same_data(alone: Path, command: Callable[..., tuple[Path, str]]) -> None:
    both, printed = command("two", FULL, TRANSLATED, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert (printed.count("test error"), printed.count("test triplet error")) == (1, 1)
    trained = {folder.name.partition("-")[0]: folder for folder in (both / "trained").iterdir()}
    for folder in trained.values():
        assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    folder = trained["st_cnn"]  # of the other, each process draws random crops of its own
    ours, theirs = (load_file(root / "trained" / folder.name / "weights.safetensors") for root in (alone, both))
    assert all(np.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4) for name in ours)
