"""What `spatial_transformer` asks networks, of networks that know where the digits are."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import asked
from torch import Tensor, nn

import datamodules
from ablations.harness.store.records import Records
from ablations.probes.transformers import questions as ask
from ablations.probes.transformers.poses import transformers
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from modules import Network, build
from modules.weights import save_weights

EVERYTHING = {"angle/removed": 100, "scale/removed": 100, "shift/removed": 100}


class Knows(nn.Module):
    """Answers with the theta of an image that it knows, and raises ValueError for any other."""

    images: Tensor
    answers: Tensor

    def __init__(self, images: Tensor, answers: Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images)
        self.register_buffer("answers", answers)

    def forward(self, images: Tensor) -> Tensor:
        distances, nearest = torch.cdist(images, self.images, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        if distances.max() > 1e-3:
            raise ValueError("an image that is none of the test images as a network reads them")
        return self.answers[nearest]


def knowing(network: Network, data: ImageData, answers: Tensor) -> Knows:
    """Makes the one transformer of the network answer so for what it is given of each test image, in their order."""
    ((_, transformer),) = transformers(network).items()
    read: list[Tensor] = []
    handle = transformer.localisation.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].flatten(1)))
    with torch.no_grad():
        for images, _ in data.evaluation_batches("test"):
            network.eval()(images)
    handle.remove()
    knows = Knows(torch.cat(read), answers)
    transformer.localisation = nn.Sequential(OrderedDict(features=nn.Flatten(), theta=knows))
    return knows


def made(name: str, **arguments: Any) -> MadeData:
    return datamodules.make(datamodules.load("digits"), name, **arguments)


def undone(answer: str, folder: Path) -> Records:
    """Of a network whose theta is the `truth`, the `identity`, or the truth of the test images in `reversed` order."""
    data = made("distorted_digits", kind="RTS", size=24, upside_down=[4])
    truth = data.truth["test"]["matrix"][:, :2].flatten(1)
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0]).expand_as(truth)
    network = build("st_cnn", 10, 1, image_size=24, num_parameters=100_000)
    knowing(network, data, {"truth": truth, "identity": identity, "reversed": truth.flip(0)}[answer])
    passes: list[int] = []
    rows = asked(ask.FoundPoses(), network, data, on_pass=lambda: passes.append(1), folder=folder)
    assert len(passes) == len(list(data.evaluation_batches("test")))
    return rows


def test_the_truth_undoes_everything(tmp_path: Path) -> None:
    rows = undone("truth", tmp_path)
    values = {row.metric: row.value for row in rows.where(probe="pose")}
    assert values == pytest.approx({**EVERYTHING, "scale/correlation": 1, "shift/correlation": 1}, abs=1e-3)
    assert rows.where(probe="class", label=4, metric="kept_upside_down").values() == [0.0]
    with np.load(tmp_path / "poses.npz", allow_pickle=False) as file:
        for part in ("angle", "scale", "shift"):
            assert file[f"true_{part}"] == pytest.approx(file[f"found_{part}"], abs=1e-3)
        assert np.ptp(file["true_angle"]) > 90
        assert np.abs(file["left"]).max() < 1e-3


def test_the_identity_undoes_nothing(tmp_path: Path) -> None:
    rows = undone("identity", tmp_path)
    values = {row.metric: row.value for row in rows.where(probe="pose")}
    assert values == pytest.approx({**dict.fromkeys(values, 0.0)}, abs=1e-3)
    assert set(EVERYTHING) < set(values)
    assert rows.where(probe="class", label=4, metric="kept_upside_down").values() == [100.0]
    with np.load(tmp_path / "poses.npz", allow_pickle=False) as file:
        assert np.abs(file["found_angle"]).max() == 0
        assert file["left"] == pytest.approx(file["true_angle"], abs=1e-3)


def test_the_truth_of_other_images_undoes_nothing_either(tmp_path: Path) -> None:
    rows = undone("reversed", tmp_path)
    assert max(rows.where(metric=metric).values()[0] for metric in EVERYTHING) < 10
    assert max(map(abs, rows.where(metric="shift/correlation").values())) < 0.2


def test_pairs_are_found_by_what_was_trained_and_shown_in_their_own_boxes(tmp_path: Path) -> None:
    data = made("same_digits", size=24, patches=0)
    boxes = data.truth["test"]["boxes"]
    middles = (boxes[..., :2] + boxes[..., 2:]).flatten(0, 1) / 2
    network = build("st_colocalisation", 10, 2, image_size=24)
    knows = knowing(network, data, middles + torch.tensor([2.0, 0.0]))
    start = tmp_path / "start.safetensors"
    save_weights(network, start)
    knows.answers = middles
    passes: list[int] = []
    snapshots = {0: start, 7: tmp_path}
    rows = asked(
        ask.FoundPairs(), network, data, on_pass=lambda: passes.append(1), snapshots=snapshots, folder=tmp_path
    )
    found = {(row.fields["when"], row.metric): row.value for row in rows}
    assert found == pytest.approx({
        ("untrained", "found"): 0, ("untrained", "iou"): 0, ("trained", "found"): 100, ("trained", "iou"): 1,
    }, abs=1e-4)  # fmt: skip
    assert len(passes) == 2 * len(list(data.evaluation_batches("test")))
    with np.load(tmp_path / "pairs.npz", allow_pickle=False) as file:
        assert file["true_boxes"].shape == (ask.PAIRS, 2, 4)
        assert file["found_boxes"] == pytest.approx(file["true_boxes"], abs=1e-4)
        assert np.ptp(file["found_boxes"], axis=0).min() > 0.1, "each image has a box of its own"
        for image, box in zip(file["images"].reshape(-1, 24, 24), file["true_boxes"].reshape(-1, 4), strict=True):
            rows_of_ink, columns_of_ink = np.nonzero(image)
            left, top, right, bottom = (box + 1) * 12
            assert left - 1 <= columns_of_ink.min() <= columns_of_ink.max() <= right
            assert top - 1 <= rows_of_ink.min() <= rows_of_ink.max() <= bottom
