"""Claims on the loss landscape on invented records, plans of every budget, settings, and a network from outside."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.declare.precision import granted
from ablations.harness.launch import main
from ablations.harness.store.records import Record, Records, point, read_csv, read_records
from ablations.loss_landscape import (
    ABLATION,
    ALL,
    BATCHES,
    CLAIMS,
    PAIRS,
    PLAIN,
    RESIDUAL,
    concordance,
    map_points,
    median_over_points,
    rank_correlation,
)
from ablations.probes.landscape.surface_file import Surface
from modules import build
from modules.weights import save_weights


def row(arm, seed, where, metric, value, unit=""):
    return Record("loss_landscape", arm, seed, where, metric, float(value), unit, f"{arm}-{seed}")


def planes(seed, residual_20, residual_56, plain_20, plain_56):
    shares = zip(PAIRS, (residual_20, residual_56, plain_20, plain_56), strict=True)
    return [row(arm, seed, "plane", "share_nonconvex", share, "%") for arm, share in shares]


def rise(arm, seed, value, normalise="filter", draw=0):
    return row(arm, seed, point("line", normalise=normalise, draw=draw), "rise", value, "nats")


def on_map(arm, seed, alpha, least, largest, in_plane, residual=0.0):
    where = point("map", alpha=alpha, beta=0.0)
    named = {"hessian/least": least, "hessian/least_residual": residual, "hessian/largest": largest}
    named["curvature/least_in_plane"] = in_plane
    return [row(arm, seed, where, metric, value, "nats") for metric, value in named.items()]


def test_shares_are_compared_in_pairs():
    records = Records([*planes(0, 20, 22, 30, 60), *planes(1, 10, 40, 10, 30)])
    deep, depth = (test.measure.by_seed(records) for test in CLAIMS[0].tests)
    assert (deep, depth) == ({0: 38.0, 1: -10.0}, {0: 28.0, 1: -10.0})


def test_sharpness_is_ranked_against_test_error():
    errors = [row(arm, 0, "test", "test/top1_error", number, "%") for number, arm in enumerate(ALL)]
    same = [rise(arm, 0, number**2) for number, arm in enumerate(ALL)]
    reverse = [rise(arm, 0, -number, "none") for number, arm in enumerate(ALL)]
    records = Records([*errors, *same, *reverse])
    assert rank_correlation(records, "filter")[0] == pytest.approx(1.0)
    assert rank_correlation(records, "none")[0] == pytest.approx(-1.0)
    assert rank_correlation(Records([*errors, *same[:-1]]), "filter") == {}, "a seed without all arms has no value"


def test_concordance_is_1_for_equal_and_0_for_opposite_rankings():
    same = [rise(arm, 0, number + 100 * draw, draw=draw) for draw in range(4) for number, arm in enumerate(ALL)]
    assert concordance(Records(same))[0] == pytest.approx(1.0)
    opposite = [rise(arm, 0, number * (-1) ** draw, draw=draw) for draw in (0, 1) for number, arm in enumerate(ALL)]
    assert concordance(Records(opposite))[0] == pytest.approx(0.0)
    broken = [*same[:-1], rise(ALL[-1], 0, math.nan, draw=3)]
    assert math.isnan(concordance(Records(broken))[0])


def test_the_formula_is_off_by_its_logarithm_either_way():
    where = point("angle", normalise="none")

    def off(measured):
        rows = [
            row(RESIDUAL[1], 0, where, "cosine/mean_absolute", measured),
            row(RESIDUAL[1], 0, where, "cosine/expected", 0.01),
        ]
        return CLAIMS[3].tests[1].measure.by_seed(Records(rows))[0]

    assert off(0.02) == pytest.approx(1.0)
    assert off(0.005) == pytest.approx(1.0)
    assert off(0.01) == 0.0


def test_ratios_are_split_by_what_the_plane_looks_like():
    records = Records(
        [
            *on_map(RESIDUAL[1], 0, 0.0, -1, 10, in_plane=2.0),
            *on_map(RESIDUAL[1], 0, 0.5, -3, 10, in_plane=1.0),
            *on_map(PLAIN[1], 0, 0.0, -7, 10, in_plane=-1.0, residual=1.0),
            *on_map(PLAIN[1], 0, 0.5, math.nan, math.nan, in_plane=1.0),
            *on_map(PLAIN[0], 1, 0.5, -1, 4, in_plane=1.0),
        ]
    )
    assert map_points(records, RESIDUAL[1]) == [(0, 0.0, 0.0, 2.0, 0.1), (0, 0.5, 0.0, 1.0, 0.3)]
    smooth, broken = map_points(records, PLAIN[1])
    assert smooth == (0, 0.0, 0.0, -1.0, 0.8), "what is not settled is added to the least eigenvalue"
    assert math.isnan(broken.ratio)
    assert median_over_points(records, convex=True) == {0: 0.2, 1: 0.25}
    assert median_over_points(records, convex=False) == {0: 0.8}
    gap = CLAIMS[5].tests[1].measure.by_seed(records)
    assert gap == {0: pytest.approx(0.6)}, "a seed whose planes all look convex has no gap"


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_budget_has_a_sound_plan(budget, digits):
    plan = granted(ABLATION.plan(budget, digits), bf16_is_fast=True)
    check(ABLATION, plan)
    ABLATION.check(plan.settings, None)
    assert [arm.name for arm in plan.arms] == [*PAIRS, *BATCHES]
    for arm in plan.arms:
        network = build(arm.network, **arm.arguments)
        assert len(network.blocks) > 0
        assert ABLATION.passes(len(network.blocks), {**plan.settings, "arm": arm.name}) > 0


# -- settings on the command line -------------------------------------------------------------------------------------


def exit_of(capsys, *words):
    with pytest.raises(SystemExit) as done:
        main(ABLATION, [str(word) for word in words])
    told = capsys.readouterr()
    return done.value.code, told.out, told.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--probe.steps", "1"], "an axis of 1 points shows no surface"),
        (["--probe.span=-1"], "the span 1 to -1 is not ascending"),
        (["--probe.span", "0"], "not ascending"),
        (["--probe.steps", "many"], "--probe.steps many: give a whole number, such as 5"),
        (["--probe.stepps", "3"], "--probe.stepps: loss_landscape has the settings limit, batch_size, steps"),
        (["--probe.steps"], "--probe.steps: give a setting and its value"),
        (["--probe.fold", "perhaps"], "--probe.fold perhaps: give yes or no"),
        (["--probe.normalise", "filters"], "--probe.normalise must be one of filter, layer, weight, none"),
        (["--probe.batch_norm", "eval"], "--probe.batch_norm must be one of keep, recompute, batch"),
        (["--probe.fold", "yes", "--probe.batch_norm", "batch"], "--probe.fold yes goes with"),
        (["--probe.map_steps", "9"], "--probe.map_steps 9: give 1 to 3"),
        (["--probe.line_steps", "4"], "--probe.line_steps 4: give an odd number"),
        (["--probe.tolerance", "-1"], "--probe.tolerance -1: give 0 or more"),
        (["--probe.map_images", "0"], "--probe.map_images 0: give 1 or more"),
        (["--probe.draws", "0"], "--probe.draws 0: give 1 or more"),
        (["--probe.towards", "x"], "--probe.towards and --probe.along go with --network"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_settings_are_one_line(capsys, tmp_path, words, part):
    code, out, err = exit_of(capsys, "--budget", "smoke", "--out", tmp_path / "runs", *words)
    assert (code, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs" / "trained").exists()


def test_networks_of_different_shape_are_not_joined(capsys, tmp_path):
    save_weights(build("resnet20", 10, 1), tmp_path / "a.safetensors")
    save_weights(build("resnet32", 10, 1), tmp_path / "b.safetensors")
    words = ["--network", "resnet20", "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "runs"]
    code, _, err = exit_of(capsys, *words, "--probe.towards", tmp_path / "b.safetensors")
    assert code == 2
    assert "b.safetensors do not fit the network: unexpected: blocks.stage1_block4" in err
    save_file({"nowhere": torch.zeros(2)}, tmp_path / "c.safetensors")
    code, _, err = exit_of(capsys, *words, "--probe.along", tmp_path / "c.safetensors")
    assert code == 2
    assert "a direction moves nowhere of shape (2,); in the network it is not there" in err


# -- a network from outside -------------------------------------------------------------------------------------------

SMALL = ["--budget", "smoke", "--trainer.accelerator", "cpu", "--wandb", "disabled", "--probe.limit", "32"]


def test_a_users_own_network_is_drawn(capsys, tmp_path):
    torch.manual_seed(0)
    for name in "ab":
        save_weights(build("resnet_cifar", 10, 1, depth=20, width=16), tmp_path / f"{name}.safetensors")
    words = [*SMALL, "--network", "resnet20", "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "runs"]
    code, _, err = exit_of(capsys, *words, "--probe.towards", tmp_path / "b.safetensors", "--workers", 2)
    assert code == 0, err
    (folder,) = (tmp_path / "runs" / "ablations" / "loss_landscape").iterdir()
    kept = {file.name for file in (folder / "files" / "resnet20-s0").iterdir()}
    assert {"plane.npz", "plane.vtk", "towards.npz", "spectrum.npz"} <= kept
    plane = Surface.load(folder / "files" / "resnet20-s0" / "plane.npz")
    assert plane.open == 0
    records = read_records(folder)
    centre = records.where(probe="centre", metric="train/loss").values()
    assert centre == [plane.values["train/loss"][plane.centre]]
    figures = {figure["file"] for figure in json.loads((folder / "ablation.json").read_text())["figures"]}
    assert {"figures/plane_3d.plotly.json", "figures/plane_train_loss.png", "figures/towards.png"} <= figures
    assert np.isfinite(plane.values["test/error"]).all()
    # The same question is read; another file in the same place is another question.
    first = (folder / "records.csv").read_bytes()
    probes = sorted((folder / "probes").glob("*.csv"))
    code, _, err = exit_of(capsys, *words, "--probe.towards", tmp_path / "b.safetensors", "--workers", 2)
    assert code == 0
    assert (folder / "records.csv").read_bytes() == first
    assert sorted((folder / "probes").glob("*.csv")) == probes
    (tmp_path / "a.safetensors").replace(tmp_path / "b.safetensors")
    save_weights(build("resnet_cifar", 10, 1, depth=20, width=16), tmp_path / "c.safetensors")
    words[words.index("--weights") + 1] = tmp_path / "b.safetensors"
    code, _, err = exit_of(capsys, *words, "--probe.towards", tmp_path / "b.safetensors")
    assert code == 0, err
    assert len(sorted((folder / "probes").glob("*.csv"))) == len(probes) + 1
    flat = Surface.load(folder / "files" / "resnet20-s0" / "towards.npz").values["train/loss"]
    assert np.ptp(flat) < 1e-3 * flat.max(), "from a network to itself nothing changes"


def test_a_network_whose_loss_is_no_number_is_told_not_traced(capsys, tmp_path):
    network = build("resnet_cifar", 10, 1, depth=20, width=16)
    with torch.no_grad():
        network.head[-1].weight.fill_(3e38)  # the logits are infinite, the loss is no number
    save_weights(network, tmp_path / "large.safetensors")
    words = [*SMALL, "--network", "resnet20", "--weights", tmp_path / "large.safetensors", "--out", tmp_path / "runs"]
    code, _, err = exit_of(capsys, *words)
    records = read_csv(next((tmp_path / "runs" / "ablations" / "loss_landscape").iterdir()) / "records.csv")
    assert records.where(probe="plane", metric="holes").values() == [25.0]
    assert math.isnan(records.where(probe="plane", metric="share_nonconvex").values()[0])
    assert code == 0, err
