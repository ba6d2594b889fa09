"""The plans, the probe, the estimates and the verdicts of `spatial_transformer`, on invented records and the digits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file

import datamodules
from ablations.harness.ablation import BUDGETS, check
from ablations.harness.records import Record, Records, point, read_csv
from ablations.harness.verdict import judge
from ablations.spatial_transformer import (
    ABLATION,
    ADDITION,
    CLAIMS,
    CLUTTERED,
    FIXED_ST,
    FLIPPED,
    FULL,
    RANDOM,
    SAME_RATE,
    SMALL_ST,
    TRANSLATED,
    TURNED,
    UPSIDE_DOWN,
    arms_of,
    cheaper,
    gap,
    kept,
    largest_gap,
    matched,
)
from modules import build, fitted

SEEDS = range(9)
ERRORS = {
    **{arm: 4.0 for kind in ("r", "rts", "p", "e") for arm in arms_of((kind,), "cnn")},
    **{arm: 5.0 for kind in ("r", "rts", "p", "e") for arm in arms_of((kind,), "fcn")},
    **{f"{kind}_cnn": 6.0 for kind in ("r", "rts", "p", "e")},
    **{f"{kind}_fcn": 8.0 for kind in ("r", "rts", "p", "e")},
    "tc_fcn": 30.0, "tc_st_fcn_affine": 5.0, "tc_cnn": 20.0, "tc_st_cnn_affine": 4.0, SMALL_ST: 6.0,
    FIXED_ST: 12.0, RANDOM: 9.0, SAME_RATE: 7.0,
    ADDITION["fcn"]: 60.0, ADDITION["cnn"]: 40.0, ADDITION["one"]: 35.0, ADDITION["two"]: 20.0,
    FLIPPED: 5.0, TURNED: 9.0,
}  # fmt: skip
POSES = {
    (FULL, "scale/removed"): 70.0, (FULL, "shift/removed"): 90.0, (FLIPPED, "angle/removed"): 30.0,
    (FULL, "angle/removed"): 80.0, ("r_st_cnn_affine", "angle/removed"): 70.0, (TURNED, "angle/removed"): 20.0,
}  # fmt: skip


def evidence(
    errors: dict[str, float] | None = None,
    poses: dict[tuple[str, str], float] | None = None,
    kept: float = 95.0,
    small: float = 0.7,
    deviation: float = 1e-15,
    located: tuple[float, float] = (99.0, 90.0),
) -> Records:
    """Records of nine seeds in which every claim holds, but for the changes."""
    rows = []

    def row(arm: str, seed: int, where: str, metric: str, value: float) -> None:
        rows.append(Record(ABLATION.name, arm, seed, where, metric, value, "", f"{arm}-{seed}"))

    for seed in SEEDS:
        for number, (arm, value) in enumerate({**ERRORS, **(errors or {})}.items()):
            row(arm, seed, "test", "test/top1_error", value + 0.01 * ((seed + number) % 5))
        for (arm, metric), value in {**POSES, **(poses or {})}.items():
            row(arm, seed, "pose", metric, value + 0.001 * seed)
        row(FLIPPED, seed, point("class", label=UPSIDE_DOWN), "kept_upside_down", kept - 0.1 * seed)
        for arm, share in zip((TRANSLATED, CLUTTERED), located, strict=True):
            row(arm, seed, point("pairs", when="untrained"), "found", 5.0)
            row(arm, seed, point("pairs", when="trained"), "found", share + 0.05 * seed)
        row("tc_cnn", seed, "network", "multiply_adds", 1.0)
        row(SMALL_ST, seed, "network", "multiply_adds", small)
        for sampling in ("bilinear", "nearest"):
            row(FULL, seed, point("sampler", sampling=sampling), "gradient/deviation", deviation)
    return Records(rows)


def verdicts(records: Records) -> dict[str, str]:
    found = judge(CLAIMS, records, list(SEEDS), "laptop", "invented")
    return {verdict["claim"]: verdict["verdict"] for verdict in found}


def test_every_claim_can_be_reproduced() -> None:
    found = verdicts(evidence())
    assert set(found.values()) == {"reproduced"}
    assert set(found) == {claim.id for claim in CLAIMS}


@pytest.mark.parametrize(
    ("claim", "changed"),
    [
        ("ST1", evidence({"p_fcn": 4.0})),
        ("ST1", evidence({"e_cnn": 3.0})),
        ("ST2", evidence({"rts_fcn": 80.0})),
        ("ST2", evidence({"tc_cnn": 4.5})),
        ("ST3", evidence({"r_st_fcn_affine": 7.0})),
        ("ST4a", evidence(poses={(FULL, "scale/removed"): 30.0})),
        ("ST4a", evidence(poses={(FULL, "shift/removed"): 30.0})),
        ("ST4b", evidence(poses={(FULL, "angle/removed"): 30.0})),
        ("ST5", evidence(kept=20.0)),
        ("ST5", evidence(poses={(TURNED, "angle/removed"): 90.0})),
        ("ST6", evidence({FIXED_ST: 5.0})),
        ("ST6", evidence({FIXED_ST: 3.0})),
        ("ST7", evidence({RANDOM: 3.0})),
        ("ST7", evidence({SAME_RATE: 3.0})),
        ("ST8", evidence({SMALL_ST: 25.0})),
        ("ST8", evidence(small=0.9)),
        ("ST9", evidence(deviation=1e-3)),
        ("ST10", evidence({ADDITION["one"]: 15.0})),
        ("ST10", evidence({ADDITION["cnn"]: 15.0})),
        ("ST11", evidence(located=(60.0, 90.0))),
        ("ST11", evidence(located=(99.0, 40.0))),
    ],
)
def test_every_claim_can_be_contradicted(claim: str, changed: Records) -> None:
    assert verdicts(changed)[claim] == "contradicted"


def test_estimates_by_hand() -> None:
    errors = {"r_fcn": 9.0, "r_st_fcn_affine": 5.0, "r_st_fcn_projective": 4.0, "r_st_fcn_tps": 3.0, "r_cnn": 3.5}
    rows = [
        Record(ABLATION.name, arm, seed, "test", "test/top1_error", value + seed, "%", arm)
        for seed in (0, 1)
        for arm, value in {**ERRORS, **errors}.items()
        if not (seed == 1 and arm == "r_st_fcn_tps")
    ]
    assert gap(Records(rows), "r", "fcn") == {0: 5.0}, "a seed without one of the arms has no gap"
    assert gap(Records(rows), "r", "fcn", ("affine",)) == {0: 4.0, 1: 4.0}
    assert largest_gap(Records(rows), "fcn") == {0: 21.0, 1: 21.0}, "30 - 5 less 9 - 5"
    assert matched(Records(rows)) == {0: -0.125, 1: -0.125}, "R: 9 - 5 less three quarters of 9 - 3.5"
    assert cheaper(Records(rows)) == {}


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
    assert verdicts(records)["ST5"] == "undecided"
    assert set(kept(evidence())) == set(SEEDS)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("size", [16, 28])
def test_every_network_can_be_built(budget: str, size: int) -> None:
    data = SimpleNamespace(image_size=size, identity={"num_train": 10_000})
    plan = ABLATION.plan(budget, data)
    rooms = {"digit_addition": 42, "same_digits": 84}
    for arm in plan.arms:
        made = dict(arm.data)
        room = rooms.get(made["name"]) or {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}[made["kind"]]
        digit = made["size"] * 28 / room
        classes, channels = (19, 2) if room == 42 and "addition" in made["name"] else (10, 1 + (room == 84))
        network = build(arm.network, classes, channels, **fitted(arm.network, arm.arguments, made["size"]))
        assert network.input_size is not None
        assert digit > 7.5
    trained = {arm.name: arm for arm in plan.arms}
    assert trained[SAME_RATE].recipe["localisation_factor"] == 10 * trained[FULL].recipe["localisation_factor"]


@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound(budget: str) -> None:
    digits = datamodules.load("digits")
    plan = ABLATION.plan(budget, digits)
    check(ABLATION, plan)
    arms = {arm.name: arm for arm in plan.arms}
    kinds = {arm.data["kind"] for arm in plan.arms if arm.data["name"] == "distorted_digits"}
    assert kinds == {"R", "RTS", "P", "E", "TC"}
    assert arms[FLIPPED].data["upside_down"] == [UPSIDE_DOWN]
    steps = arms["r_cnn"].recipe["epochs"] * len(digits.train) / arms["r_cnn"].recipe["batch_size"]  # type: ignore[operator]
    if budget == "smoke":
        assert arms["r_cnn"].recipe["epochs"] == 1
    else:
        assert steps == pytest.approx({"laptop": 360, "short": 3_000, "paper": 150_000}[budget], rel=0.05)


def test_it_takes_no_network_from_outside() -> None:
    with pytest.raises(ValueError, match="no network from outside"):
        ABLATION.check({}, object())


# --- the command ---


@pytest.fixture(scope="module")
def command(python: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, str]]:
    """Runs the script's smoke budget with some arms; gives --out and what was printed."""

    def run(name: str, *words: object) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp(name)
        done = python(
            "ablations/spatial_transformer.py", "--budget", "smoke", "--wandb", "disabled", "--out", out, *words,
            "--trainer.accelerator", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
        return out, done.stdout  # type: ignore[attr-defined]

    return run


ARMS = ("--arms", FULL, ADDITION["two"], FLIPPED, TRANSLATED)


def test_arms_have_data_of_their_own_and_leave_pictures(command: Callable[..., tuple[Path, str]]) -> None:
    out, _ = command("alone", *ARMS)
    configs = [json.loads(file.read_text())["data"] for file in (out / "trained").glob("*/config.json")]
    assert {data["made"]["maker"] for data in configs} == {"DistortedDigits", "DigitAddition", "SameDigits"}
    folder = out / "ablations" / "spatial_transformer" / "smoke-digits"
    losses = {record.arm: record.unit for record in read_csv(folder / "records.csv") if record.metric == "test/loss"}
    assert losses == {**dict.fromkeys(ARMS[1:], "nats"), TRANSLATED: ""}, "the loss of triplets is a distance"
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
