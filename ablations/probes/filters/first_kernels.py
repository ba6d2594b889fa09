"""What training made of the kernels that look at the image, beside what is no more than the smoothness of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

LEARNED, UNTRAINED, STANDING, PATCHES = "learned", "untrained", "as_it_stands", "patches"


@dataclass(frozen=True, kw_only=True)
class FirstKernels(Probe):
    """Gabor fit, colour saturation and orientation of every kernel of the first convolution; nothing without one.

    Of the kernels as they stand and before training, of what was learned, and of random sums of image patches.
    patches: of training images, in such a sum.
    """

    units = {"gabor/explained": "", "saturation": "", "orientation": "degrees"}
    passes = 1.0  # which take about as long as the fits
    patches: int = 1000
    snapshots: int = 2

    def __post_init__(self) -> None:
        refuse_below(self, patches=1, snapshots=2)

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Kernels below 5 x 5 have no Gabor fit, those of grey images no saturation."""
        from ablations.probes.filters.kernels import convolutions, first_kernels, measure

        if not convolutions(subject.network):
            return
        weights = first_kernels(subject.network)
        found = {STANDING: weights, PATCHES: patch_noise(subject, weights, self.patches)}
        if subject.snapshots:
            found[UNTRAINED] = first_kernels(subject.at(min(subject.snapshots)))
            found[LEARNED] = learned(weights, found[UNTRAINED])
        for when, kernels in found.items():
            for kernel in measure(kernels):
                where = point("kernel", when=when, number=kernel.number, stream=kernel.stream)
                if kernel.gabor is not None:
                    yield Measurement(where, "gabor/explained", kernel.gabor.explained)
                if kernel.saturation is not None:
                    yield Measurement(where, "saturation", kernel.saturation)
                yield Measurement(where, "orientation", kernel.orientation)
            subject.on_pass()


def learned(weights: Tensor, start: Tensor) -> Tensor:
    """What training added: the weights less their projection on the start, all of one shape."""
    return weights - start * ((weights * start).sum() / start.square().sum())


def patch_noise(subject: Subject, weights: Tensor, count: int) -> Tensor:
    """Kernels, as many as `weights` (K, C, k, k), that are random sums of so many patches of training images.

    They are as smooth as the images, and nothing was learned.
    """
    import torch

    from datamodules.order import generator

    draws = generator("patch noise", subject.seed)
    size = weights.shape[-1]
    images, _ = next(iter(subject.data.evaluation_batches("train", batch_size=count, limit=count)))
    rows, columns = (torch.randint(images.shape[side] - size + 1, (len(images),), generator=draws) for side in (2, 3))
    cut = [x[:, r : r + size, c : c + size] for x, r, c in zip(images, rows.tolist(), columns.tolist(), strict=True)]
    patches = torch.stack(cut)
    weighs = torch.randn(len(weights), len(patches), generator=draws)
    return torch.einsum("kn,nchw->kchw", weighs, patches - patches.mean(dim=0))
