"""Questions about surfaces: settings and files that none can have, angles, and the frame around a way."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ablations.harness.declare.probe import Subject
from ablations.harness.probe_settings import with_settings
from ablations.probes.landscape.joined import Joined
from ablations.probes.landscape.lines import Angles, Lines
from ablations.probes.landscape.plane import Plane
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


def test_a_way_has_room_on_every_side_and_is_never_without_width():
    assert spans(np.array([[0.0, 1.0], [4.0, 3.0]])) == [(-1.0, 5.0), (0.5, 3.5)]
    assert spans(np.array([[0.0, 1.0], [4.0, 1.0]])) == [(-1.0, 5.0), (0.96, 1.04)]


def test_settings_that_go_with_others_are_set_at_once():
    (plane,) = with_settings([Plane()], {"steps": "5", "batch_norm": "batch", "map_steps": "1", "fold": "no"}, "any")
    assert (plane.steps, plane.map_steps, plane.batch_norm, plane.fold) == (5, 1, "batch", False)
