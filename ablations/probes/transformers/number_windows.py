"""Where the transformers of a network look that reads numbers of several digits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.store.records import point
from ablations.probes.number_errors import lengths

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NumberWindows(Probe):
    """Sizes of the windows and, where the truth is known, how they lie to the number; transformer 0 is the image.

    A window counts as the upright box around it, in % of the image: `window/area` is its median; `window/overlap` the
    mean intersection over union with the box around all digits, `window/covers` the mean part of that box inside.
    Numbers of no digit are left out. Keeps looks.npz: of the first test number of each length what the last transformer
    sees of the image itself; images, outputs: grey uint8 (n, S, S); outlines: (n, 4, 2), corners in pixels; labels.
    """

    units = dict.fromkeys(("window/area", "window/overlap", "window/covers"), "%")
    passes = 1.0

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        """Of networks with transformers alone, each of which reads what the one before it gave."""
        import torch

        from ablations.probes.transformers.poses import area, common, overlap
        from datamodules.made.made_data import MadeData

        data = subject.data
        through = seen_through(subject, data.evaluation_batches("test", device=subject.device))
        rows = lengths(data) > 0
        for number, matrix in enumerate([torch.eye(3).double().expand_as(through[0]), *through]):
            edges = corners(matrix[rows])
            box = torch.cat([edges.amin(dim=1), edges.amax(dim=1)], dim=1)
            where = point("window", transformer=number)
            yield Measurement(where, "window/area", 100.0 * (area(box) / 4).median().item())
            if isinstance(data, MadeData):
                true = true_boxes(data.truth["test"])[rows]
                yield Measurement(where, "window/overlap", 100.0 * overlap(box, true).mean().item())
                yield Measurement(where, "window/covers", 100.0 * (common(box, true) / area(true)).mean().item())
        _keep_looks(subject)


def seen_through(subject: Subject, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Of each transformer, in order, the matrices (N, 3, 3) from its window to the image itself."""
    from ablations.probes.transformers.poses import matrices, thetas, transformers

    found = thetas(subject.network, batches, subject.on_pass)
    through: list[Tensor] = []
    for name, transformer in transformers(subject.network).items():
        own = matrices(transformer, found[name])
        through.append(through[-1] @ own if through else own)
    return through


def corners(matrix: Tensor) -> Tensor:
    """Corners of the windows of affine matrices (N, 3, 3), clockwise from the upper left: (N, 4, 2), x first."""
    square = matrix.new_tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    return (square @ matrix.mT)[:, :, :2]


def true_boxes(truth: Mapping[str, Tensor]) -> Tensor:
    """The box around all digits of each number, float64 (N, 4); that of the first place if there is no digit."""
    import torch

    boxes, last = truth["boxes"].double(), (truth["length"] - 1).clamp(min=0)
    return torch.cat([boxes[:, 0, :2], boxes[torch.arange(len(boxes)), last, 2:]], dim=1)


def _keep_looks(subject: Subject) -> None:
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    from ablations.harness.store.files import write_npz

    data, length = subject.data, lengths(subject.data)
    rows = torch.stack([(length == number).nonzero()[0, 0] for number in length.unique().tolist() if number > 0])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    # Outside the image there is the mean, which is 0 for the network.
    values = data.test.images[rows].movedim(-1, 1).float() / 255 - mean
    matrix = seen_through(subject, [((values / std).to(subject.device), rows)])[-1]
    grid = affine_grid(matrix[:, :2].float(), list(values.shape), align_corners=False)
    shown = {"images": values, "outputs": grid_sample(values, grid, align_corners=False)}
    write_npz(
        subject.folder / "looks.npz",
        outlines=(((corners(matrix) + 1) * data.image_size - 1) / 2).numpy(),
        labels=data.test.labels[rows].numpy(),
        **{name: ((x + mean) * 255).mean(dim=1).round().clamp(0, 255).byte().numpy() for name, x in shown.items()},
    )
