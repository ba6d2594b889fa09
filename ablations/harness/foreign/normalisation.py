"""How the images are normalised that a network from outside is shown: with the numbers that it was trained with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WORDS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": IMAGENET,
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}
LEAST_STD, LARGEST_STD = 1e-6, 1e6  # what float32 can divide by


class Normalisation(NamedTuple):
    """Pixels of 0..1 become (pixel - mean) / std; one number per channel, or one for all. source: where it is from."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def for_channels(self, channels: int) -> Normalisation:
        """With one number per channel; raises ValueError for another number of them."""
        for flag, values in (("--mean", self.mean), ("--std", self.std)):
            if len(values) not in (1, channels):
                counted = "1 channel" if channels == 1 else f"{channels} channels"
                raise ValueError(f"{flag} has {len(values)} numbers ({self.source}), and the images have {counted}")
        mean, std = (values * (channels // len(values)) for values in (self.mean, self.std))
        return Normalisation(mean, std, self.source)

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std} ({self.source})"


def add_flags(add: Callable[..., Any]) -> None:
    """Adds --mean and --std by a parser's `add_argument`."""
    # Words first: what a flag is given is told as it was written; a file of options may hold numbers.
    kind: Any = str | float
    add("--mean", nargs="+", type=kind, default=[],
        help="of what --network was trained on, 0..1 scale: a number per channel or one for all, or a word that sets "
        f"--std too: {', '.join(WORDS)} (default: timm's or torchvision's own, else the training images')")  # fmt: skip
    add("--std", nargs="+", type=kind, default=[], help="likewise, the standard deviation that goes with --mean")


def asked(mean: Sequence[str | float], std: Sequence[str | float]) -> Normalisation | None:
    """What the words and numbers of --mean and --std say, None if there are none.

    Raises ValueError for one flag without the other, another word, and numbers that no pixels of 0..1 can have.
    """
    if not mean and not std:
        return None
    if not mean:
        raise ValueError("--std goes with --mean, which is missing")
    centre, spread = " ".join(map(str, mean)), " ".join(map(str, std))
    means = _values("--mean", 0, centre, 0.0, 1.0, "from 0 to 1, as pixels are")
    if std:
        least = f"above 0 (from {LEAST_STD:g} to {LARGEST_STD:g})"
        deviations = _values("--std", 1, spread, LEAST_STD, LARGEST_STD, least)
        return Normalisation(means, deviations, f"--mean {centre} --std {spread}")
    if centre not in WORDS:
        raise ValueError(f"--mean {centre} goes with --std, which is missing")
    return Normalisation(means, WORDS[centre][1], f"--mean {centre}")


def as_trained(network: str) -> Normalisation | None:
    """What the library of a network such as `timm:NAME` says it is trained with, None if it says nothing."""
    library, _, name = network.partition(":")
    if library == "torchvision":
        return Normalisation(*IMAGENET, "ImageNet's, as torchvision trains")
    if library != "timm":
        return None
    import timm

    config = timm.get_pretrained_cfg(name)
    return None if config is None else Normalisation(tuple(config.mean), tuple(config.std), f"timm's own for {name}")


def _values(flag: str, place: int, text: str, least: float, most: float, allowed: str) -> tuple[float, ...]:
    """The numbers that a flag is given, or those at this place of its word in WORDS."""
    if text in WORDS:
        return WORDS[text][place]
    values = []
    for word in text.replace(",", " ").split():
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ValueError(f"{flag} {word}: give numbers {allowed}, or one of {', '.join(WORDS)}")
        values.append(value)
    if not values:
        raise ValueError(f"{flag} is empty: give numbers {allowed}, or one of {', '.join(WORDS)}")
    return tuple(values)
