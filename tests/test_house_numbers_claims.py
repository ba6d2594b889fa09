"""The plans, the probe, the estimates, the verdicts and the figures of `house_numbers`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from ablations.harness.probing import Subject
from PIL import Image

import datamodules
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.declare.precision import granted
from ablations.harness.launch import main
from ablations.harness.store.records import Record, Records, point
from ablations.house_numbers import (
    ABLATION,
    CNN,
    LONGEST,
    MULTI,
    SINGLE,
    TRANSFORMERS,
    corners,
    dearer,
    errors,
    lengths,
    plan,
    true_boxes,
)
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from modules import build, recipe_for
from modules.training.recipe import with_overrides

SEEDS = range(8)
ERRORS = {CNN: 30.0, SINGLE: 25.0, MULTI: 20.0}
SECONDS = {CNN: 1.0, SINGLE: 1.1, MULTI: 1.06}
MULTIPLY_ADDS = {CNN: 100.0, SINGLE: 105.0, MULTI: 102.0}


def row(arm: str, seed: int, where: str, metric: str, value: float) -> Record:
    return Record("house_numbers", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def evidence(
    errors: dict[str, float] = ERRORS, seconds: dict[str, float] = SECONDS, swing: float = 0.0, diverged: str = ""
) -> Records:
    """Errors of the arms and seconds of the timed networks; swing: what every second seed adds to both."""
    rows = []
    for seed in SEEDS:
        noise = 0.01 * seed + swing * (-1) ** seed
        for arm, value in errors.items():
            broken = arm == diverged and seed == 5
            found = math.nan if broken else value + (noise if arm == CNN else 0)
            rows.append(row(arm, seed, "test", "test/top1_error", found))
        for name, value in seconds.items():
            rows.append(row(MULTI, seed, point("timed", network=name), "multiply_adds", MULTIPLY_ADDS[name]))
            for number in range(3):
                slow = 5.0 if number == 2 else 1.0  # of the machine, for all networks alike
                each = slow * (value + 0.01 * (noise if name == MULTI else 0))
                rows.append(row(MULTI, seed, point("timed", network=name, round=number), "seconds", each))
    return Records(rows)


def test_estimates_are_paired_and_in_percent() -> None:
    records = evidence()
    assert dearer("seconds", SINGLE).by_seed(records) == pytest.approx(dict.fromkeys(SEEDS, 10.0))
    assert dearer("multiply_adds", MULTI).by_seed(records) == pytest.approx(dict.fromkeys(SEEDS, 2.0))
    assert dearer("seconds", MULTI).by_seed(evidence(seconds={})) == {}


def test_plans_are_sound_for_every_budget(digits: ImageData) -> None:
    for budget in BUDGETS:
        planned = granted(plan(budget, digits), bf16_is_fast=True)
        check(ABLATION, planned)
        json.dumps(dict(planned.settings))
        assert {arm.name: arm.arguments["transformers"] for arm in planned.arms} == TRANSFORMERS
        assert len({json.dumps([arm.recipe, arm.data]) for arm in planned.arms}) == 1, "arms differ in nothing else"
        made = datamodules.make(digits, **planned.arms[0].data)
        assert made.test.labels.shape[1] == planned.arms[0].arguments["num_digits"] == LONGEST
        recipe = with_overrides(recipe_for("st_svhn"), dict(planned.arms[0].recipe))
        steps = recipe.epochs * made.identity["num_train"] / recipe.batch_size
        if budget == "paper":
            assert steps == pytest.approx(400_000, rel=0.01)
            assert (recipe.learning_rate, recipe.localisation_factor) == (0.01, 0.1)
            assert not set(planned.arms[0].arguments) - {"num_digits", "transformers"}, "the published network"


def write_numbers(folder: Path, digits: str) -> None:
    """SVHN's own format: one image of one digit for each of `digits`, and the file that describes them."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (len(digits), 50, 60, 3), np.uint8)
    with h5py.File(folder / "digitStruct.mat", "w") as mat:
        names = mat.create_dataset("digitStruct/name", (len(digits), 1), h5py.ref_dtype)
        boxes = mat.create_dataset("digitStruct/bbox", (len(digits), 1), h5py.ref_dtype)
        for index, digit in enumerate(digits):
            name = f"{index + 1}.png"
            Image.fromarray(pixels[index]).save(folder / name)
            letters = np.array([[ord(letter)] for letter in name], np.uint16)
            names[index, 0] = mat.create_dataset(f"#refs#/name{index}", data=letters).ref
            group = mat.create_group(f"#refs#/box{index}")
            boxes[index, 0] = group.ref
            fields = {"label": int(digit) or 10, "left": 20, "top": 10, "width": 15, "height": 25}
            for field, value in fields.items():
                group.create_dataset(field, data=np.array([[value]], np.float64))


def test_real_numbers_are_used_as_they_are(tmp_path: Path) -> None:
    write_numbers(tmp_path / "train", "0123456789" * 8)
    write_numbers(tmp_path / "test", "0123456789")
    data = datamodules.load("house_numbers", tmp_path, image_size=32, cache=False)
    planned = plan("smoke", data)
    check(ABLATION, planned)
    assert [dict(arm.data) for arm in planned.arms] == [{}, {}, {}]
    assert {arm.arguments["num_digits"] for arm in planned.arms} == {5}
    asked = subject(data, SINGLE, tmp_path / "kept")
    found = Records(row(SINGLE, 0, m.point, m.metric, m.value) for m in ABLATION.probe(asked))
    assert [r.fields["length"] for r in found.where(probe="length")] == ["1"]
    assert {r.metric for r in found.where(probe="window")} == {"window/area"}, "nobody knows the true boxes"


def subject(data: ImageData, arm: str, folder: Path) -> Subject:
    planned = plan("smoke", data)
    chosen = next(each for each in planned.arms if each.name == arm)
    torch.manual_seed(0)
    network = build("st_svhn", data.num_classes, data.in_channels, image_size=data.image_size, **chosen.arguments)
    return Subject(network.eval(), data, planned.settings, arm, 0, torch.device("cpu"), folder=folder)


def test_the_probe_tells_where_the_network_looks(digits: ImageData, tmp_path: Path) -> None:
    data = datamodules.make(digits, "digit_sequences", size=16)
    asked = subject(digits, MULTI, tmp_path)
    network = build("st_svhn", 11, 1, image_size=16, transformers="multi", num_digits=LONGEST, width=4, hidden=32)
    for name in ("transformer1", "transformer2"):  # each takes the left half, squeezed to a square
        half = torch.tensor([0.5, 0.0, -0.5, 0.0, 1.0, 0.0])
        network.get_parameter(f"blocks.{name}.branch.localisation.theta.bias").data.copy_(half)
    asked = Subject(network.eval(), data, asked.settings, MULTI, 0, asked.device, folder=tmp_path)
    found = Records(row(MULTI, 0, m.point, m.metric, m.value) for m in ABLATION.probe(asked))
    area = {r.fields["transformer"]: r.value for r in found.where(probe="window", metric="window/area")}
    assert area == pytest.approx({"0": 100.0, "1": 50.0, "2": 25.0, "3": 25.0, "4": 25.0})
    covers = {r.fields["transformer"]: r.value for r in found.where(probe="window", metric="window/covers")}
    assert covers["0"] == pytest.approx(100.0)
    assert covers["1"] > covers["2"] == covers["4"]
    assert isinstance(data, MadeData)
    boxes = true_boxes(data.truth["test"])[data.truth["test"]["length"] > 0].tolist()
    overlaps = {r.fields["transformer"]: r.value for r in found.where(probe="window", metric="window/overlap")}
    for transformer, edge in (("0", 1.0), ("1", 0.0), ("2", -0.5), ("4", -0.5)):  # what is left of it is seen
        sizes = [((r - le) * (b - t), max(0.0, min(r, edge) - max(le, -1.0)) * (b - t)) for le, t, r, b in boxes]
        shares = [both / (2 * (edge + 1) + own - both) for own, both in sizes]
        assert overlaps[transformer] == pytest.approx(100 * sum(shares) / len(boxes), rel=1e-5)
    with np.load(tmp_path / "looks.npz", allow_pickle=False) as looks:
        assert looks["images"].shape == looks["outputs"].shape == (LONGEST, 16, 16)
        for image, seen in zip(looks["images"].astype(float), looks["outputs"], strict=True):
            padded = np.pad(image, ((0, 0), (1, 0)), constant_values=255 * data.mean[0])  # which is 0 for the network
            columns = (np.arange(16) - 1.5) / 4 + 1  # four to a pixel
            left = np.floor(columns).astype(int)
            expected = padded[:, left] * (left + 1 - columns) + padded[:, left + 1] * (columns - left)
            assert np.abs(seen - expected).max() < 0.51, "the quarter at the left, from edge to edge, and no more"
        assert np.allclose(looks["outlines"][0], [(-0.5, -0.5), (3.5, -0.5), (3.5, 15.5), (-0.5, 15.5)])
        width = [int((labels != 10).sum()) for labels in looks["labels"]]
    assert width == [1, 2, 3, 4, 5]
    seconds = found.where(probe="timed", metric="seconds")
    assert {r.fields["network"] for r in seconds} == set(TRANSFORMERS)
    assert min(seconds.values()) > 0
    by_place = found.where(probe="place").values()
    assert len(by_place) == LONGEST
    assert max(by_place) <= 100.0


def test_errors_of_who_always_sees_nothing(digits: ImageData, tmp_path: Path) -> None:
    data = datamodules.make(digits, "digit_sequences", size=16)

    def nothing(images: torch.Tensor) -> torch.Tensor:
        return torch.eye(11)[:, -1:].expand(len(images), 11, LONGEST)

    asked = Subject(nothing, data, {}, CNN, 0, torch.device("cpu"), folder=tmp_path)  # type: ignore[arg-type]
    found = Records(row(CNN, 0, m.point, m.metric, m.value) for m in errors(asked))
    by_length = {r.fields["length"]: r.value for r in found.where(probe="length", metric="error")}
    assert by_length == {"0": 0.0, **dict.fromkeys("12345", 100.0)}
    length = data.truth["test"]["length"]  # type: ignore[attr-defined]
    shares = [100 * int((length >= place).sum()) / len(length) for place in range(1, LONGEST + 1)]
    assert [r.fields["place"] for r in found.where(probe="place")] == list("12345")
    assert found.where(probe="place", metric="error").values() == pytest.approx(shares)
    assert len(set(shares)) == LONGEST


def test_the_box_around_a_number_ends_with_its_last_digit(digits: ImageData) -> None:
    data = datamodules.make(digits, "digit_sequences", size=32)
    assert isinstance(data, MadeData)
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


def test_corners_go_round_the_window() -> None:
    matrix = torch.tensor([[[0.5, 0.0, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    assert corners(matrix).tolist() == [[[-0.25, -1], [0.75, -1], [0.75, 1], [-0.25, 1]]]


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        main(ABLATION, [*map(str, words), "--budget", "smoke", "--wandb", "disabled"])
    assert left.value.code == 2
    return capsys.readouterr().err


def test_what_is_no_number_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colour = SimpleNamespace(name="cifar10", in_channels=3, test=SimpleNamespace(labels=torch.zeros(4)))
    with pytest.raises(ValueError, match="cifar10: colour images with one label each; allowed: numbers"):
        plan("laptop", colour)  # type: ignore[arg-type]
    for label in ("a", "b"):
        for split in ("train", "test"):
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(12):
                Image.new("RGB", (16, 16), (200, 20 * index, 0)).save(tmp_path / split / label / f"{index}.png")
    told = refused(capsys, "--data", "folder", "--data-root", tmp_path, "--out", tmp_path / "runs")
    assert "colour images with one label each" in told
    assert len(told.splitlines()) == 1
    told = refused(capsys, "--network", "resnet20", "--weights", "random", "--out", tmp_path / "runs")
    assert "takes no network from outside" in told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("precision", "fp32", "--probe.precision must be one of 32-true, bf16-mixed, got 'fp32'"),
        ("timed_size", 8, "--probe.timed_size 8: give 16 or more"),
        ("rounds", 0, "--probe.rounds 0: give 1 or more"),
    ],
)
def test_what_cannot_be_timed_is_refused(
    name: str, value: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(capsys, f"--probe.{name}", value, "--out", tmp_path / "runs").splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_figures_need_no_more_than_there_is(tmp_path: Path) -> None:
    assert ABLATION.figures(Records(), tmp_path) == []
    drawn = [figure.file for figure in ABLATION.figures(evidence(), tmp_path)]
    assert drawn == ["figures/pairs.png", "figures/costs.png", "figures/arms.csv"]
    table = (tmp_path / "figures" / "arms.csv").read_text().splitlines()
    assert table[2].startswith("one in front,25,3.7,3.9,105,")
