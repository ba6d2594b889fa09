"""At which parts of a thing the transformers of a network look: at the head of a bird, at its body, or at neither."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ablations.harness.declare.probe import Measurement, Probe, Subject, refuse_below
from ablations.harness.store.records import point

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.sources.birds import Parts
    from modules import Network

KINDS = {
    "head": ("beak", "crown", "forehead", "left eye", "nape", "right eye", "throat"),
    "body": ("back", "belly", "breast", "left wing", "right wing"),
}
"""Of the 15 parts of CUB-200-2011 those that make a head or a body; legs and tails are neither."""


@dataclass(frozen=True, kw_only=True)
class PartWindows(Probe):
    """Per transformer, trained and untrained, at which part it looks in how many test images, and how its window moves.

    A window looks at the part next to its centre, if the part's centre lies in it. `consistency`: images in which it
    looks at the part at which it looks most often in their class. `spread`: deviation of the window's centre.
    pictures: test images that windows.npz keeps, with the windows. test_images: how many photographs there are, 0 for
    made images, which know their parts. parts: the folder CUB_200_2011 with those of photographs. parts_digest: of what
    is told there. Raises ValueError if the parts do not fit the images.
    """

    pictures: int = 12
    parts: str = ""
    test_images: int = 0
    parts_digest: str = ""
    snapshots = 2
    passes = 2.0  # trained and untrained
    units = {
        **{f"looks/{kind}": "%" for kind in KINDS},
        **{f"iou/{kind}": "" for kind in KINDS},
        "consistency": "%",
        "spread": "half widths",
    }

    def __post_init__(self) -> None:
        refuse_below(self, pictures=1)

    def prepared(self, network: Network | None) -> Self:
        """With the hash of the lists of parts that photographs need."""
        if not self.test_images:
            if self.parts:
                raise ValueError(f"--probe.parts {self.parts}: made images know their parts; leave it out")
            return self
        if not self.parts:
            raise ValueError(
                "--probe.parts is missing: allowed are single digits in grey, or photographs with their CUB_200_2011"
            )
        from datamodules.sources.birds import read_parts
        from modules.weights import digest

        centres, visible = heads_and_bodies(read_parts(Path(self.parts))[1])
        if len(centres) != self.test_images:
            raise ValueError(
                f"--probe.parts {self.parts}: tells the parts of {len(centres)} test images, the data has "
                f"{self.test_images}"
            )
        return replace(self, parts_digest=digest({"centres": centres, "visible": visible}.items()))

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Of networks with transformers alone."""
        import torch

        from ablations.harness.store.files import write_npz
        from ablations.probes.transformers.poses import overlap, thetas, transformers, windows
        from datamodules.made.made_data import MadeData
        from datamodules.sources.birds import read_parts

        boxes = subject.data.truth["test"]["boxes"].double() if isinstance(subject.data, MadeData) else None
        if boxes is None:
            centres, visible = heads_and_bodies(read_parts(Path(self.parts))[1])
        else:
            centres, visible = (boxes[..., :2] + boxes[..., 2:]) / 2, torch.ones(boxes.shape[:2], dtype=torch.bool)
        labels = subject.data.test.labels
        kept: dict[str, list[Tensor]] = {"trained": [], "untrained": []}
        for when, found in kept.items():
            network = subject.network if when == "trained" else subject.at(min(subject.snapshots))
            images = subject.data.evaluation_batches("test", device=subject.device)
            theta = thetas(network, images, subject.on_pass)
            for number, (name, transformer) in enumerate(transformers(network).items(), start=1):
                found.append(windows(transformer, theta[name]))
                seen = looks_at(found[-1], centres, visible)
                where = point("window", when=when, transformer=number)
                for part, kind in enumerate(KINDS):
                    yield Measurement(where, f"looks/{kind}", 100.0 * float((seen == part).double().mean()))
                    if boxes is not None:
                        yield Measurement(where, f"iou/{kind}", float(overlap(found[-1], boxes[:, part]).mean()))
                yield Measurement(where, "consistency", consistency(seen, labels))
                middles = (found[-1][:, :2] + found[-1][:, 2:]) / 2
                yield Measurement(where, "spread", float(middles.std(dim=0, correction=0).mean()))
        rows = torch.linspace(0, len(labels) - 1, min(self.pictures, len(labels))).long()
        write_npz(
            subject.folder / "windows.npz",
            images=subject.data.test.images[rows].numpy(), labels=labels[rows].numpy(), centres=centres[rows].numpy(),
            visible=visible[rows].numpy(), **{when: torch.stack(each)[:, rows].numpy() for when, each in kept.items()},
        )  # fmt: skip


def heads_and_bodies(parts: Parts) -> tuple[Tensor, Tensor]:
    """Means (N, 2, 2) of the visible places of KINDS, -1 to 1, x first, and whether one is in the image (N, 2).

    Raises ValueError if a kind has no part.
    """
    import torch

    centres, visible = [], []
    for kind, names in KINDS.items():
        columns = [column for column, name in enumerate(parts.names) if name in names]
        if not columns:
            raise ValueError(f"no part of a {kind} among {', '.join(parts.names)}; known are {', '.join(names)}")
        places = parts.places[:, columns].double()
        seen = parts.visible[:, columns] & (places.abs() <= 1).all(dim=2)
        weights = seen.double().unsqueeze(2)
        centres.append((places * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))
        visible.append(seen.any(dim=1))
    return torch.stack(centres, dim=1), torch.stack(visible, dim=1)


def looks_at(windows: Tensor, centres: Tensor, visible: Tensor) -> Tensor:
    """At which part a window looks: the one next to its centre, if it holds that part's centre, else -1.

    windows: (N, 4), left, top, right, bottom. centres: (N, P, 2). visible: (N, P). Gives int64 (N,).
    """
    middles = (windows[:, :2] + windows[:, 2:]) / 2
    distances = (centres - middles[:, None]).norm(dim=2).masked_fill(~visible, math.inf)
    inside = ((centres >= windows[:, None, :2]) & (centres <= windows[:, None, 2:])).all(dim=2) & visible
    nearest = distances.argmin(dim=1, keepdim=True)
    return nearest.masked_fill(~inside.gather(1, nearest), -1).squeeze(1)


def consistency(seen: Tensor, labels: Tensor) -> float:
    """Share in % of the images (N,) in which a window looks at the part it looks at most often in their class."""
    import torch

    of_class = torch.nn.functional.one_hot(labels)
    counts = torch.stack([of_class[seen == part].sum(dim=0) for part in range(len(KINDS))])
    return 100.0 * float(counts.amax(dim=0).sum()) / len(labels)
