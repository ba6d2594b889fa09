"""Segmentation: boundaries against loops over pixels, the metrics of an epoch, training by name, a checkpoint alone."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from test_lightning import trainer as quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from modules import recipe_for
from modules.training.segmentation_metrics import BoundaryF1, boundaries
from modules.training.segmenter import Segmenter, centre_crop
from modules.training.tasks import lightning_network

RECIPE = replace(recipe_for("unet_small"), epochs=3, batch_size=32, learning_rate=0.05)


# Boundaries.


def edge_pixels(mask: np.ndarray, label: int) -> list[tuple[int, int]]:
    height, width = mask.shape
    found = []
    for i, j in np.argwhere(mask == label).tolist():
        beside = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
        if any(0 <= a < height and 0 <= b < width and mask[a, b] != label for a, b in beside):
            found.append((i, j))
    return found


def share_near(these: list[tuple[int, int]], those: list[tuple[int, int]], tolerance: int) -> float:
    near = [any(math.dist(one, other) <= tolerance for other in those) for one in these]
    return sum(near) / len(near)


def score_of_image(predicted: np.ndarray, true: np.ndarray, num_classes: int, tolerance: int) -> float:
    """The definition, pixel by pixel."""
    scores = []
    for label in range(num_classes):
        found, sought = edge_pixels(predicted, label), edge_pixels(true, label)
        if not found and not sought:
            continue
        if not found or not sought:
            scores.append(0.0)
            continue
        precision, recall = share_near(found, sought, tolerance), share_near(sought, found, tolerance)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores) if scores else 1.0


def blobs(seed: int, num_classes: int, count: int = 6) -> Tensor:
    """Masks of a few rectangles of random classes, (count, 14, 17)."""
    draw = np.random.default_rng(seed)
    masks = np.zeros((count, 14, 17), dtype=np.int64)
    for mask in masks:
        for _ in range(draw.integers(0, 4)):
            top, left = draw.integers(0, 12), draw.integers(0, 15)
            mask[top : top + draw.integers(1, 9), left : left + draw.integers(1, 9)] = draw.integers(num_classes)
    return torch.from_numpy(masks)


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_boundary_f1_against_loops(tolerance: int, num_classes: int) -> None:
    true = blobs(2, num_classes)
    predicted = torch.cat([blobs(1, num_classes)[:2], true.roll((1, -1), (1, 2))[2:]])
    metric = BoundaryF1(num_classes, tolerance)
    metric.update(predicted[:4], true[:4])
    metric.update(predicted[4:], true[4:])
    expected = [
        score_of_image(p.numpy(), t.numpy(), num_classes, tolerance) for p, t in zip(predicted, true, strict=True)
    ]
    assert 0.05 < np.mean(expected) < 0.95
    assert metric.compute().item() == pytest.approx(np.mean(expected), abs=1e-6)


def square(left: int, size: int = 6) -> Tensor:
    mask = torch.zeros(1, 20, 20, dtype=torch.int64)
    mask[:, 5 : 5 + size, left : left + size] = 1
    return mask


def test_precision_and_recall_of_half_a_boundary() -> None:
    """A vertical line of which the upper half is found: precision 1, recall 1/2, for both sides of it."""
    true = torch.zeros(1, 8, 8, dtype=torch.int64)
    true[:, :, 4:] = 1
    found = boundaries(true, 2)
    assert found[0, 0].nonzero().tolist() == [[i, 3] for i in range(8)]
    assert found[0, 1].nonzero().tolist() == [[i, 4] for i in range(8)]
    predicted = true.clone()
    predicted[:, 4:, 4:] = 0
    metric = BoundaryF1(2, tolerance=0)
    metric.update(predicted, true)
    # Class 1: rows 0..3 of column 4, and row 3 of columns 4..7 -> 7 pixels, 4 right, of 8 -> F1 8/15.
    # Class 0: rows 0..3 of column 3, and row 4 of columns 4..7 -> 8 pixels, 4 right, of 8 -> F1 1/2.
    assert metric.compute().item() == pytest.approx((8 / 15 + 1 / 2) / 2)


EMPTY, FULL = torch.zeros(1, 20, 20, dtype=torch.int64), torch.ones(1, 20, 20, dtype=torch.int64)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [(EMPTY, EMPTY, 1.0), (FULL, EMPTY, 1.0), (square(4), EMPTY, 0.0), (EMPTY, square(4), 0.0)],
)
def test_absent_boundaries(predicted: Tensor, true: Tensor, expected: float) -> None:
    metric = BoundaryF1(5)
    metric.update(predicted, true)
    assert metric.compute().item() == expected


def test_parts_of_two_processes_add_up() -> None:
    predicted, true = blobs(1, 3), blobs(2, 3)
    whole, one, other = BoundaryF1(3), BoundaryF1(3), BoundaryF1(3)
    whole.update(predicted, true)
    one.update(predicted[:1], true[:1])
    other.update(predicted[1:], true[1:])
    one.merge_state(other)
    assert one.compute().item() == pytest.approx(whole.compute().item(), abs=1e-6)


@pytest.mark.parametrize(("num_classes", "tolerance", "named"), [(1, 2, "got 1"), (2, -1, "got -1")])
def test_bad_arguments_of_boundary_f1(num_classes: int, tolerance: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BoundaryF1(num_classes, tolerance)


# The module.


def make(network: str = "unet_small", num_classes: int = 2, **arguments: object) -> Segmenter:
    torch.manual_seed(0)
    recipe = {**asdict(RECIPE), "milestones": list(RECIPE.milestones)}
    module = lightning_network(network, {"width": 4, "depth": 2, **arguments}, recipe, num_classes, 1)
    assert isinstance(module, Segmenter)
    return module


def ink() -> tuple[Tensor, Tensor]:
    """The digits of scikit-learn at 16 x 16, noise around them, and where their ink is."""
    pixels = torch.from_numpy(load_digits().images[:400]).float().repeat_interleave(2, 1).repeat_interleave(2, 2)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return (pixels / 8 - 1 + 0.3 * noise)[:, None], (pixels >= 8).long()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_training_by_name_beats_the_background_and_a_checkpoint_restores_it(tmp_path: Path) -> None:
    images, masks = ink()
    module, trainer = make(), quiet(max_epochs=3)
    train = DataLoader(TensorDataset(images[:320], masks[:320]), 32, shuffle=True)
    held_out = DataLoader(TensorDataset(images[320:], masks[320:]), 40)
    before = quiet().validate(make(), held_out, verbose=False)[0]  # the same seed: the same weights
    trainer.fit(module, train, held_out)

    after = {name: value.item() for name, value in trainer.callback_metrics.items()}
    names = {"loss", "dice", "iou", "pixel_error", "boundary_f1"}
    assert set(after) == {f"{split}/{name}" for split in ("train", "val") for name in names}
    assert after["train/loss"] < before["val/loss"]
    assert after["val/loss"] < 0.5 * before["val/loss"]
    ink_share = masks[320:].float().mean().item()
    assert after["val/iou"] > 1.5 * (1 - ink_share) / 2  # all background: right there, and nothing of the ink
    assert after["val/pixel_error"] < 0.5 * 100 * ink_share
    assert after["val/dice"] > after["val/iou"] > before["val/iou"]
    assert after["val/boundary_f1"] > before["val/boundary_f1"]

    assert {tuple(maps.shape) for maps in trainer.predict(module, held_out)} == {(40, 2, 16, 16)}
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    restored = Segmenter.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True).eval()
    with torch.no_grad():
        assert torch.equal(restored(images[:8]), module.eval()(images[:8]))


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_metrics_of_an_epoch_are_those_of_all_its_pixels() -> None:
    """Unequal batches, four classes of which one is neither predicted nor true, a network that gives smaller maps."""
    module = make("unet", num_classes=4, dropout=0.0)
    images = torch.randn(5, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (5, 48, 48), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        module.network.head.conv.bias[3] = -100.0
    logged = quiet().test(module, DataLoader(TensorDataset(images, masks), 2), verbose=False)[0]

    with torch.no_grad():
        logits = module.eval()(images)
    inner = masks[:, 20:28, 20:28]
    assert logits.shape == (5, 4, 8, 8)
    predicted = logits.argmax(1)
    table = confusion_matrix(inner.flatten(), predicted.flatten(), labels=[0, 1, 2])
    hit, either = table.diagonal(), table.sum(0) + table.sum(1)
    assert logged["test/loss"] == pytest.approx(nn.functional.cross_entropy(logits, inner).item(), rel=1e-5)
    assert logged["test/pixel_error"] == pytest.approx(100 - 100 * hit.sum() / table.sum())
    assert logged["test/dice"] == pytest.approx((2 * hit / either).mean())
    assert logged["test/iou"] == pytest.approx((hit / (either - hit)).mean())
    boundary = BoundaryF1(4)
    boundary.update(predicted, inner)
    assert logged["test/boundary_f1"] == pytest.approx(boundary.compute().item())
    assert all(math.isfinite(value) for value in logged.values())


def test_evaluation_is_fp32_inside_autocast() -> None:
    module = make().eval()
    images, masks = (tensor[:4] for tensor in ink())
    with torch.no_grad():
        expected = nn.functional.cross_entropy(module(images), masks).item()
        with torch.autocast("cpu", torch.bfloat16):
            module.validation_step((images, masks), 0)
    sums = module.sums.totals("val")
    assert sums["loss"] / sums["pixels"] == pytest.approx(expected, rel=1e-6)


def test_centre_crop() -> None:
    masks = torch.arange(2 * 6 * 8).view(2, 6, 8)
    assert torch.equal(centre_crop(masks, torch.empty(2, 3, 6, 8)), masks)
    assert torch.equal(centre_crop(masks, torch.empty(2, 3, 2, 6)), masks[:, 2:4, 1:7])
    for shape in ((8, 8), (5, 8)):
        with pytest.raises(ValueError, match=r"\(6, 8\)"):
            centre_crop(masks, torch.empty(2, 3, *shape))


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="got 1"):
        make(num_classes=1)
