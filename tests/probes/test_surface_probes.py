"""Questions about surfaces: settings and files that none can have, angles, and the frame around a way."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from answers import asked
from safetensors.torch import save_file

from ablations.harness.declare.probe import Subject
from ablations.harness.probe_settings import with_settings
from ablations.harness.store.records import Records
from ablations.probes.activations.training_fit import fit
from ablations.probes.landscape.convexity import least_curvature, share_negative
from ablations.probes.landscape.earlier import Earlier
from ablations.probes.landscape.joined import Joined
from ablations.probes.landscape.lines import Angles, Lines, likeness
from ablations.probes.landscape.plane import Plane
from ablations.probes.landscape.surface_file import Surface
from ablations.probes.landscape.way import Way, spans
from modules import build
from modules.weights import save_weights


@pytest.mark.parametrize(("probe", "settings", "part"), [
    (Plane, {"steps": 1}, "an axis of 1 points shows no surface"),
    (Plane, {"span": -1.0}, "the span 1 to -1 is not ascending"),
    (Joined, {"span": 0.0}, "not ascending"),
    (Lines, {"raw_span": 0.0}, "not ascending"),
    (Way, {"steps": 1}, "an axis of 1 points"),
    (Way, {"snapshots": 2}, "--probe.snapshots 2: give 3 or more"),
    (Earlier, {"snapshots": 2}, "--probe.snapshots 2: give 3 or more"),
    (Plane, {"pairs": 0}, "--probe.pairs 0: give 1 or more"),
    (Plane, {"normalise": "filters"}, "--probe.normalise must be one of filter, layer, weight, none"),
    (Angles, {"vectors": "free"}, "--probe.vectors must be one of fixed, moved"),
    (Lines, {"batch_norm": "eval"}, "--probe.batch_norm must be one of keep, recompute, batch"),
    (Way, {"precision": "fp16"}, "--probe.precision must be one of fp32, bf16"),
    (Plane, {"fold": True, "batch_norm": "batch"}, "--probe.fold yes goes with"),
    (Plane, {"vectors": "moved"}, "--probe.fold yes goes with"),
    (Plane, {"steps": 5, "map_steps": 9}, "--probe.map_steps 9: give 1 to 3"),
    (Lines, {"line_steps": 4}, "--probe.line_steps 4: give an odd number"),
    (Plane, {"tolerance": -1.0}, "--probe.tolerance -1: give 0 or more"),
    (Plane, {"map_images": 0}, "--probe.map_images 0: give 1 or more"),
    (Plane, {"trace_draws": 1}, "--probe.trace_draws 1: give 2 or more"),
    (Lines, {"draws": 0}, "--probe.draws 0: give 1 or more"),
    (Angles, {"pairs": 0}, "--probe.pairs 0: give 1 or more"),
    (Joined, {"along": "a,b,c"}, "--probe.along names 3 files; a surface has one or two directions"),
])  # fmt: skip
def test_bad_settings_are_refused(probe, settings, part):
    with pytest.raises(ValueError, match=part):
        probe(**settings)


def test_networks_of_different_shape_are_not_joined(tmp_path):
    here, there = build("resnet20", 10, 1), tmp_path / "b.safetensors"
    save_weights(build("resnet32", 10, 1), there)
    with pytest.raises(ValueError, match=r"b.safetensors do not fit the network: unexpected: blocks.stage1_block4"):
        Joined(towards=str(there)).prepared(here)
    save_file({"nowhere": torch.zeros(2)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"a direction moves nowhere of shape \(2,\); in the network it is not there"):
        Joined(along=str(tmp_path / "c.safetensors")).prepared(here)
    with pytest.raises(ValueError, match=r"--probe.towards and --probe.along go with --network"):
        Joined(towards=str(there)).prepared(None)


def test_what_lies_in_files_is_part_of_the_question(tmp_path):
    network, file = build("resnet20", 10, 1), tmp_path / "a.safetensors"
    found = []
    for _ in range(2):
        save_weights(build("resnet20", 10, 1), file)
        found.append(Joined(towards=str(file)).prepared(network))
    assert found[0] != found[1]
    assert Joined().prepared(network) == Joined().prepared(None) == Joined()


def test_random_directions_are_as_orthogonal_as_their_number_says():
    layer = torch.nn.Linear(100, 40, bias=False)
    found = {
        (each.point, each.metric): each.value
        for each in Angles(pairs=200).ask(Subject(layer, None, "any", 0, torch.device("cpu")))
    }
    for kind in ("filter", "none"):
        expected = found[f"angle normalise={kind}", "cosine/expected"]
        assert expected == pytest.approx(math.sqrt(2 / (math.pi * 4000)))
        assert found[f"angle normalise={kind}", "cosine/mean_absolute"] == pytest.approx(expected, rel=0.15)


SMALL = {"limit": 40, "batch_size": 40, "fold": False}


@pytest.fixture(scope="module")
def linear(digits):
    """A network of one layer that fits the first training images."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))
    ((images, labels),) = digits.evaluation_batches("train", 40, torch.device("cpu"), 40)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    return network.eval()


def test_lines_of_one_network_are_alike_as_their_losses_say(linear, digits, tmp_path):
    found = asked(Lines(draws=3, line_steps=5, **SMALL), linear, digits, folder=tmp_path)
    losses = found.where(metric="train/loss")
    assert {row.fields["normalise"] for row in losses} == {"filter"}
    curves = [losses.where(draw=draw).values() for draw in range(3)]
    pairs = [np.corrcoef(np.log10(curves[a]), np.log10(curves[b]))[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert likeness(found, "any") == {0: pytest.approx(np.mean(pairs))}
    assert found.where(metric="rise", normalise="filter", draw=1).values() == [
        pytest.approx(np.mean(np.delete(curves[1], 2)) - curves[1][2])
    ]
    assert likeness(Records(row for row in found if row.metric == "rise"), "any") == {}


def test_curvature_counts_where_the_network_is_better_than_guessing(linear, digits, tmp_path):
    wide = Plane(steps=5, span=40.0, pairs=2, draws=1, map_steps=3, map_span=40.0, map_images=8, lanczos_steps=2,
                 trace_draws=2, sharpness_draws=1, **SMALL)  # fmt: skip
    found = asked(wide, linear, digits, folder=tmp_path)
    places = {(row.fields["alpha"], row.fields["beta"]) for row in found.where(probe="map")}
    assert places == {("0.0", "0.0")}, "far away it guesses"
    for pair, name in enumerate(("plane", "plane_1")):
        kept = Surface.load(tmp_path / f"{name}.npz")
        inside = kept.values["train/loss"][1:-1, 1:-1] < math.log(10)
        assert inside.sum() < inside.size
        curved = least_curvature(kept.values["train/loss"], kept.axes)[inside] < 0
        assert found.where(metric="share_nonconvex", pair=pair).values() == [100 * curved.mean()]
        assert ("test/loss" in kept.values) == (pair == 0)
    asked(wide, linear, digits, folder=tmp_path / "next", is_first=False)
    assert "test/loss" not in Surface.load(tmp_path / "next" / "plane.npz").values


def test_the_hessian_is_sought_on_an_even_grid_around_the_centre(linear, digits, tmp_path):
    narrow = Plane(
        steps=9, map_steps=3, map_images=8, lanczos_steps=2, draws=1, trace_draws=2, sharpness_draws=1, **SMALL
    )
    found = asked(replace(narrow, span=0.4, map_span=0.2), linear, digits, folder=tmp_path).where(probe="map")
    for field in ("alpha", "beta"):
        assert sorted({round(float(row.fields[field]), 6) for row in found}) == [-0.2, 0.0, 0.2]


def test_earlier_states_are_those_nearest_to_losses(linear, digits, tmp_path):
    files, losses = {}, {}
    batches = [*digits.evaluation_batches("train", 40, torch.device("cpu"), 40)]
    for epoch, size in enumerate((0.0, 0.1, 0.5, 0.6, 1.0)):
        weights = {name: size * weight for name, weight in linear.state_dict().items()}
        files[epoch] = tmp_path / f"{epoch}.safetensors"
        save_file(weights, files[epoch])
        losses[epoch] = fit(Subject(linear, digits, "any", 0, torch.device("cpu"), snapshots=files).at(epoch), batches)[
            0
        ]
    levels = (losses[0], losses[1], losses[1] * 1.01, losses[4])  # the untrained state is none
    probe = Earlier(levels=levels, steps=5, pairs=2, **SMALL)
    found = asked(probe, linear, digits, snapshots=files, folder=tmp_path)
    assert found.where(metric="train/loss").over("epoch").keys() == {1, 4}
    assert found.where(metric="train/loss", epoch=4).values() == [losses[4]]
    shares = [
        share_negative(kept.values["train/loss"], kept.axes, math.log(10))
        for kept in (Surface.load(tmp_path / f"{name}.npz") for name in ("earlier_4", "earlier_4_1"))
    ]
    assert found.where(metric="share_nonconvex", epoch=4).values() == [pytest.approx(np.mean(shares))]
    centre = Surface.load(tmp_path / "earlier_1.npz")
    assert centre.values["train/loss"][centre.centre] == pytest.approx(losses[1], rel=1e-5)


def test_a_way_has_room_on_every_side_and_is_never_without_width():
    assert spans(np.array([[0.0, 1.0], [4.0, 3.0]])) == [(-1.0, 5.0), (0.5, 3.5)]
    assert spans(np.array([[0.0, 1.0], [4.0, 1.0]])) == [(-1.0, 5.0), (0.96, 1.04)]


def test_settings_that_go_with_others_are_set_at_once():
    (plane,) = with_settings([Plane()], {"steps": "5", "batch_norm": "batch", "map_steps": "1", "fold": "no"}, "any")
    assert (plane.steps, plane.map_steps, plane.batch_norm, plane.fold) == (5, 1, "batch", False)
