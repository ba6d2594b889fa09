"""Images of several digits: sums, pairs of one digit, numbers, heads and bodies; labels and boxes against pixels."""

from typing import Any

import pytest
import torch
from torch import Tensor

import datamodules
from datamodules import ImageData
from datamodules.made.made_data import MadeData
from datamodules.sources.decoding import resized


def parts(source: ImageData, name: str, **arguments: Any) -> tuple[MadeData, dict[str, Tensor], Tensor, Tensor]:
    """The data, the truth, the digits (M, D, D) and the images (N, S, S, C) of its test split."""
    data = datamodules.make(source, name, **arguments)
    return data, data.truth["test"], source.test.images[..., 0], data.test.images


def pixels_of(boxes: Tensor, size: int) -> Tensor:
    """Boxes in pixels, which must be whole."""
    exact = (boxes.double() + 1) * size / 2
    assert (exact - exact.round()).abs().max() < 1e-4
    return exact.round().long()


def test_addition(source: ImageData) -> None:
    data, told, digits, images = parts(source, "digit_addition")
    assert (data.in_channels, data.image_size, data.num_classes, data.name) == (2, 24, 19, "digits-addition24")
    assert torch.equal(told["labels"], source.test.labels[told["rows"]].sum(1))
    assert torch.equal(told["rows"][:, 0], torch.arange(450))
    assert len(told["rows"][:, 1].unique()) > 200
    single = datamodules.make(source, "distorted_digits", kind="RTS")
    for channel in range(2):
        alone = {"rows": told["rows"][:, channel], "inverse": told["inverse"][:, channel]}
        assert torch.equal(images[..., channel], single.maker.paint(digits, alone)[..., 0])
    assert (told["angle"][:, 0] - told["angle"][:, 1]).abs().mean() > 10, "each on its own"
    assert torch.allclose(told["inverse"] @ told["matrix"], torch.eye(3).expand(450, 2, 3, 3), atol=1e-5)
    assert torch.equal(told["matrix"][:, :, :2, 2], told["shift"])
    few, told, digits, images = parts(source, "digit_addition", digits=5, angle=0.0, scale=(1.0, 1.0), room=28)
    assert (few.num_classes, few.image_size) == (9, 16)
    assert torch.equal(told["digits"], source.test.labels[told["rows"]])
    assert told["digits"].unique().tolist() == [0, 1, 2, 3, 4]
    assert len(told["rows"][:, 0].unique()) == (source.test.labels < 5).sum(), "each of them is a first digit"
    assert torch.equal(images[..., 1], digits[told["rows"][:, 1]]), "in so little room nothing is displaced"


def test_pairs_of_the_same_digit(source: ImageData) -> None:
    data, told, digits, images = parts(source, "same_digits", patches=0)
    assert (data.in_channels, data.image_size, data.num_classes) == (2, 48, 10)
    assert torch.equal(source.test.labels[told["rows"]], told["labels"][:, None].expand(450, 2))
    assert (told["rows"][:, 0] != told["rows"][:, 1]).all()
    corners = pixels_of(told["boxes"], 48)
    for index in range(450):
        for channel in range(2):
            left, top, right, bottom = corners[index, channel].tolist()
            image = images[index, :, :, channel].clone()
            assert torch.equal(image[top:bottom, left:right], digits[told["rows"][index, channel]])
            image[top:bottom, left:right] = 0
            assert not image.any(), "nothing else"
    assert (corners[..., :2].min(), corners[..., 2:].max()) == (0, 48)
    cluttered, clutter, _, crowded = parts(source, "same_digits")
    assert clutter["clutter_rows"].shape == (450, 2, 16)
    assert cluttered.name == "digits-pairs48-16patches"
    assert (crowded > 0).sum() > 1.3 * (images > 0).sum()


def test_pairs_of_any_two_digits(source: ImageData) -> None:
    data, told, digits, images = parts(source, "same_digits", patches=0, same=False)
    assert data.name == "digits-any-pairs48"
    assert parts(source, "same_digits", same=False)[0].name == "digits-any-pairs48-16patches"
    own, partner = told["rows"].unbind(1)
    assert torch.equal(own, torch.arange(450))
    assert (own != partner).all(), "no digit is its own partner"
    assert len(partner.unique()) > 200
    assert torch.equal(told["labels"], source.test.labels)
    alike = (source.test.labels[partner] == told["labels"]).double().mean()
    assert 0.03 < alike < 0.2, "one of ten classes, as chance has it"
    for index, (left, top, right, bottom) in enumerate(pixels_of(told["boxes"], 48)[:, 1].tolist()):
        assert torch.equal(images[index, top:bottom, left:right, 1], digits[partner[index]])


def test_numbers(source: ImageData) -> None:
    data, told, _, images = parts(source, "digit_sequences")
    assert (data.image_size, data.num_classes, data.name) == (32, 11, "digits-sequences32")
    assert told["labels"].shape == (450, 5)
    is_digit = told["labels"] < 10
    assert torch.equal(is_digit.sum(1), told["length"])
    assert (is_digit[:, 1:] <= is_digit[:, :-1]).all(), "the null class comes last"
    assert torch.equal(told["labels"][is_digit], source.test.labels[told["rows"]][is_digit])
    assert (told["length"].bincount(minlength=6) > 40).all(), "all lengths, from none to five"
    assert not images[told["length"] == 0].any()
    small = resized(source.test, 8).images[..., 0].double()
    for index in (told["length"] > 0).nonzero().flatten()[:100].tolist():
        for place in range(told["length"][index]):
            left, top, right, bottom = ((told["boxes"][index, place].double() + 1) * 16).tolist()
            assert -1e-5 < left < right < 32 + 1e-5
            assert -1e-5 < top < bottom < 32 + 1e-5
            inner = images[index, round(top) : round(bottom), round(left) : round(right), 0].double()
            seen = torch.nn.functional.interpolate(inner[None, None], (8, 8), mode="area").flatten()
            every = torch.corrcoef(torch.cat([seen[None], small.flatten(1)]))[0, 1:]
            rank = (every > every[told["rows"][index, place]]).sum()
            assert rank < 45, "the digit of that row stands in its box: among the likest tenth of all"


def test_heads_and_bodies(source: ImageData) -> None:
    data, told, digits, images = parts(source, "two_parts")
    assert (data.image_size, data.num_classes, data.in_channels) == (80, 25, 1)
    head, body = source.test.labels[told["rows"]].unbind(1)
    assert (head < 5).all()
    assert (body >= 5).all()
    assert torch.equal(told["labels"], 5 * head + body - 5)
    assert told["labels"].bincount(minlength=25).min() > 4
    corners = pixels_of(told["boxes"], 80)
    for index in range(450):
        image = images[index, :, :, 0].clone()
        for part in range(2):
            left, top, right, bottom = corners[index, part].tolist()
            assert torch.equal(image[top:bottom, left:right], digits[told["rows"][index, part]]), "no part hides one"
        for left, top, right, bottom in corners[index].tolist():
            image[top:bottom, left:right] = 0
        assert not image.any()
    left, top, right, bottom = corners.movedim(2, 0)
    assert (bottom[:, 0].max(), top[:, 1].min()) == (40, 40), "heads fill the upper half, bodies the lower one"
    assert (top[:, 0].min(), bottom[:, 1].max()) == (0, 80)
    assert 0.4 < (left[:, 0] < left[:, 1]).double().mean() < 0.6, "a head is as often further to the left"
    assert (left.min(), right.max()) == (0, 80)


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("digit_addition", {"scale": (1.0, 1.6)}, "room is 42; digits of 44.8 pixels have no place in it"),
    ("digit_addition", {"digits": 11}, "digits is 11; allowed: 2 to 10"),
    ("same_digits", {"patches": -1}, "patches is -1; allowed: 0 or more"),
    ("same_digits", {"size": 3}, "size is 3; too small for a digit"),
    ("digit_sequences", {"longest": 0}, "longest is 0; allowed: 1 or more digits"),
    ("digit_sequences", {"wide": (0.5, 1.5)}, r"wide is \(0.5, 1.5\); allowed: two fractions in \(0, 1\]"),
    ("digit_sequences", {"size": 4}, "size is 4; allowed: 8 or more pixels"),
    ("two_parts", {"room": 50}, "room 50 at size 29: parts of 16 pixels; allowed: 2 to half the size"),
])  # fmt: skip
def test_refusals(source: ImageData, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datamodules.make(source, name, **arguments)
