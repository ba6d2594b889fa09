"""What only `loss_landscape` does: rankings over networks, settings on the command line, and a foreign network."""

import json
import math

import numpy as np
import pytest
import torch

from ablations.harness.store.records import Record, Records, point, read_csv
from ablations.loss_landscape import ABLATION, PLAIN, RESIDUAL, as_well_fitted, raw_rise, rise, sharper, told_apart
from ablations.probes.landscape.surface_file import Surface
from modules import build
from modules.weights import save_weights


def row(arm, where, metric, value, seed=0):
    return Record("loss_landscape", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def lines(arm, rises, normalise="filter"):
    return [row(arm, point("line", normalise=normalise, draw=draw), "rise", rise) for draw, rise in enumerate(rises)]


def test_sharper_is_paired_by_line():
    records = Records(
        [*lines("a", [8, 2]), *lines("b", [1, 1]), *lines("a", [1, 1], "none"), *lines("b", [4, 4], "none")]
    )
    assert sharper(rise, "a", "b").by_seed(records) == {0: 2.0}, "8 and 2 times as high"
    assert sharper(raw_rise, "a", "b").by_seed(records) == {0: -2.0}


def test_two_networks_are_told_apart_by_as_many_pairs_of_lines():
    def found(ours, theirs):
        return told_apart("a", "b").by_seed(Records([*lines("a", ours), *lines("b", theirs)]))[0]

    assert found([1, 2], [3, 4]) == found([3, 4], [1, 2]) == 100.0
    assert found([1, 5], [3, 4]) == 50.0
    assert found([1, 2, 3, 9], [4]) == 75.0


def test_a_network_as_it_was_is_taken_where_it_fitted_as_the_other_does():
    (residual, plain), rows = (RESIDUAL[1], PLAIN[1]), []
    for seed, end in enumerate((0.05, 0.001)):
        rows.append(row(plain, "centre", "train/loss", end, seed))
        for epoch, (loss, share) in {3: (0.2, 1.0), 30: (0.06, 2.0), 60: (0.002, 3.0)}.items():
            rows.append(row(residual, point("earlier", epoch=epoch), "train/loss", loss, seed))
            rows.append(row(residual, point("earlier", epoch=epoch), "share_nonconvex", share, seed))
    assert as_well_fitted().by_seed(Records(rows)) == {0: 2.0, 1: 3.0}
    lost = Records(each for each in rows if each.arm == residual or each.seed)
    assert as_well_fitted().by_seed(lost) == {1: 3.0}


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
