"""CUB-200-2011 in its own format: lists, photographs of any shape, boxes and parts."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from written_files import random_images

import datamodules
from datamodules import DataError
from datamodules.sources.birds import read_parts

Complaint = Callable[..., str]
CLASSES = ("001.Albatross", "002.Auklet")
SIZES = ((60, 40), (40, 60), (50, 50))  # width, height


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve photographs, every third is for testing, one is grey; three parts, the last hidden in even images."""
    home = tmp_path / "birds" / "CUB_200_2011"
    lists: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "train_test_split")}
    boxes, locations = [], []
    for number in range(1, 13):
        name = CLASSES[number % 2]
        width, height = SIZES[number % 3]
        file = home / "images" / name / f"Bird_{number:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = random_images(1, 60, 3, number)[0, :height, :width]
        Image.fromarray(pixels).convert("L" if number == 4 else "RGB").save(file)
        lists["images"].append(f"{number} {name}/{file.name}")
        lists["image_class_labels"].append(f"{number} {1 + number % 2}")
        lists["train_test_split"].append(f"{number} {int(number % 3 > 0)}")
        boxes.append(f"{number} 10.0 12.0 20.0 16.0")
        locations += [f"{number} {part} {10.0 * part} {5.0 * part} {int(part < 3 or number % 2)}" for part in (1, 2, 3)]
    for name, lines in lists.items():
        (home / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (home / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    (home / "parts").mkdir()
    (home / "parts" / "parts.txt").write_text("1 back\n2 left eye\n3 tail\n")
    (home / "parts" / "part_locs.txt").write_text("\n".join(locations) + "\n")
    return tmp_path / "birds"


def test_photographs(root: Path) -> None:
    data = datamodules.load("birds", root, image_size=24, validation=0)
    assert (data.image_size, data.in_channels, data.num_classes) == (24, 3, 2)
    assert (len(data.train), len(data.test), data.name) == (8, 4, "birds")
    assert data.train.labels.tolist() == [1, 0, 0, 1, 1, 0, 0, 1]
    assert data.test.labels.tolist() == [1, 0, 1, 0]
    file = root / "CUB_200_2011" / "images" / CLASSES[1] / "Bird_0001.png"
    with Image.open(file) as image:  # 40 x 60
        expected = image.resize((24, 24), Image.Resampling.BILINEAR, box=(0, 10, 40, 50))
    assert np.array_equal(data.train.images[0].numpy(), np.asarray(expected))
    grey = data.train.images[2]
    assert torch.equal(grey[..., 0], grey[..., 2]), "a grey photograph has three equal channels"


def test_without_a_size_it_is_224(root: Path) -> None:
    assert datamodules.load("birds", root / "CUB_200_2011").image_size == 224


def test_boxes_and_parts(root: Path) -> None:
    train, test = read_parts(root)
    assert train.names == ("back", "left eye", "tail")
    assert (train.places.shape, train.boxes.shape, test.places.shape) == ((8, 3, 2), (8, 4), (4, 3, 2))
    assert train.visible[0].tolist() == [True, True, True]
    assert train.visible[1].tolist() == [True, True, False]
    # Image 1 is 40 x 60: its square starts 10 pixels down and is 40 wide. Image 3 is 60 x 40.
    assert torch.allclose(train.places[0, 1], torch.tensor([0.0, -1.0]))
    assert torch.allclose(train.boxes[0], torch.tensor([-0.5, -0.9, 0.5, -0.1]))
    assert torch.allclose(test.places[0, 1], torch.tensor([-0.5, -0.5]))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(("name", "old", "new", "message"), [
    ("images.txt", "3 002", "3\n002", r"images.txt, line 3: 1 columns; allowed: 2; unpack"),
    ("images.txt", "Bird_0003", "Bird_0099", r"Bird_0099.png: not found, but .*images.txt names it"),
    ("image_class_labels.txt", "5 2\n", "", "image_class_labels.txt: no line for image 5"),
    ("image_class_labels.txt", "5 2\n", "5 two\n", "image_class_labels.txt, line 5: could not convert .*'two'"),
    ("image_class_labels.txt", "5 2\n", "5 0\n", "image_class_labels.txt: image 5 has label 0; allowed: 1 to 1000"),
    ("image_class_labels.txt", "5 2\n", "5 1e300\n", r"image 5 has label 1e\+300; allowed: 1 to 1000"),
    ("image_class_labels.txt", "5 2\n", "5 nan\n", "image_class_labels.txt: image 5 has label nan; allowed: 1 to"),
    ("train_test_split.txt", "12 0\n", "", "train_test_split.txt: no line for image 12"),
])  # fmt: skip
def test_damaged_lists(root: Path, name: str, old: str, new: str, message: str, complaint: Complaint) -> None:
    edit(root / "CUB_200_2011" / name, old, new)
    assert re.search(message, complaint("birds", root, image_size=8))


@pytest.mark.parametrize(("name", "old", "new", "message"), [
    ("parts/part_locs.txt", "2 3 30.0 15.0 0\n", "", "part_locs.txt: image 2 has 2 of 3 parts"),
    ("parts/part_locs.txt", "2 3 30.0 15.0 0\n", "2 9 30.0 15.0 0\n", "line 6: part 9 is not in .*parts.txt"),
    ("bounding_boxes.txt", "7 10.0 12.0 20.0 16.0\n", "", "bounding_boxes.txt: no line for image 7"),
    ("bounding_boxes.txt", "7 10.0 12.0 20.0 16.0\n", "7 10.0\n", "bounding_boxes.txt, line 7: 2 columns; allowed: 5"),
])  # fmt: skip
def test_damaged_parts(root: Path, name: str, old: str, new: str, message: str) -> None:
    edit(root / "CUB_200_2011" / name, old, new)
    with pytest.raises(DataError, match=message):
        read_parts(root)


def test_missing_files(root: Path, complaint: Complaint) -> None:
    home = root / "CUB_200_2011"
    assert re.search(
        "nowhere: no such folder; point the data root at CUB_200_2011 as its archive",
        complaint("birds", root / "nowhere"),
    )
    (home / "images" / CLASSES[0] / "Bird_0002.png").write_bytes(b"no image")
    assert re.search(r"Bird_0002\.png: not a readable image", complaint("birds", root))
    with pytest.raises(DataError, match=r"Bird_0002\.png: not a readable image .unknown format"):
        read_parts(root)
    (home / "parts" / "parts.txt").unlink()
    with pytest.raises(DataError, match=r"parts\.txt: not found; unpack"):
        read_parts(root)
    (home / "train_test_split.txt").unlink()
    assert re.search(
        r"train_test_split\.txt: not found; expected images.txt, image_class_labels.txt", complaint("birds", root)
    )
