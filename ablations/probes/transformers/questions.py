"""What `spatial_transformer` asks a trained network: what its transformers find, and pictures of it.

Every part yields measurements for the records or leaves arrays in the subject's folder, which the figures draw:
looks.npz (images, outputs, outlines, labels), poses.npz (true and found angle, scale, shift), training.npz (the same
digits after several epochs), pairs.npz (co-localisation).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ablations.harness.probing import Measurement, Subject
from ablations.harness.store.files import write_npz
from ablations.harness.store.records import point
from ablations.probes.transformers.colocalisation import found
from ablations.probes.transformers.poses import matrices, thetas, transformers, windows
from ablations.probes.transformers.sampler_gradients import deviation
from ablations.probes.transformers.undoing import correlations, kept_upside_down, removed, undoing
from datamodules.made.distorted_digits import DistortedDigits
from datamodules.made.made_data import MadeData
from modules import Network
from modules.blocks.sampling import sample
from modules.blocks.spatial_transformer import SpatialTransformer
from modules.families.colocalisation import localiser

SHOWN = 500  # true and found poses for the scatter
OUTLINE = 8  # points on each side of a window
PAIRS = 6  # pairs of digits that are drawn
SUMMED = 4  # images whose sampling is compared with the paper's sums


def undone(subject: Subject) -> Iterator[Measurement]:
    """How far the one transformer of a network for distorted digits undoes what was done to the test images."""
    data, (name, transformer) = made(subject), *transformers(subject.network).items()
    truth = data.truth["test"]
    images = data.evaluation_batches("test", device=subject.device)
    theta = thetas(subject.network, images, subject.on_pass)[name]
    left, labels = undoing(matrices(transformer, theta), truth), truth["labels"]
    for what, value in correlations(left):
        yield Measurement("pose", f"{what}/correlation", value, "")
    for what, value in removed(left, labels):
        yield Measurement("pose", f"{what}/removed", value, "%")
    assert isinstance(data.maker, DistortedDigits)
    for label in data.maker.distortion.upside_down:
        kept = kept_upside_down(left, labels, label)
        yield Measurement(point("class", label=label), "kept_upside_down", kept, "%")
    arrays = {
        f"{which}_{part}": getattr(pose, part)[:SHOWN].numpy()
        for which, pose in (("true", left.true), ("found", left.found))
        for part in pose._fields
    }
    write_npz(subject.folder / "poses.npz", left=left.left[:SHOWN].numpy(), labels=labels[:SHOWN].numpy(), **arrays)


def looks(subject: Subject) -> None:
    """What goes into each transformer and what comes out, for the first test image of every class; `looks.npz`."""
    rows = first_of_classes(made(subject))
    shown = [look(subject, subject.network, name, rows) for name in transformers(subject.network)]
    arrays = shown[0] if len(shown) == 1 else {k: torch.stack([each[k] for each in shown]) for k in shown[0]}
    pixels = made(subject).test[rows]
    write_npz(
        subject.folder / "looks.npz",
        images=_as_shown(pixels.images).numpy(),
        labels=pixels.labels.numpy(),
        **{key: values.numpy() for key, values in arrays.items()},
    )


def training(subject: Subject) -> None:
    """The same digits as they leave the transformer in the course of training; `training.npz`."""
    rows = first_of_classes(made(subject))
    (name,) = transformers(subject.network)
    shown = [look(subject, subject.at(epoch), name, rows) for epoch in subject.snapshots]
    write_npz(
        subject.folder / "training.npz",
        epochs=list(subject.snapshots), images=_as_shown(made(subject).test[rows].images).numpy(),
        **{key: torch.stack([each[key] for each in shown]).numpy() for key in shown[0]},
    )  # fmt: skip


def gradients(subject: Subject) -> Iterator[Measurement]:
    """How far the sampler and its gradients are from the paper's sums, on real images where the network looks."""
    ((name, transformer),) = transformers(subject.network).items()
    images, _ = next(subject.data.evaluation_batches("test", SUMMED, subject.device, SUMMED))
    positions = transformer.grid(thetas(subject.network, [(images, None)])[name].to(transformer.grid.start.device))
    for sampling in ("bilinear", "nearest"):
        apart = deviation(images.cpu(), positions.detach().cpu(), sampling, subject.seed)
        yield Measurement(point("sampler", sampling=sampling), "gradient/deviation", apart, "")


def pairs(subject: Subject) -> Iterator[Measurement]:
    """Which part of the digits a network for pairs finds, trained and untrained; and pictures, `pairs.npz`."""
    networks = {"untrained": subject.at(min(subject.snapshots)), "trained": subject.network}
    for when, network in networks.items():
        seen = found(network, subject.data, subject.device, subject.on_pass)
        yield Measurement(point("pairs", when=when), "found", seen.hits, "%")
        yield Measurement(point("pairs", when=when), "iou", seen.overlap, "")
    data = made(subject)
    rows = first_of_classes(data, PAIRS)
    theta = next(iter(thetas(subject.network, [(_normalised(subject, rows), None)]).values()))
    write_npz(
        subject.folder / "pairs.npz",
        images=data.test[rows].images.movedim(-1, 1).numpy(),
        true_boxes=data.truth["test"]["boxes"][rows].numpy(),
        found_boxes=windows(localiser(subject.network), theta).unflatten(0, (-1, 2)).numpy(),
    )


def made(subject: Subject) -> MadeData:
    """The subject's data; raises TypeError if it was not made on the fly."""
    if not isinstance(subject.data, MadeData):
        raise TypeError(f"arm {subject.arm}: {subject.data.name} was not made on the fly")
    return subject.data


def first_of_classes(data: MadeData, limit: int = 10) -> Tensor:
    """Rows of the first test image of each of the first classes: int64 (limit,) or fewer."""
    labels = data.test.labels
    return torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()[:limit]])


@torch.no_grad()
def look(subject: Subject, network: Network, name: str, rows: Tensor) -> dict[str, Tensor]:
    """What a transformer gives for test images: outputs, uint8 (K, [C,] S, S), and outlines (K, P, 2) in pixels."""
    mean, std = _normalisation(subject)
    images = _normalised(subject, rows)
    transformer = network.get_submodule(name)
    assert isinstance(transformer, SpatialTransformer)
    theta = thetas(network, [(images, images)])[name]
    moved: Any = sample(images, transformer.grid(theta.to(images.device)), transformer.sampling).cpu()
    values = ((moved * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return {
        "outputs": _as_shown(values.movedim(1, -1)),
        "outlines": transformer.outline(theta.to(images.device), OUTLINE).cpu(),
    }


def _normalisation(subject: Subject) -> tuple[Tensor, Tensor]:
    data = made(subject)
    return torch.tensor(data.mean).view(-1, 1, 1), torch.tensor(data.std).view(-1, 1, 1)


def _normalised(subject: Subject, rows: Tensor) -> Tensor:
    """Test images as the network reads them: (K, C, H, W), on the subject's device."""
    mean, std = _normalisation(subject)
    pixels = made(subject).test[rows].images.movedim(-1, 1).float() / 255
    return ((pixels - mean) / std).to(subject.device)


def _as_shown(images: Tensor) -> Tensor:
    """uint8 (K, H, W, C) to (K, H, W) if grey, else (K, C, H, W)."""
    return images[..., 0] if images.shape[-1] == 1 else images.movedim(-1, 1)
