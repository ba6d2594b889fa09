"""Distorted digits: against a slow reference, the ranges of the paper, and the truth that is kept."""

from typing import Any

import numpy as np
import pytest
import torch
from distortion_reference import distorted
from torch import Tensor

import datamodules
from datamodules import ImageData
from datamodules.made.distorted_digits import KINDS, DistortedDigits, distorted_digits
from datamodules.sources.decoding import resized
from modules.blocks.grids import MatrixGrid
from modules.blocks.sampling import sample

TOLD: dict[str, dict[str, Any]] = {
    "R": {"room": 28, "angle": 90},
    "RTS": {"room": 42, "angle": 45, "scale": (0.7, 1.2), "placed": True},
    "P": {"room": 28, "scale": (0.75, 1.0), "corners": 5.0},
    "E": {"room": 28, "scale": (0.75, 1.0), "bends": 1.5},
    "TC": {"room": 60, "whole": True},
}


def described(source: ImageData, kind: str, num: int, **arguments: Any) -> tuple[DistortedDigits, dict[str, Tensor]]:
    maker = distorted_digits(source, kind, **arguments)
    draws = torch.rand(num, maker.num_draws, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(num) % len(source.train)
    return maker, maker.describe(source.train.labels, rows, draws)


@pytest.mark.parametrize("kind", TOLD)
def test_agrees_with_the_reference(source: ImageData, kind: str) -> None:
    num = 8
    maker, description = described(source, kind, num, **({"patches": 0} if kind == "TC" else {}))
    draws = torch.rand(num, maker.num_draws, generator=torch.Generator().manual_seed(0)).double().numpy()
    digits = source.train.images[..., 0]
    painted = maker.paint(digits, description)[..., 0].numpy()
    for index in range(num):
        expected = distorted(digits[index].double().numpy(), draws[index], maker.image_size, **TOLD[kind])
        assert np.abs(painted[index] - expected).max() <= 0.51, f"sample {index}: more than rounding"
        assert expected.max() > 100


def test_clutter_is_cut_from_other_digits_and_lies_over(source: ImageData) -> None:
    maker, description = described(source, "TC", 40)
    plain, _ = described(source, "TC", 40, patches=0)
    digits = source.train.images[..., 0]
    assert (maker.patch, maker.image_size) == (3, 34)
    expected = plain.paint(digits, description)[..., 0]
    for index, canvas in enumerate(expected):
        for rows, (x, y), (u, v) in zip(
            *(description[f"clutter_{name}"][index].tolist() for name in ("rows", "crops", "places")), strict=True
        ):
            assert rows != index, "another digit"
            square = canvas[v : v + 3, u : u + 3]
            canvas[v : v + 3, u : u + 3] = torch.maximum(square, digits[rows, y : y + 3, x : x + 3])
    assert torch.equal(maker.paint(digits, description)[..., 0], expected)
    assert description["clutter_rows"].shape == (40, 6)


def test_ranges_of_the_paper(source: ImageData) -> None:
    sizes = {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}
    assert {kind: told.room for kind, told in KINDS.items()} == sizes
    assert all(distorted_digits(source, kind, size).digit_size == 28 for kind, size in sizes.items())
    assert distorted_digits(source, "TC", 60).patch == 6


def test_corners_that_would_fold_are_held_back(source: ImageData) -> None:
    maker, told = described(source, "P", 500, corners=40.0)
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    at = corners @ told["matrix"].mT
    edges = (at[..., :2] / at[..., 2:]).roll(-1, 1) - at[..., :2] / at[..., 2:]
    after = edges.roll(-1, 1)
    assert (edges[..., 0] * after[..., 1] > edges[..., 1] * after[..., 0]).all(), "convex, and not mirrored"
    assert maker.paint(source.train.images[..., 0], told).shape == (500, 16, 16, 1)


@pytest.mark.parametrize("kind", ["R", "RTS", "P", "TC"])
def test_a_transformer_told_the_truth_undoes_it(source: ImageData, kind: str) -> None:
    maker, told = described(source, kind, 100, patches=0, size=round(64 * KINDS[kind].room / 28))
    digits = resized(source.train, 64).images[..., 0]
    images = maker.paint(digits, told).permute(0, 3, 1, 2)
    grid = MatrixGrid(64, "projective" if kind == "P" else "affine", 1.0, (0.0, 0.0))
    theta = told["matrix"].flatten(1)[:, : grid.num_numbers]
    restored = sample(images.float(), grid(theta), "bilinear")[:, 0]
    inside = sample(torch.ones_like(images).float(), grid(theta), "bilinear")[:, 0] > 0.99
    wrong = (restored - digits[:100].float()).abs() * inside
    assert wrong.sum() / inside.sum() < 3.0, "grey levels of 255, lost by sampling twice"


def test_classes_can_stand_upside_down(source: ImageData) -> None:
    _, upright = described(source, "R", 200, angle=10)
    _, told = described(source, "R", 200, angle=10, upside_down=(4, 6))
    is_turned = (told["labels"] == 4) | (told["labels"] == 6)
    assert torch.equal(told["angle"] - upright["angle"], 180.0 * is_turned)
    assert 0 < is_turned.sum() < 200


@pytest.mark.parametrize(("arguments", "message"), [
    ({"kind": "RST"}, "unknown distortion 'RST'; allowed: R, RTS, P, E, TC"),
    ({"angles": 3}, "unknown 'angles'; a distortion has room, angle, scale"),
    ({"scale": (1.2, 0.7)}, r"scale is \(1.2, 0.7\); allowed: two positive numbers"),
    ({"scale": (1, 2)}, "room is 42; digits of 56 pixels have no place in it"),
    ({"kind": "P", "corners": -1.0}, "corners is -1.0; allowed: 0 or more"),
    ({"kind": "TC", "patch_size": 40}, "patch_size is 40; allowed: more than 0, up to 28 pixels"),
    ({"size": 1}, "size is 1; too small for a digit"),
])  # fmt: skip
def test_refusals(source: ImageData, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        datamodules.make(source, "distorted_digits", **arguments)
