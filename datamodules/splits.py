"""Which images are for training, validation and test: rows chosen of every class by a key, the same on any machine."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datamodules.order import generator
from datamodules.sources.pixels import Decoded, Pixels


def stratified_split(labels: Tensor, num_classes: int, validation: float, split_seed: int) -> tuple[Tensor, Tensor]:
    """Rows for training and for validation, both sorted; of every class the same fraction, rounded, is validation.

    labels: int64 (N,), or (N, D), whose first place then is the class. split_seed chooses the rows. Raises ValueError
    if validation is outside [0, 1) or leaves nothing for training.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; allowed: a fraction in [0, 1)")
    counts = _first(labels).bincount(minlength=num_classes).tolist()
    held_out = _drawn(labels, [round(count * validation) for count in counts], "split", split_seed)
    if held_out.all():
        raise ValueError(f"validation is {validation}; nothing of {len(labels)} images is left for training")
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def stratified_part(labels: Tensor, number: int, split_seed: int) -> Tensor:
    """So many rows, sorted: every class as often as among all labels (int64, (N,) or (N, D)), but once at least.

    The numbers of the classes do not depend on split_seed, which chooses the rows. Raises ValueError for more rows than
    there are, or fewer than classes.
    """
    counts = _first(labels).bincount()
    classes = int((counts > 0).sum())
    if not classes <= number <= len(labels):
        raise ValueError(
            f"train_images is {number}; allowed: {classes} (one of each class) to {len(labels)}, which are there for "
            "training"
        )
    wanted = counts.double() * number / len(labels)
    given = torch.where(counts > 0, wanted.floor().clamp(min=1), 0)
    while (missing := number - int(given.sum())) != 0:
        behind = wanted - given
        if missing > 0:
            given[behind.argmax()] += 1
        else:
            given[torch.where(given > 1, behind, torch.inf).argmin()] -= 1
    return _drawn(labels, given.long().tolist(), "train_images", split_seed).nonzero().flatten()


def drawn_anew(decoded: Decoded, split_seed: int) -> Decoded:
    """The same images with another test split, of as many images of every class; split_seed chooses them."""
    labels = torch.cat([decoded.train.labels, decoded.test.labels])
    images = torch.cat([decoded.train.images, decoded.test.images])
    tested = _drawn(labels, _first(decoded.test.labels).bincount().tolist(), "test", split_seed)
    train, test = (Pixels(images[rows], labels[rows]) for rows in (~tested, tested))
    return replace(decoded, train=train, test=test)


def _first(labels: Tensor) -> Tensor:
    return labels if labels.ndim == 1 else labels[:, 0]


def _drawn(labels: Tensor, numbers: Sequence[int], use: str, split_seed: int) -> Tensor:
    """bool (N,): of each class as many rows as `numbers` says, chosen by use, seed and class."""
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(numbers):
        rows = (_first(labels) == label).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator(use, split_seed, label))
        drawn[rows[order[:number]]] = True
    return drawn
