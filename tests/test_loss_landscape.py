"""What only `loss_landscape` does: rankings over networks, settings on the command line, and a foreign network."""

import json
import math

import numpy as np
import pytest
import torch

from ablations.harness.store.records import Record, Records, point, read_csv
from ablations.loss_landscape import ABLATION, ALL, agreement, correlation, raw_rise, rise
from ablations.probes.landscape.surface_file import Surface
from modules import build
from modules.weights import save_weights


def row(arm, where, metric, value):
    return Record("loss_landscape", arm, 0, where, metric, float(value), "", f"{arm}-0")


def rises(value, normalise="filter", draws=2):
    """What `value` makes of the number of a network and of a line."""
    return [
        row(arm, point("line", normalise=normalise, draw=draw), "rise", value(number, draw))
        for draw in range(draws)
        for number, arm in enumerate(ALL)
    ]


def test_sharpness_is_ranked_against_test_error():
    errors = [row(arm, "test", "test/top1_error", number) for number, arm in enumerate(ALL)]
    same, reverse = rises(lambda number, _: number**2), rises(lambda number, _: -number, "none")
    records = Records([*errors, *same, *reverse])
    assert correlation(rise).by_seed(records)[0] == pytest.approx(1.0)
    assert correlation(raw_rise).by_seed(records)[0] == pytest.approx(-1.0)
    without = Records(each for each in records if each.arm != ALL[0])
    assert correlation(rise).by_seed(without) == {}, "a seed without all arms has no value"


def test_concordance_is_1_for_equal_and_0_for_opposite_rankings():
    def found(value):
        return agreement(rise).by_seed(Records(rises(value, draws=4)))[0]

    assert found(lambda number, draw: number + 100 * draw) == pytest.approx(1.0)
    assert found(lambda number, draw: number * (-1) ** draw) == pytest.approx(0.0)
    assert math.isnan(found(lambda number, draw: math.nan if number == draw == 3 else number))


# -- on the command line ----------------------------------------------------------------------------------------------

SMALL = ["--budget", "smoke", "--trainer.accelerator", "cpu", "--probe.limit", "32"]


@pytest.fixture
def exit_of(command):
    """Runs the script; gives the exit code and what it said of errors."""
    return lambda *words: command(*SMALL, *words, ablation=ABLATION)[::2]


@pytest.mark.parametrize(("words", "part"), [
    (["--probe.steps", "1"], "an axis of 1 points shows no surface"),
    (["--probe.stepps", "3"], "--probe.stepps: loss_landscape has the settings limit, batch_size, normalise"),
    (["--probe.normalise", "filters"], "--probe.normalise must be one of filter, layer, weight, none"),
    (["--probe.towards", "x"], "--probe.towards and --probe.along go with --network"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_bad_settings_are_one_line(exit_of, tmp_path, words, part):
    code, err = exit_of(*words)
    assert code == 2
    assert part in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs" / "trained").exists()


def test_a_users_own_network_is_drawn(exit_of, tmp_path):
    torch.manual_seed(0)
    for name in "ab":
        save_weights(build("resnet20", 10, 1), tmp_path / f"{name}.safetensors")
    words = ["--network", "resnet20", "--weights", tmp_path / "a.safetensors"]
    towards = ["--probe.towards", tmp_path / "b.safetensors"]
    code, err = exit_of(*words, *towards)
    assert code == 0, err
    (folder,) = (tmp_path / "runs" / "ablations" / "loss_landscape").iterdir()
    kept = {file.name for file in (folder / "files" / "resnet20-s0").iterdir()}
    assert {"plane.npz", "plane.vtk", "towards.npz", "spectrum.npz"} <= kept
    plane = Surface.load(folder / "files" / "resnet20-s0" / "plane.npz")
    assert plane.open == 0
    records = read_csv(folder / "records.csv")
    centre = records.where(probe="centre", metric="train/loss").values()
    assert centre == [plane.values["train/loss"][plane.centre]]
    figures = {figure["file"] for figure in json.loads((folder / "ablation.json").read_text())["figures"]}
    assert {"figures/plane_3d.plotly.json", "figures/plane_train_loss.png", "figures/towards.png"} <= figures
    assert np.isfinite(plane.values["test/error"]).all()
    # The same question is read; another file in the same place is another question.
    first = (folder / "records.csv").read_bytes()
    probes = sorted((folder / "probes").glob("*.csv"))
    assert exit_of(*words, *towards)[0] == 0
    assert (folder / "records.csv").read_bytes() == first
    assert sorted((folder / "probes").glob("*.csv")) == probes
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    code, err = exit_of(*words, *towards, "--workers", 2)
    assert code == 0, err
    assert len(sorted((folder / "probes").glob("*.csv"))) == len(probes) + 1, "of one probe alone"
    flat = Surface.load(folder / "files" / "resnet20-s0" / "towards.npz").values["train/loss"]
    assert np.ptp(flat) < 1e-3 * flat.max(), "from a network to itself nothing changes"


def test_a_network_whose_loss_is_no_number_is_told_not_traced(exit_of, tmp_path):
    network = build("resnet20", 10, 1)
    with torch.no_grad():
        network.head[-1].weight.fill_(3e38)  # the logits are infinite, the loss is no number
    save_weights(network, tmp_path / "large.safetensors")
    code, err = exit_of("--network", "resnet20", "--weights", tmp_path / "large.safetensors")
    assert code == 0, err
    records = read_csv(next((tmp_path / "runs" / "ablations" / "loss_landscape").iterdir()) / "records.csv")
    assert records.where(probe="plane", metric="holes").values() == [25.0]
    assert math.isnan(records.where(probe="plane", metric="share_nonconvex").values()[0])
