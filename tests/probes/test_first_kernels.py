"""What was learned in first kernels, what patches of images give, and what layers answer to, asked of a network."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from answers import asked

from ablations.first_layer_filters import EDGE
from ablations.harness.declare.probe import Subject
from ablations.probes.data_counts import DataCounts
from ablations.probes.filters.first_kernels import (
    LEARNED,
    PATCHES,
    STANDING,
    UNTRAINED,
    FirstKernels,
    learned,
    patch_noise,
)
from ablations.probes.filters.layer_extents import LayerExtents
from modules import build
from modules.weights import save_weights


@pytest.fixture
def subject(digits, tmp_path):
    """A network and the same before training, in which nothing but the first kernels differs."""
    torch.manual_seed(0)
    network = build("alexnet_cifar", 10, 1, image_size=16, groups=2).eval()
    save_weights(network, tmp_path / "start.safetensors")
    with torch.no_grad():
        network.block("conv1").branch.conv.weight.add_(0.3 * torch.linspace(-1, 1, 5).expand(5, 5))
    snapshots = {0: tmp_path / "start.safetensors"}
    return Subject(network, digits, "two_streams", 0, torch.device("cpu"), snapshots=snapshots)


def test_the_probe_sees_what_was_learned_and_no_colour_in_grey(subject):
    rows = asked(FirstKernels(patches=100), subject.network, subject.data, snapshots=subject.snapshots)
    assert len(rows.where(metric="saturation")) == 0
    fits = {
        when: rows.where(metric="gabor/explained", when=when).values()
        for when in (LEARNED, STANDING, UNTRAINED, PATCHES)
    }
    assert {len(values) for values in fits.values()} == {32}
    assert min(fits[LEARNED]) > EDGE > max(fits[UNTRAINED]), "a ramp is half a wave"


def test_data_are_counted(subject):
    rows = asked(DataCounts(), subject.network, subject.data)
    assert {row.metric: row.value for row in rows} == {"test_images": len(subject.data.test), "channels": 1}


def test_higher_layers_answer_to_larger_parts(subject):
    rows = asked(LayerExtents(), subject.network, subject.data, snapshots=subject.snapshots)
    for when in (STANDING, UNTRAINED):
        layers = rows.where(probe="layer", when=when)
        found = {row.fields["depth"]: row.fields["layer"] for row in layers}
        assert found == {"1": "conv1", "2": "conv2", "3": "conv3.branch"}
        assert layers[-1].value > 1.5 * layers[0].value


def test_what_was_learned_forgets_the_start():
    start = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    added = torch.zeros_like(start)
    added[0, 0, 0, 0], added[1, 0, 0, 0] = start[1, 0, 0, 0], -start[0, 0, 0, 0]  # orthogonal to the start
    assert torch.allclose(learned(0.7 * start + added, start), added, atol=1e-5)


def test_random_sums_of_patches_are_smooth(subject):
    found = patch_noise(subject, torch.zeros(32, 1, 5, 5), 1000)
    assert found.shape == (32, 1, 5, 5)
    assert torch.equal(found, patch_noise(subject, torch.zeros(32, 1, 5, 5), 1000))
    brighter = SimpleNamespace(
        evaluation_batches=lambda *of, **how: ((x + 3.0, y) for x, y in subject.data.evaluation_batches(*of, **how))
    )
    same = patch_noise(replace(subject, data=brighter), torch.zeros(32, 1, 5, 5), 1000)
    torch.testing.assert_close(same, found, rtol=1e-3, atol=1e-3, msg="what patches share is no part of them")
    neighbours = torch.corrcoef(torch.stack([found[..., :-1].flatten(), found[..., 1:].flatten()]))[0, 1]
    assert neighbours > 0.4
