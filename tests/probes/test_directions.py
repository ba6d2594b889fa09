"""Directions: lengths as the paper scales them, the same from the same seed, and what is refused."""

import pytest
import torch
from small_networks import BUILT, make
from torch import nn

from ablations.probes.landscape.directions import between, cosine, dot, random_direction


def norms(tensor, filters=0):
    return tensor.double().transpose(0, filters).flatten(1).norm(dim=1)


def test_every_filter_of_the_direction_has_its_filters_norm(network):
    direction = random_direction(network, seed=3)
    weights = dict(network.named_parameters())
    assert set(direction) == {name for name, weight in weights.items() if weight.ndim > 1}
    for name, part in direction.items():
        torch.testing.assert_close(norms(part), norms(weights[name].detach()), rtol=1e-6, atol=1e-12)


def test_a_transposed_convolution_counts_its_filters_in_the_second_dimension():
    layer = nn.ConvTranspose2d(3, 5, 2)
    part = random_direction(layer, seed=0)["weight"]
    torch.testing.assert_close(norms(part, 1), norms(layer.weight.detach(), 1), rtol=1e-6, atol=0)


def test_other_normalisations():
    network = BUILT["vgg_bn"]
    weights = dict(network.named_parameters())
    drawn = random_direction(network, 1, normalise="none")
    layer = random_direction(network, 1, normalise="layer")
    weight = random_direction(network, 1, normalise="weight")
    for name in drawn:
        assert float(layer[name].norm()) == pytest.approx(float(weights[name].norm()), rel=1e-6)
        assert cosine({"": layer[name]}, {"": drawn[name]}) == pytest.approx(1.0)
        assert torch.equal(weight[name], drawn[name] * weights[name])
    whole = torch.cat([part.flatten() for part in drawn.values()])
    assert float(whole.std()) == pytest.approx(1.0, abs=0.05)


def test_biases_and_batch_norm_move_only_when_asked():
    network = BUILT["resnet"]
    fixed, moved = (random_direction(network, 5, vectors=vectors) for vectors in ("fixed", "moved"))
    assert set(moved) == {name for name, _ in network.named_parameters()}
    assert all(torch.equal(fixed[name], moved[name]) for name in fixed)
    vector = next(name for name, weight in network.named_parameters() if weight.ndim == 1 and weight.norm() > 0)
    assert float(moved[vector].norm()) == pytest.approx(float(network.get_parameter(vector).norm()), rel=1e-5)


def test_a_filter_of_zeros_gives_a_direction_of_zeros():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[0] = 0.0
    part = random_direction(layer, 0)["weight"]
    assert torch.equal(part[0], torch.zeros(3))
    assert torch.isfinite(part).all()


def test_the_seed_is_the_direction():
    network = BUILT["resnet"]
    first, again, other = (random_direction(network, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert abs(cosine(first, other)) < 0.2
    assert cosine(first, first) == pytest.approx(1.0)


def test_the_way_to_another_network_holds_its_batch_norm_statistics():
    here, there = make("resnet"), make("resnet")
    with torch.no_grad():
        for tensor in there.state_dict().values():
            tensor.copy_(tensor + 1)
    way = between(here, there.state_dict())
    assert any(name.endswith("running_var") for name in way)
    assert not any(name.endswith("num_batches_tracked") for name in way)
    assert all(torch.allclose(part, torch.ones_like(part), atol=1e-5) for part in way.values())
    assert dot(way, way) == pytest.approx(sum(part.numel() for part in way.values()), rel=1e-4)


def test_networks_of_different_shape_cannot_be_joined():
    with pytest.raises(ValueError, match="different shapes"):
        between(BUILT["resnet"], BUILT["vgg"].state_dict())
    with pytest.raises(ValueError, match=r"different shapes: weight is \(2, 3\) and \(2, 4\)"):
        between(nn.Linear(3, 2), nn.Linear(4, 2).state_dict())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"normalise": "filters"}, "normalise must be one of"), ({"vectors": "free"}, "vectors must be one of")],
)
def test_unknown_words_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        random_direction(BUILT["vgg"], 0, **arguments)


def test_a_network_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters to move"):
        random_direction(nn.ReLU(), 0)
    with pytest.raises(ValueError, match="no parameters to move"):
        random_direction(nn.BatchNorm2d(3), 0)
