"""At which parts windows look: by hand, of transformers that were put on parts, and of photographs with lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from answers import asked

import datamodules
from ablations.harness.store.records import Records
from ablations.probes.transformers.part_windows import PartWindows, consistency, heads_and_bodies, looks_at
from ablations.probes.transformers.poses import transformers
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.sources.birds import Parts
from datamodules.sources.pixels import Decoded, Pixels
from modules import Network, build
from modules.weights import save_weights

TILED = {"transform": "translation", "scale": 0.5, "tile": True, "num_transformers": 2, "output_size": 15}
PLACES = torch.tensor([[[0.0, 0.2], [0.4, 0.6], [-0.5, -0.5], [0.9, 0.9]], [[0.0, 0.0]] * 4, [[2.0, 0.0]] * 4])
VISIBLE = torch.tensor([[True, True, True, True], [False, True, False, True], [True] * 4])


def answers(probe: PartWindows, network: Network, data: ImageData, folder: Path) -> Records:
    """Of a network that starts as it is built and ends as it is given."""
    start = folder / "start.safetensors"
    save_weights(build("st_cnn", data.num_classes, data.in_channels, image_size=30, **TILED), start)
    return asked(probe, network.eval(), data, snapshots={0: start}, folder=folder)


def of_both(found: Records, metric: str, when: str, transformer: int) -> list[float]:
    """What was measured of heads and of bodies."""
    rows = found.where(probe="window", when=when, transformer=transformer)
    return [value for kind in ("head", "body") for value in rows.where(metric=f"{metric}/{kind}").values()]


def test_a_window_looks_at_the_nearest_part_that_it_holds() -> None:
    windows = torch.tensor([[-1, -0.5, 0, 0.5], [-1, -0.5, 0, 0.5], [0, -0.5, 1, 0.5], [0, 0.5, 1, 1.5]]).double()
    centres = torch.tensor([[-0.5, 0.1], [-0.2, 0.2]]).double().expand(4, 2, 2)
    visible = torch.ones(4, 2, dtype=torch.bool)
    visible[1, 0] = False
    seen = looks_at(windows, centres, visible)
    assert seen.tolist() == [0, 1, -1, -1]
    assert consistency(seen, torch.tensor([0, 0, 1, 1])) == 25.0
    assert consistency(torch.tensor([0, 0, 1, -1]), torch.tensor([0, 0, 0, 1])) == 50.0


def test_heads_and_bodies_are_means_of_what_is_visible() -> None:
    parts = Parts(("beak", "crown", "belly", "tail"), PLACES, VISIBLE, torch.zeros(3, 4))
    centres, seen = heads_and_bodies(parts)
    assert torch.allclose(centres[0], torch.tensor([[0.2, 0.4], [-0.5, -0.5]], dtype=torch.float64))
    assert seen.tolist() == [[True, True], [True, False], [False, False]], "what was cut off is not seen"
    with pytest.raises(ValueError, match="no part of a body among beak; known are back"):
        heads_and_bodies(Parts(("beak",), PLACES[:, :1], VISIBLE[:, :1], torch.zeros(3, 4)))


def test_the_parts_are_found_that_windows_were_put_on(digits: ImageData, tmp_path: Path) -> None:
    data = datamodules.make(digits, "two_parts", size=30)
    data.truth["test"]["boxes"] = torch.tensor([[-1.0, -1.0, -0.2, -0.2], [0.2, 0.2, 1.0, 1.0]]).expand(450, 2, 4)
    network = build("st_cnn", data.num_classes, 1, image_size=30, **TILED)
    places = ([0.5, 0.6], [-0.5, -0.6])
    for place, transformer in zip(places, transformers(network).values(), strict=True):
        with torch.no_grad():
            transformer.localisation.get_submodule("theta").get_parameter("bias").copy_(torch.tensor(place))
    found = answers(PartWindows(), network, data, tmp_path)
    assert of_both(found, "looks", "trained", 1) == [0, 100]
    assert of_both(found, "looks", "trained", 2) == [100, 0]
    assert of_both(found, "looks", "untrained", 1) == of_both(found, "looks", "untrained", 2) == [0, 0]
    # By hand: parts are 0.8 wide and windows 1, so that a part within a window has 0.64 / 1.
    assert of_both(found, "iou", "trained", 1) == pytest.approx([0, 0.64], abs=1e-5)
    assert of_both(found, "iou", "trained", 2) == pytest.approx([0.64, 0], abs=1e-5)
    common = 0.8 * 0.3
    assert of_both(found, "iou", "untrained", 1) == pytest.approx([common / (1.64 - common), 0], abs=1e-5)
    assert of_both(found, "iou", "untrained", 2) == pytest.approx([0, common / (1.64 - common)], abs=1e-5)
    assert found.where(metric="consistency", when="trained").values() == [100, 100]
    assert max(found.where(metric="spread").values()) < 1e-6, "these windows stand still"
    with np.load(tmp_path / "windows.npz", allow_pickle=False) as file:
        assert file["images"].shape == (12, 30, 30, 1)
        middles = (file["trained"][..., :2] + file["trained"][..., 2:]) / 2
        assert np.allclose(middles, np.array(places)[:, None], atol=1e-5)
        assert np.allclose(file["untrained"][0], [-0.5, -1, 0.5, 0], atol=1e-5)


def test_photographs_are_asked_for_the_parts_of_their_lists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = Pixels(torch.zeros(4, 30, 30, 3, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]))
    data = ImageData(Decoded(pixels, pixels, 2), name="photos", digest="0", augment=Augment(), validation=0.0)
    places = torch.tensor([[0.0, -0.5], [0.0, 0.5], [0.9, 0.9]]).expand(4, 3, 2)
    visible = torch.ones(4, 3, dtype=torch.bool)
    visible[3, 1] = False
    parts = Parts(("back", "left eye", "tail"), places, visible, torch.zeros(4, 4))
    monkeypatch.setattr("datamodules.sources.birds.read_parts", lambda folder: (None, parts))
    probe = PartWindows(test_images=4, parts="CUB").prepared(None)
    assert probe.parts_digest
    found = answers(probe, build("st_cnn", 2, 3, image_size=30, **TILED), data, tmp_path)
    assert not of_both(found, "iou", "trained", 1), "there are no boxes of the parts of birds"
    assert of_both(found, "looks", "trained", 1) == [0, 100], "every back is in the upper tile"
    assert of_both(found, "looks", "trained", 2) == [75, 0], "a quarter of the eyes is hidden"
    for wrong, told in (
        (PartWindows(test_images=4), "--probe.parts is missing: allowed are single digits in grey"),
        (PartWindows(test_images=5, parts="CUB"), "CUB: tells the parts of 4 test images, the data has 5"),
        (PartWindows(parts="CUB"), "made images know their parts"),
    ):
        with pytest.raises(ValueError, match=told):
            wrong.prepared(None)
    with pytest.raises(ValueError, match="pictures 0: give 1 or more"):
        PartWindows(pictures=0)
