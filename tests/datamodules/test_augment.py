"""Batched augmentation against a loop over samples, and normalisation against its definition."""

import pytest
import torch

from datamodules.augment import Augment, normalise


def one_at_a_time(augment: Augment, images: torch.Tensor, draws: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[1:3]
    results = []
    for image, (dy, dx, flip) in zip(images, draws.tolist(), strict=True):
        canvas = fill.repeat(height + 2 * augment.pad, width + 2 * augment.pad, 1)
        canvas[augment.pad : augment.pad + height, augment.pad : augment.pad + width] = image
        top, left = int(dy * (2 * augment.pad + 1)), int(dx * (2 * augment.pad + 1))
        crop = canvas[top : top + height, left : left + width]
        results.append(crop.flip(1) if augment.flip and flip < 0.5 else crop)
    return torch.stack(results)


@pytest.mark.parametrize("augment", [Augment(), Augment(2), Augment(0, True), Augment(4, True)])
@pytest.mark.parametrize("shape", [(9, 8, 8, 3), (5, 6, 10, 1), (1, 3, 3, 3)])
def test_equals_a_loop_over_samples(augment: Augment, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    draws = torch.rand(shape[0], 3, generator=generator)
    fill = torch.tensor([125, 123, 114], dtype=torch.uint8)[: shape[3]]
    before = images.clone()
    assert torch.equal(augment(images, draws, fill), one_at_a_time(augment, images, draws, fill))
    assert torch.equal(images, before)


def test_every_offset_is_reached_and_none_beyond() -> None:
    """Draws of 0 and of the largest float below 1 are the two extreme crops; between them all are equally likely."""
    image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4, 1)
    fill = torch.tensor([99], dtype=torch.uint8)
    largest = 1 - 2**-24
    first = Augment(pad=1)(image, torch.tensor([[0.0, 0.0, 0.9]]), fill)[0, :, :, 0]
    last = Augment(pad=1)(image, torch.tensor([[largest, largest, 0.9]]), fill)[0, :, :, 0]
    assert first.tolist() == [[99, 99, 99, 99], [99, 0, 1, 2], [99, 4, 5, 6], [99, 8, 9, 10]]
    assert last.tolist() == [[5, 6, 7, 99], [9, 10, 11, 99], [13, 14, 15, 99], [99, 99, 99, 99]]
    for pad in range(1, 100):
        assert int(torch.tensor(largest) * (2 * pad + 1)) == 2 * pad


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="pad is -1; allowed: 0 or more"):
        Augment(pad=-1)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_its_definition(channels: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1).repeat(1, 1, 1, channels)
    mean, std = (0.49, 0.48, 0.45)[:channels], (0.25, 0.24, 0.26)[:channels]
    result = normalise(images, mean, std)
    exact = (images.double() / 255 - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std, dtype=torch.float64)
    assert result.dtype == torch.float32
    assert result.shape == (4, channels, 8, 8)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.double(), exact.permute(0, 3, 1, 2), rtol=0, atol=5e-7)


def test_mean_colour_becomes_nearly_zero() -> None:
    fill = torch.tensor([125, 123, 114], dtype=torch.uint8)
    images = Augment(pad=4)(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 3), fill)
    corner = normalise(images, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262))[0, :, 0, 0]
    assert corner.abs().max() < 0.01
