"""Curvature along a direction, and the sharpness of Keskar et al., against closed forms."""

import math

import numpy as np
import pytest
import torch
from curved import OFFSET, batches, convolutional, footprint, quadratic, symmetric, unchanged
from torch import nn

from ablations.probes.landscape.curvature.hessian import Hessian
from ablations.probes.landscape.curvature.sharpness import curvature, epsilon_sharpness


def flat(network):
    return torch.cat([weight.detach().reshape(-1) for weight in network.parameters()])


def test_curvature_of_a_quadratic_loss():
    network, data, matrix = quadratic()
    direction = {name: torch.randn(weight.shape).double() for name, weight in network.named_parameters()}
    d = torch.cat([direction["first"].reshape(-1), direction["second"]])
    assert curvature(Hessian(network, data), direction) == pytest.approx(float(d @ matrix @ d), rel=1e-6)
    d[:6] = 0
    del direction["first"]
    assert curvature(Hessian(network, data), direction) == pytest.approx(float(d @ matrix @ d), rel=1e-6)


def test_curvature_refuses_what_is_not_a_parameter():
    network = convolutional()
    with pytest.raises(ValueError, match=r"norm1\.running_mean"):
        curvature(Hessian(network, batches(3)), {"norm1.running_mean": torch.ones(4)})


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_sharpness_of_a_separable_loss_is_that_of_the_best_corner(epsilon):
    """Of a bowl sum a_i w_i^2 / 2 the largest value in the box is at the corner farthest from 0."""
    curvatures = torch.linspace(1, 4, 12, dtype=torch.float64)
    network, data, matrix = quadratic(matrix=torch.diag(curvatures))
    w = flat(network)
    corner = w.abs() + epsilon * (w.abs() + 1)
    here, there = (OFFSET + float(v @ matrix @ v) / 2 for v in (w, corner))
    found = epsilon_sharpness(network, data, epsilon, iterations=50, draws=8)
    assert max(found.draws) <= 100 * (there - here) / (1 + here) * (1 + 1e-9)
    if epsilon < 0.1:  # no weight can change its sign, so that the ascent has one end
        assert found.draws == pytest.approx([100 * (there - here) / (1 + here)] * 8, rel=1e-6)


def test_a_minimum_with_no_gradient_is_left():
    network, data, matrix = quadratic(matrix=torch.eye(12, dtype=torch.float64))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    found = epsilon_sharpness(network, data, 0.01, iterations=20)
    exact = 100 * float(matrix.diagonal().sum()) * 0.01**2 / 2 / (1 + OFFSET)
    assert found.draws == pytest.approx([exact] * 5, rel=1e-5)


def test_a_peak_has_no_sharpness():
    network, data, _ = quadratic(matrix=-torch.eye(12, dtype=torch.float64))
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    assert epsilon_sharpness(network, data, 0.01, draws=2, iterations=2).draws == (0.0, 0.0)


def test_sharpness_beats_every_random_point_of_the_box():
    network, data = convolutional(), batches(9, 4)
    found = epsilon_sharpness(network, data, 0.01, draws=3)
    assert found.mean == pytest.approx(np.mean(found.draws))
    assert found.error == pytest.approx(np.std(found.draws, ddof=1) / math.sqrt(3))
    images, labels = (torch.cat(parts) for parts in zip(*data, strict=True))
    network.eval()
    w, generator = flat(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(images), labels).item()
        others = []
        for _ in range(50):
            signs = torch.randint(2, w.shape, generator=generator) * 2 - 1
            nn.utils.vector_to_parameters(w + 0.01 * signs * (w.abs() + 1), network.parameters())
            others.append(nn.functional.cross_entropy(network(images), labels).item())
    assert min(found.draws) > 100 * (max(others) - loss) / (1 + loss)


def test_same_seed_same_sharpness_and_the_network_untouched():
    network = convolutional()
    network.norm2.eval()
    network.fc.bias.grad = torch.ones(3)
    before = footprint(network)
    found = [epsilon_sharpness(network, batches(4, 2), draws=2, seed=s) for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert unchanged(network, before)


def test_every_pass_over_a_batch_is_told():
    network, computed, told = convolutional(), [], []
    network.register_forward_hook(lambda *_: computed.append(1))
    epsilon_sharpness(network, batches(4, 2), draws=2, on_pass=lambda: told.append(1))
    assert len(told) == len(computed) > 2 * 2 * 2


def test_a_loss_that_is_not_finite_is_named():
    network, data, _ = quadratic(matrix=symmetric(12))
    with torch.no_grad():
        network.second.fill_(1e200)
    before = footprint(network)
    with pytest.raises(FloatingPointError, match="loss of batch 1 of 2 is"):
        epsilon_sharpness(network, data)
    assert unchanged(network, before)


def test_a_loss_that_bursts_within_the_box_is_named():
    network, data, _ = quadratic(matrix=-torch.eye(12, dtype=torch.float64))  # below 0 there is no cross-entropy
    with pytest.raises(FloatingPointError, match="loss of batch"):
        epsilon_sharpness(network, data, 1e3)


@pytest.mark.parametrize("wrong", [{"epsilon": 0.0}, {"epsilon": math.nan}, {"iterations": 0}, {"draws": 0}])
def test_bad_input_is_refused(wrong):
    network, data, _ = quadratic()
    with pytest.raises(ValueError, match="epsilon above 0, and at least one iteration and one draw"):
        epsilon_sharpness(network, data, **wrong)


def test_a_network_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters that need a gradient"):
        epsilon_sharpness(nn.Flatten(), batches(2))
