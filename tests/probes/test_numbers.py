"""What is asked of networks that read numbers of several digits: errors, windows, and what a step costs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import asked

import datamodules
from ablations.harness.store.records import Records
from ablations.probes.number_errors import NumberErrors, lengths
from ablations.probes.timing.steps import NETWORKS, TransformerSteps
from ablations.probes.transformers.number_windows import NumberWindows, true_boxes
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from datamodules.sources.pixels import Decoded, Pixels
from modules import build

PLACES = 5
STEPS = TransformerSteps(precision="32-true", rounds=2, timed_batch=2, timed_size=16, timed_width=4, timed_hidden=8)


@pytest.fixture
def numbers(digits: ImageData) -> MadeData:
    return datamodules.make(digits, "digit_sequences", size=16)


def by(found: Records, field: str, **where: Any) -> dict[str, float]:
    return {row.fields[field]: row.value for row in found.where(**where)}


def test_errors_of_who_always_sees_nothing(numbers: MadeData, tmp_path: Path) -> None:
    def nothing(images: torch.Tensor) -> torch.Tensor:
        return torch.eye(11)[:, -1:].expand(len(images), 11, PLACES)

    found = asked(NumberErrors(), nothing, numbers, folder=tmp_path)
    assert by(found, "length", probe="length") == {"0": 0.0, **dict.fromkeys("12345", 100.0)}
    length = numbers.truth["test"]["length"]
    shares = {str(place): 100 * int((length >= place).sum()) / len(length) for place in range(1, PLACES + 1)}
    assert by(found, "place", probe="place") == pytest.approx(shares)
    assert len(set(shares.values())) == PLACES


def test_windows_of_transformers_that_look_through_each_other(numbers: MadeData, tmp_path: Path) -> None:
    network = build("st_svhn", 11, 1, image_size=16, transformers="multi", num_digits=PLACES, width=4, hidden=32)
    for name in ("transformer1", "transformer2"):  # each takes the left half, squeezed to a square
        half = torch.tensor([0.5, 0.0, -0.5, 0.0, 1.0, 0.0])
        network.get_parameter(f"blocks.{name}.branch.localisation.theta.bias").data.copy_(half)
    found = asked(NumberWindows(), network.eval(), numbers, folder=tmp_path)
    area = by(found, "transformer", metric="window/area")
    assert area == pytest.approx({"0": 100.0, "1": 50.0, "2": 25.0, "3": 25.0, "4": 25.0})
    covers = by(found, "transformer", metric="window/covers")
    assert covers["0"] == pytest.approx(100.0)
    assert covers["1"] > covers["2"] == covers["4"]
    boxes = true_boxes(numbers.truth["test"])[numbers.truth["test"]["length"] > 0].tolist()
    overlaps = by(found, "transformer", metric="window/overlap")
    for transformer, edge in (("0", 1.0), ("1", 0.0), ("2", -0.5), ("4", -0.5)):  # what is left of it is seen
        sizes = [((r - le) * (b - t), max(0.0, min(r, edge) - max(le, -1.0)) * (b - t)) for le, t, r, b in boxes]
        shares = [both / (2 * (edge + 1) + own - both) for own, both in sizes]
        assert overlaps[transformer] == pytest.approx(100 * sum(shares) / len(boxes), rel=1e-5)
    with np.load(tmp_path / "looks.npz", allow_pickle=False) as looks:
        assert looks["images"].shape == looks["outputs"].shape == (PLACES, 16, 16)
        for image, seen in zip(looks["images"].astype(float), looks["outputs"], strict=True):
            padded = np.pad(image, ((0, 0), (1, 0)), constant_values=255 * numbers.mean[0])  # 0 for the network
            columns = (np.arange(16) - 1.5) / 4 + 1  # four to a pixel
            left = np.floor(columns).astype(int)
            expected = padded[:, left] * (left + 1 - columns) + padded[:, left + 1] * (columns - left)
            assert np.abs(seen - expected).max() < 0.51, "the quarter at the left, from edge to edge, and no more"
        assert np.allclose(looks["outlines"][0], [(-0.5, -0.5), (3.5, -0.5), (3.5, 15.5), (-0.5, 15.5)])
        assert [int((labels != 10).sum()) for labels in looks["labels"]] == [1, 2, 3, 4, 5]


def test_of_photographs_nobody_knows_the_boxes(tmp_path: Path) -> None:
    labels = torch.full((4, PLACES), 10)
    labels[:, 0] = torch.arange(4)
    pixels = Pixels(torch.zeros(4, 16, 16, 3, dtype=torch.uint8), labels)
    data = ImageData(Decoded(pixels, pixels, 11), name="numbers", digest="0", augment=Augment(), validation=0.0)
    network = build("st_svhn", 11, 3, image_size=16, transformers="single", num_digits=PLACES, width=4, hidden=8)
    found = asked(NumberWindows(), network.eval(), data, folder=tmp_path)
    assert {row.metric for row in found} == {"window/area"}


def test_the_box_around_a_number_ends_with_its_last_digit(digits: ImageData) -> None:
    data = datamodules.make(digits, "digit_sequences", size=32)
    truth = data.truth["test"]
    assert torch.equal(lengths(data), truth["length"])
    boxes = true_boxes(truth)
    for index in range(20):
        pixels = data.test.images[index, :, :, 0].max(dim=0).values.nonzero().flatten()
        if truth["length"][index] > 0:
            left, right = ((boxes[index, [0, 2]] + 1) * 16).tolist()
            assert left - 1.5 <= pixels.min(), "no ink outside, but for what sampling spreads"
            assert pixels.max() + 1 <= right + 1.5
            assert pixels.max() - pixels.min() > 0.6 * (right - left)


def test_steps_of_three_networks_take_turns(numbers: MadeData, tmp_path: Path) -> None:
    found = asked(STEPS, None, numbers, folder=tmp_path)
    seconds = found.where(probe="timed", metric="seconds")
    assert [(row.fields["network"], row.fields["round"]) for row in seconds] == [
        (name, number) for name in NETWORKS for number in "01"
    ]
    assert min(seconds.values()) > 0
    counted = by(found, "network", metric="multiply_adds")
    assert counted["cnn"] < counted["multi"]
    assert counted["cnn"] < counted["single"]
    assert found.where(metric="images_on_gpu").values() == [0.0], "what is timed on a CPU says nothing of a GPU"


@pytest.mark.parametrize(("name", "value", "told"), [
    ("precision", "fp32", "--probe.precision must be one of 32-true, bf16-mixed, got 'fp32'"),
    ("timed_size", 8, "--probe.timed_size 8: give 16 or more"),
    ("rounds", 0, "--probe.rounds 0: give 1 or more"),
])  # fmt: skip
def test_what_cannot_be_timed_is_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(STEPS, **{name: value})
