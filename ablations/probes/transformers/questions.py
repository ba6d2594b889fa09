"""What networks with spatial transformers are asked: what these find, what they give, and what they were trained to.

Jaderberg et al. 2015, arXiv:1506.02025. The data is made on the fly (`datamodules.make`), because the truth is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point

POSE = ("angle", "scale", "shift")
SHOWN = 500  # true and found poses for the scatter
SUMMED = 4  # images whose sampling is compared with the paper's sums
PAIRS = 6  # pairs of digits that are drawn


@dataclass(frozen=True, kw_only=True)
class FoundPoses(Probe):
    """How far the one transformer of a network for distorted digits undoes what was done to the test images.

    `correlation` of the true with the found; `removed`: how much of the variation within a class is taken away;
    `kept_upside_down`: of a class that always stands so. Keeps poses.npz of the first images: true and found angle,
    scale and shift, the angle that is left, labels.
    """

    units = {
        **{f"{what}/correlation": "" for what in POSE},
        **{f"{what}/removed": "%" for what in POSE},
        "kept_upside_down": "%",
    }
    passes = 1.0

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Compares the transforms that are found with those that made the images."""
        from ablations.harness.store.files import write_npz
        from ablations.probes.transformers.looks import made
        from ablations.probes.transformers.poses import matrices, thetas, transformers
        from ablations.probes.transformers.undoing import correlations, kept_upside_down, removed, undoing
        from datamodules.made.distorted_digits import DistortedDigits

        data, ((name, transformer),) = made(subject.data), transformers(subject.network).items()
        truth = data.truth["test"]
        images = data.evaluation_batches("test", device=subject.device)
        theta = thetas(subject.network, images, subject.on_pass)[name]
        left, labels = undoing(matrices(transformer, theta), truth), truth["labels"]
        for what, value in correlations(left):
            yield Measurement(point("pose"), f"{what}/correlation", value)
        for what, value in removed(left, labels):
            yield Measurement(point("pose"), f"{what}/removed", value)
        assert isinstance(data.maker, DistortedDigits)
        for label in data.maker.distortion.upside_down:
            kept = kept_upside_down(left, labels, label)
            yield Measurement(point("class", label=label), "kept_upside_down", kept)
        arrays = {
            f"{which}_{part}": getattr(pose, part)[:SHOWN].numpy()
            for which, pose in (("true", left.true), ("found", left.found))
            for part in pose._fields
        }
        write_npz(subject.folder / "poses.npz", left=left.left[:SHOWN].numpy(), labels=labels[:SHOWN].numpy(), **arrays)


@dataclass(frozen=True, kw_only=True)
class TransformerLooks(Probe):
    """Keeps looks.npz: what goes into each transformer and comes out, for the first test image of every class.

    images: uint8 (K, [C,] S, S). outputs, outlines: see `looks.look`; with a first axis where there are several
    transformers. labels: (K,).
    """

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Measures nothing."""
        import torch

        from ablations.harness.store.files import write_npz
        from ablations.probes.transformers.looks import first_of_classes, look, shown
        from ablations.probes.transformers.poses import transformers

        rows = first_of_classes(subject.data)
        seen = [look(subject, subject.network, name, rows) for name in transformers(subject.network)]
        arrays = seen[0] if len(seen) == 1 else {key: torch.stack([each[key] for each in seen]) for key in seen[0]}
        pixels = subject.data.test[rows]
        write_npz(
            subject.folder / "looks.npz",
            images=shown(pixels.images).numpy(),
            labels=pixels.labels.numpy(),
            **{key: values.numpy() for key, values in arrays.items()},
        )
        yield from ()


@dataclass(frozen=True, kw_only=True)
class LooksInTraining(Probe):
    """Keeps training.npz: the same digits as they leave the one transformer in the course of training.

    epochs: (T,). images: as in looks.npz. outputs, outlines: with a first axis for the epochs. snapshots: how many.
    """

    snapshots: int = 12

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Measures nothing."""
        import torch

        from ablations.harness.store.files import write_npz
        from ablations.probes.transformers.looks import first_of_classes, look, shown
        from ablations.probes.transformers.poses import transformers

        rows = first_of_classes(subject.data)
        (name,) = transformers(subject.network)
        seen = [look(subject, subject.at(epoch), name, rows) for epoch in subject.snapshots]
        write_npz(
            subject.folder / "training.npz",
            epochs=list(subject.snapshots), images=shown(subject.data.test[rows].images).numpy(),
            **{key: torch.stack([each[key] for each in seen]).numpy() for key in seen[0]},
        )  # fmt: skip
        yield from ()


@dataclass(frozen=True, kw_only=True)
class SamplerGradients(Probe):
    """How far the sampler and its gradients are from the paper's sums, on real images where the network looks."""

    units = {"gradient/deviation": ""}

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """In double precision, for both ways of sampling."""
        from typing import get_args

        from ablations.probes.transformers.poses import thetas, transformers
        from ablations.probes.transformers.sampler_gradients import deviation
        from modules.blocks.sampling import Sampling

        ((name, transformer),) = transformers(subject.network).items()
        images, _ = next(subject.data.evaluation_batches("test", SUMMED, subject.device, SUMMED))
        positions = transformer.grid(thetas(subject.network, [(images, None)])[name].to(transformer.grid.start.device))
        for sampling in get_args(Sampling):
            apart = deviation(images.cpu(), positions.detach().cpu(), sampling, subject.seed)
            yield Measurement(point("sampler", sampling=sampling), "gradient/deviation", apart)


@dataclass(frozen=True, kw_only=True)
class FoundPairs(Probe):
    """Which part of the digits in pairs of images a network finds, trained and untrained, and the mean overlap.

    Keeps pairs.npz: images (K, 2, S, S), true_boxes and found_boxes (K, 2, 4).
    """

    snapshots = 2
    units = {"found": "%", "iou": ""}
    passes = 2.0  # trained and untrained

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Appendix A.2: a digit is found where window and true box overlap by more than half."""
        from ablations.harness.store.files import write_npz
        from ablations.probes.transformers.colocalisation import LEAST_OVERLAP, window_overlaps
        from ablations.probes.transformers.looks import first_of_classes, made, normalised
        from ablations.probes.transformers.poses import thetas, windows
        from modules.families.colocalisation import localiser

        networks = {"untrained": subject.at(min(subject.snapshots)), "trained": subject.network}
        for when, network in networks.items():
            overlaps = window_overlaps(network, subject.data, subject.device, subject.on_pass)
            hits = (overlaps > LEAST_OVERLAP).double().mean().item()
            yield Measurement(point("pairs", when=when), "found", 100 * hits)
            yield Measurement(point("pairs", when=when), "iou", overlaps.mean().item())
        data = made(subject.data)
        rows = first_of_classes(data, PAIRS)
        theta = next(iter(thetas(subject.network, [(normalised(subject, rows), None)]).values()))
        write_npz(
            subject.folder / "pairs.npz",
            images=data.test[rows].images.movedim(-1, 1).numpy(),
            true_boxes=data.truth["test"]["boxes"][rows].numpy(),
            found_boxes=windows(localiser(subject.network), theta).unflatten(0, (-1, 2)).numpy(),
        )
