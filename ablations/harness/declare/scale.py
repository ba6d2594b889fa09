"""Scale: a budget on data, which gives plans a value per budget and lengths in optimiser steps.

    depth = at(paper=110, short=56, laptop=38, smoke=14)
    recipe = at.recipe(HUANG2016_CIFAR, laptop={"epochs": at.epochs(18, 64)}, smoke={"epochs": 1})

A laptop, hour or short plan names epochs of the data it was calibrated on, digits or CIFAR-10, and trains as many steps
on other data. An hour is a laptop's plan where nothing else is said of it. A smoke plan is one epoch; the schedules of
the papers are in epochs, as they are printed.
Plans of images that scripts make, and of birds, are lengths in steps themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from datamodules.images import ImageData
    from modules.training.recipe import Recipe

Budget = Literal["smoke", "laptop", "hour", "short", "paper"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)

DIGITS, CIFAR = 1_212, 45_000  # training images of the two calibrations
LARGE = 28  # pixels from which images take the calibration of CIFAR-10
FEW = 5_000  # training images below which a laptop takes the networks and batches of the digits, whatever their size
LEAST_STEPS = 200  # fewer teach little, and are told

T = TypeVar("T")
_NOT_GIVEN: Any = object()


def scale_order(budget: str, data: str) -> tuple[int, bool, str]:
    """By which scales are sorted: smaller budgets first, the embedded digits before other data.

    Raises ValueError for an unknown budget.
    """
    if budget not in get_args(Budget):
        raise ValueError(f"unknown budget {budget!r}; allowed: {', '.join(BUDGETS)}")
    return get_args(Budget).index(budget), data != "digits", data


@dataclass(frozen=True)
class View:
    """What is taken of data that have more: images of so many pixels, and so many for training; None for all of it."""

    image_size: int | None = None
    train_images: int | None = None

    def or_else(self, other: View, image_size: int, num_train: int) -> View:
        """With the other's values where this has none and the data have more than they say."""
        smaller = other.image_size if other.image_size and other.image_size < image_size else None
        fewer = other.train_images if other.train_images and other.train_images < num_train else None
        return View(self.image_size or smaller, self.train_images or fewer)

    def in_words(self, num_train: int) -> str:
        """What is taken of data with so many training images; "" for all of it."""
        size = [f"{self.image_size} px"] if self.image_size else []
        number = [f"{self.train_images:,} of {num_train:,} training images"] if self.train_images else []
        return ", ".join(size + number)


@dataclass(frozen=True)
class Scale:
    """A budget on data: what plans need to know of both, as words and numbers of images and pixels.

    data: its name. places: labels of an image, one but where each is a place of a sequence.
    """

    budget: str
    data: str
    image_size: int
    num_train: int
    num_test: int
    channels: int = 3
    places: int = 1

    @classmethod
    def of(cls, budget: str, data: ImageData) -> Scale:
        """The scale of a budget on data."""
        places = data.test.labels.shape[1] if data.test.labels.ndim > 1 else 1
        return cls(budget, str(data.name), data.image_size, len(data.train), len(data.test), data.in_channels, places)

    @property
    def large(self) -> bool:
        """Whether images have so many pixels that a laptop takes fewer seeds, depths and draws."""
        return self.image_size >= LARGE

    @property
    def small(self) -> bool:
        """Whether the calibration is that of the digits: narrow networks, batches of 64."""
        is_few = self.budget in ("smoke", "laptop", "hour") and self.num_train < FEW
        return is_few or not self.large

    def __call__(
        self, *, paper: T, short: T = _NOT_GIVEN, laptop: T = _NOT_GIVEN, cifar: T = _NOT_GIVEN, hour: T = _NOT_GIVEN,
        smoke: T = _NOT_GIVEN,
    ) -> T:  # fmt: skip
        """The value for this budget; where none is given, that of the next one in `paper`, `short`, `laptop`, `hour`.

        cifar: of a laptop where the calibration is that of CIFAR-10 and not that of the digits, see `small`; an hour
        and a smoke plan take it too, where they have no value of their own. A smoke plan takes none of an hour's.
        """
        given = {"paper": paper, "short": short, "laptop": laptop, "cifar": cifar, "hour": hour, "smoke": smoke}
        return next(given[word] for word in reversed(self._ladder) if given[word] is not _NOT_GIVEN)

    def recipe(
        self, base: Recipe | Mapping[str, object] | None = None, **changes: Mapping[str, object]
    ) -> dict[str, Any]:
        """What differs from a network's default recipe: base, and over it the changes for this budget.

        changes: words as above -> fields of `Recipe`. `short` changes the base alone; `laptop` changes the base,
        `cifar` that, and `hour` and `smoke` each change what a laptop would take.
        """
        fields: dict[str, Any] = {} if base is None else dict(base) if isinstance(base, Mapping) else asdict(base)
        for word in self._ladder:
            if word != "short" or self.budget == "short":
                fields.update(changes.get(word, {}))
        return fields

    @property
    def _ladder(self) -> tuple[str, ...]:
        """The words whose values this budget may take, the nearest last."""
        laptop = ("paper", "short", "laptop", *(() if self.small else ("cifar",)))
        return {
            "paper": ("paper",),
            "short": ("paper", "short"),
            "laptop": laptop,
            "hour": (*laptop, "hour"),
            "smoke": (*laptop, "smoke"),
        }[self.budget]

    def epochs(self, number: int, batch_size: int = 128) -> int:
        """Epochs of this data with as many steps as so many epochs of the calibration's data, 1 or more.

        Few large images get LEAST_STEPS or more: what is enough for digits need not be for them.
        """
        steps = number * ((DIGITS if self.small else CIFAR) // batch_size)
        in_one = max(1, self.num_train // batch_size)
        found = max(1, round(steps / in_one))
        if self.small and self.large and found * in_one < LEAST_STEPS:
            found = -(-LEAST_STEPS // in_one)
        return found

    def epochs_of(self, steps: int, batch_size: int) -> int:
        """Epochs of this data that come nearest to a length in optimiser steps, 1 or more."""
        return max(1, round(steps * batch_size / self.num_train))

    def batch_size(self, wanted: int) -> int:
        """The wanted size of a batch, halved until the training images fill one."""
        return fitting(wanted, self.num_train)

    def limit(self, most: int) -> int | None:
        """So many test images for a probe, None for all where there are no more."""
        return most if self.num_test > most else None


def fitting(batch_size: int, num_train: int) -> int:
    """The batch size, halved until the training images fill one."""
    while batch_size > max(1, num_train):
        batch_size //= 2
    return batch_size
