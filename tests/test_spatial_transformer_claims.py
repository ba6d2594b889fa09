"""The plans, the probe, the estimates and the verdicts of `spatial_transformer`, on invented records and the digits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import datamodules
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point, read_records
from ablations.harness.verdict import judge
from ablations.spatial_transformer import (
    ABLATION,
    ADDITION,
    CLAIMS,
    CLUTTERED,
    FIXED_ST,
    FLIPPED,
    FULL,
    HALF_ST,
    KINDS,
    RANDOM,
    SAME_RATE,
    SMALL_ST,
    TRANSFORMS,
    TRANSLATED,
    TURNED,
    UPSIDE_DOWN,
    beyond,
    gap,
    kept,
)
from modules import build, fitted
from modules.blocks.cost import cost

SEEDS = range(11)
ERRORS = {
    **{f"{kind}_{trunk}": error for kind in KINDS for trunk, error in (("cnn", 6.0), ("fcn", 8.0))},
    **{f"{kind}_st_{trunk}_{transform}": error for kind in KINDS for trunk, error in (("cnn", 4.0), ("fcn", 5.0))
       for transform in TRANSFORMS},
    "tc_fcn": 30.0, "tc_st_fcn_affine": 5.0, "tc_cnn": 20.0, "tc_st_cnn_affine": 4.0, SMALL_ST: 6.0,
    FIXED_ST: 12.0, RANDOM: 9.0, SAME_RATE: 7.0,
    ADDITION["fcn"]: 60.0, ADDITION["cnn"]: 40.0, ADDITION["one"]: 35.0, ADDITION["two"]: 20.0,
    FLIPPED: 5.0, TURNED: 9.0,
}  # fmt: skip
POSES = {
    (FULL, "scale/removed"): 70.0, (FULL, "shift/removed"): 90.0, (FLIPPED, "angle/removed"): 30.0,
    (FULL, "angle/removed"): 80.0, ("r_st_cnn_affine", "angle/removed"): 70.0, (TURNED, "angle/removed"): 20.0,
}  # fmt: skip


def evidence(poses: dict[tuple[str, str], float] | None = None) -> Records:
    """Records of eleven seeds in which every claim holds, but for the changes."""
    rows = []

    def row(arm: str, seed: int, where: str, metric: str, value: float) -> None:
        rows.append(Record(ABLATION.name, arm, seed, where, metric, value, "", f"{arm}-{seed}"))

    for seed in SEEDS:
        for number, (arm, value) in enumerate(ERRORS.items()):
            row(arm, seed, "test", "test/top1_error", value + 0.01 * ((seed + number) % 5))
        for (arm, metric), value in {**POSES, **(poses or {})}.items():
            row(arm, seed, "pose", metric, value + 0.001 * seed)
        row(FLIPPED, seed, point("class", label=UPSIDE_DOWN), "kept_upside_down", 95.0 - 0.1 * seed)
        for arm, share in zip((TRANSLATED, CLUTTERED), (99.0, 90.0), strict=True):
            row(arm, seed, point("pairs", when="untrained"), "found", 5.0)
            row(arm, seed, point("pairs", when="trained"), "found", share + 0.05 * seed)
        row("tc_cnn", seed, "network", "multiply_adds", 1.0)
        row(SMALL_ST, seed, "network", "multiply_adds", 0.7)
        for sampling in ("bilinear", "nearest"):
            row(FULL, seed, point("sampler", sampling=sampling), "gradient/deviation", 1e-15)
    return Records(rows)


def test_estimates_by_hand() -> None:
    errors = {"r_fcn": 9.0, "r_st_fcn_affine": 5.0, "r_st_fcn_projective": 4.0, "r_st_fcn_tps": 3.0, "r_cnn": 3.5}
    left_out = {(1, "r_st_fcn_tps"), (2, "rts_cnn"), (3, "rts_fcn"), (4, "rts_st_fcn_affine")}
    rows = Records(
        Record(ABLATION.name, arm, seed, "test", "test/top1_error", value * (seed + 1), "%", arm)
        for seed in range(5)
        for arm, value in {**ERRORS, **errors}.items()
        if (seed, arm) not in left_out
    )
    assert gap("r", "fcn").by_seed(rows) == {0: 5.0, 2: 15.0, 3: 20.0, 4: 25.0}, (
        "a seed without one of the arms has no gap"
    )
    assert gap("r", "fcn", ("affine",)).by_seed(rows) == {seed: 4.0 * (seed + 1) for seed in range(5)}
    assert beyond("r").by_seed(rows) == {seed: -0.125 * (seed + 1) for seed in range(5)}, "9 - 5 less 3 / 4 of 9 - 3.5"
    assert beyond("rts").by_seed(rows) == {0: 1.5, 1: 3.0}, "8 - 5 less 3 / 4 of 8 - 6; the other seeds lack an arm"
    tests = {(claim.id, test.name): test.measure.by_seed for claim in CLAIMS for test in claim.tests}
    assert tests["ST1", "fcn_r"](rows) == gap("r", "fcn").by_seed(rows)
    assert tests["ST2", "fcn_r"](rows) == {seed: 21.0 * (seed + 1) for seed in range(5)}, "30 - 5 less 9 - 5"
    assert tests["ST2", "cnn_e"](rows) == {seed: 14.0 * (seed + 1) for seed in range(5)}, "20 - 4 less 6 - 4"
    cheaper, sampler = tests["ST8", "cost"], tests["ST9", "sampler"]
    assert (cheaper(rows), sampler(rows)) == ({}, {})
    apart = [Record(ABLATION.name, FULL, 3, point("sampler", sampling="x"), "gradient/deviation", 0.5, "", FULL)]
    assert sampler(Records([*evidence(), *apart])) == {0: 0.5}, "the largest of any seed and sampling"
    assert cheaper(evidence()) == {0: 0.7}


@pytest.mark.parametrize("arm", ["e_st_fcn_tps", "e_st_cnn_affine", "p_st_fcn_affine", FULL])
def test_an_arm_that_diverged_decides_nothing(arm: str) -> None:
    rows = [
        replace(row, value=math.nan) if (row.arm, row.metric) == (arm, "test/top1_error") and row.seed else row
        for row in evidence()
    ]
    claims = [claim for claim in CLAIMS if any(arm in test.arms for test in claim.tests)]
    found = {v["claim"]: v for v in judge(claims, Records(rows), list(SEEDS), "laptop", "invented", len(CLAIMS))}
    decided = {claim: verdict["verdict"] for claim, verdict in found.items() if claim not in ("ST4a", "ST4b", "ST9")}
    assert set(decided.values()) == {"undecided"}
    assert all(arm in found[claim]["why"] for claim in decided)


def test_a_transformer_that_turns_nothing_says_nothing_of_poses() -> None:
    records = evidence(poses={(FLIPPED, "angle/removed"): 3.0})
    assert kept(records) == {}
    assert set(kept(evidence())) == set(SEEDS)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("size", [16, 28])
def test_every_network_can_be_built(budget: str, size: int) -> None:
    data = SimpleNamespace(image_size=size, identity={"num_train": 10_000})
    plan = ABLATION.plan(budget, data)
    rooms = {"digit_addition": 42, "same_digits": 84}
    for arm in plan.arms:
        made: dict[str, Any] = dict(arm.data)
        room = rooms.get(made["name"]) or {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}[made["kind"]]
        digit = made["size"] * 28 / room
        classes, channels = (19, 2) if room == 42 and "addition" in made["name"] else (10, 1 + (room == 84))
        network = build(arm.network, classes, channels, **fitted(arm.network, arm.arguments, made["size"]))
        assert network.input_size is not None
        assert digit > 7.5
    trained = {arm.name: arm for arm in plan.arms}
    rates: list[Any] = [trained[name].recipe["localisation_factor"] for name in (SAME_RATE, FULL)]
    assert rates[0] == 10 * rates[1]


@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound(budget: str) -> None:
    digits = datamodules.load("digits")
    plan = ABLATION.plan(budget, digits)
    check(ABLATION, plan)
    arms = {arm.name: arm for arm in plan.arms}
    kinds = {arm.data["kind"] for arm in plan.arms if arm.data["name"] == "distorted_digits"}
    assert kinds == {"R", "RTS", "P", "E", "TC"}
    assert arms[FLIPPED].data["upside_down"] == [UPSIDE_DOWN]
    assert plan.seeds == (1 if budget == "smoke" else len(SEEDS))
    steps = arms["r_cnn"].recipe["epochs"] * len(digits.train) / arms["r_cnn"].recipe["batch_size"]  # type: ignore[operator]
    if budget == "smoke":
        assert arms["r_cnn"].recipe["epochs"] == 1
    else:
        assert steps == pytest.approx({"laptop": 360, "short": 3_000, "paper": 150_000}[budget], rel=0.05)


@pytest.mark.parametrize("budget", ["laptop", "paper"])
def test_what_attends_to_half_costs_more_than_to_a_third_and_less_than_all_pixels(budget: str) -> None:
    arms = {arm.name: arm for arm in ABLATION.plan(budget, datamodules.load("digits")).arms}
    whole, costs = "tc_st_cnn_affine", []
    for name in (SMALL_ST, HALF_ST, whole):
        size: Any = arms[name].data["size"]
        network = build(arms[name].network, 10, 1, **fitted(arms[name].network, arms[name].arguments, size))
        costs.append(cost(network, (1, size, size)).multiply_adds)
    assert costs[0] < costs[1] < costs[2]
    assert arms[HALF_ST].arguments["output_size"] == pytest.approx(arms[whole].data["size"] / 2, abs=0.5)


def test_passes_are_those_over_all_test_images() -> None:
    told = {FULL: 1.0, FLIPPED: 1.0, TRANSLATED: 2.0, CLUTTERED: 2.0, "rts_cnn": 0.0}
    told |= dict.fromkeys(ADDITION.values(), 0.0)  # a few images for pictures
    assert {arm: ABLATION.passes(3, {"arm": arm}) for arm in told} == told


def test_it_takes_no_network_from_outside() -> None:
    with pytest.raises(ValueError, match="no network from outside"):
        ABLATION.check({}, object())


# --- the command ---


@pytest.fixture(scope="module")
def command(program: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, str]]:
    """Runs the script's smoke budget with some arms; gives --out and what was printed."""

    def run(name: str, *words: object) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp(name)
        done = program(
            "ablations/spatial_transformer.py", "--budget", "smoke", "--wandb", "disabled", "--out", out, *words,
            "--trainer.accelerator", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return out, done.stdout

    return run


ARMS = ("--arms", FULL, ADDITION["two"], FLIPPED, TRANSLATED)


def test_arms_have_data_of_their_own_and_leave_pictures(command: Callable[..., tuple[Path, str]]) -> None:
    out, _ = command("alone", *ARMS)
    configs = [json.loads(file.read_text())["data"] for file in (out / "trained").glob("*/config.json")]
    assert {data["made"]["maker"] for data in configs} == {"DistortedDigits", "DigitAddition", "SameDigits"}
    folder = out / "ablations" / "spatial_transformer" / "smoke-digits"
    records = read_records(folder)
    losses = {record.arm: record.unit for record in records if record.metric == "test/loss"}
    assert losses == {**dict.fromkeys(ARMS[1:], "nats"), TRANSLATED: ""}, "the loss of triplets is a distance"
    poses = {row.metric: row.value for row in records.where(FULL, 0, "pose") if row.metric.endswith("removed")}
    assert set(poses) == {"shift/removed", "scale/removed", "angle/removed"}
    assert all(math.isfinite(value) for value in poses.values())
    deviations = {row.fields["sampling"]: row.value for row in records.where(FULL, 0, "sampler")}
    assert set(deviations) == {"bilinear", "nearest"}
    assert max(deviations.values()) <= 1e-9
    ((kept_arm, kept_metric),) = {(row.arm, row.metric) for row in records.where(probe="class", label=UPSIDE_DOWN)}
    assert (kept_arm, kept_metric) == (FLIPPED, "kept_upside_down")
    (before,), (after,) = (
        records.where(TRANSLATED, 0, "pairs", "iou", when=w).values() for w in ("untrained", "trained")
    )
    assert before != after, "of the network at the start, and of the trained one"
    assert {row.fields["when"] for row in records.where(metric="found")} == {"untrained", "trained"}
    files = folder / "files"
    looks = np.load(files / f"{FULL}-s0" / "looks.npz", allow_pickle=False)
    assert looks["images"].shape == looks["outputs"].shape == (10, 12, 12)
    assert looks["outlines"].shape == (10, 32, 2)
    training = np.load(files / f"{FULL}-s0" / "training.npz", allow_pickle=False)
    assert training["epochs"].tolist() == [0, 1]
    assert np.abs(training["outputs"][0].astype(int) - training["images"]).max() <= 1, "the identity at the start"
    assert np.array_equal(training["outputs"][-1], looks["outputs"])
    two = np.load(files / f"{ADDITION['two']}-s0" / "looks.npz", allow_pickle=False)
    assert two["outputs"].shape == (2, 10, 2, 12, 12)
    pairs = np.load(files / f"{TRANSLATED}-s0" / "pairs.npz", allow_pickle=False)
    assert pairs["images"].shape == (6, 2, 30, 30)
    assert pairs["found_boxes"].shape == pairs["true_boxes"].shape == (6, 2, 4)


def test_two_processes_train_the_same_data(command: Callable[..., tuple[Path, str]]) -> None:
    alone, _ = command("one", *ARMS)
    both, printed = command("two", *ARMS, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert (printed.count("test error"), printed.count("test triplet error")) == (3, 1)
    for folder in (alone / "trained").iterdir():
        other = both / "trained" / folder.name
        assert json.loads((other / "environment.json").read_text())["processes"] == 2
        if folder.name.startswith("st_colocalisation"):  # each process draws random crops of its own
            continue
        ours, theirs = load_file(folder / "weights.safetensors"), load_file(other / "weights.safetensors")
        assert all(np.allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-4) for name in ours)
