"""Gabor fits, colour and orientation of kernels whose answers are known, and what noise gives."""

import math

import numpy as np
import pytest
import torch

from ablations.probes.filters.gabor import fit_gabor
from ablations.probes.filters.kernels import (
    first_kernels,
    gradient_orientation,
    has_streams,
    main_component,
    measure,
    ordered,
)
from modules import build


def stripes(size, degrees, wavelength, sigma=2.0):
    """A Gabor function whose stripes run at that angle from the horizontal, towards the bottom."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    across = math.radians(degrees - 90)
    u = x * math.cos(across) + y * math.sin(across)
    return np.exp(-(x**2 + y**2) / (2 * sigma**2)) * np.cos(2 * np.pi * u / wavelength)


def apart(one, other):
    """Degrees between two orientations."""
    return min((one - other) % 180, (other - one) % 180)


@pytest.mark.parametrize("size", [5, 7, 11])
@pytest.mark.parametrize("degrees", [0, 30, 90, 145])
def test_a_gabor_function_is_found_again(size, degrees):
    found = fit_gabor(3.0 * stripes(size, degrees, 4.0) + 0.5)
    assert found.explained > 0.999
    assert apart(found.orientation, degrees) < 1
    assert found.wavelength == pytest.approx(4.0, rel=0.02)
    assert found.sigma == pytest.approx(2.0, rel=0.05)


def test_noise_is_fitted_less_and_a_constant_not_at_all():
    draws = np.random.default_rng(0)
    noise = [fit_gabor(draws.standard_normal((5, 5))).explained for _ in range(20)]
    assert 0.2 < np.mean(noise) < 0.65
    assert max(noise) < 0.75, "the threshold of first_layer_filters lies above noise"
    flat = fit_gabor(np.full((5, 5), 2.0))
    assert flat.explained == 0.0
    assert math.isnan(flat.orientation)


@pytest.mark.parametrize("shape", [(3, 3), (5, 6)])
def test_kernels_that_cannot_be_fitted_are_refused(shape):
    with pytest.raises(ValueError, match="square kernels of at least 5"):
        fit_gabor(np.ones(shape))


@pytest.mark.parametrize("degrees", [0, 45, 90, 120])
def test_orientation_is_that_of_the_stripes(degrees):
    orientation, coherence = gradient_orientation(stripes(11, degrees, 8.0, sigma=4.0))
    assert apart(orientation, degrees) < 3
    assert coherence > 0.8
    assert gradient_orientation(np.ones((5, 5))) == (0.0, 0.0)


def test_saturation_is_the_share_off_the_grey_axis():
    pattern = torch.from_numpy(stripes(5, 0, 4.0))
    grey, red_green = torch.stack([pattern] * 3), torch.stack([pattern, -pattern, 0 * pattern])
    red = torch.stack([pattern, 0 * pattern, 0 * pattern])
    found = measure(torch.stack([grey, red_green, red, torch.randn(3, 5, 5)]))
    assert found[0].saturation == pytest.approx(0.0, abs=1e-12)
    assert found[1].saturation == pytest.approx(1.0)
    assert found[2].saturation == pytest.approx(2 / 3)
    assert [kernel.stream for kernel in found] == [0, 0, 1, 1]
    assert ordered(found)[0].number == 0
    assert ordered(found)[-1].number == 1
    assert measure(pattern[None, None])[0].saturation is None


def test_the_main_component_forgets_colour_but_not_sign():
    pattern = stripes(5, 30, 4.0)
    assert np.allclose(main_component(np.stack([pattern, 0.5 * pattern, pattern])), 1.5 * pattern)


def test_the_first_kernels_are_those_that_read_the_image():
    assert first_kernels(build("alexnet_cifar", in_channels=3)).shape == (32, 3, 5, 5)
    assert first_kernels(build("st_cnn", in_channels=1)).shape[-1] == 9, "not those of the localisation network"
    assert has_streams(build("alexnet_cifar", groups=2))
    assert not has_streams(build("alexnet_cifar"))
    assert measure(first_kernels(build("resnet_cifar", depth=8)))[0].gabor is None
    with pytest.raises(ValueError, match="no convolution"):
        first_kernels(build("mlp10"))
