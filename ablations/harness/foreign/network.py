"""Networks that the suite did not train: `--network NAME --weights FILE`, and those of libraries, `timm:NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablations.harness.command.command_line import Options, WrongInput
from ablations.harness.declare.ablation import Ablation
from ablations.harness.declare.probe import Subject
from ablations.harness.execution.asking import Asked, ask
from ablations.harness.foreign.normalisation import Normalisation, as_trained
from ablations.harness.store.records import Records
from ablations.probes.intact import ERROR, Intact
from datamodules.images import ImageData
from modules import Network, build, fitted
from modules.foreign.adoption import build_foreign
from modules.foreign.libraries import is_foreign
from modules.weights import Misfit, digest, load_weights


@dataclass(frozen=True)
class ForeignNetwork:
    """A network that was not trained here.

    run: its name and the hash of its weights, which stand for a run in the records. weights: as they were given. taken:
    what of their file was taken or changed. whole: why a library's model has no blocks, "" if it has. images: the hash
    of the data.
    """

    network: Network
    arm: str
    run: str
    folder_name: str
    weights: str
    taken: str
    whole: str
    normalisation: Normalisation
    images: str

    def notes(self, error: float | None, num_classes: int) -> list[str]:
        """How its images are normalised, what was taken, and the warning that an error in % may call for."""
        taken = f" Taken of {self.weights}: {self.taken}." if self.taken else ""
        whole = f" Taken whole: {self.whole}." if self.whole else ""
        suspect = warning(error, num_classes, self.weights)
        read = f"Images normalised with {self.normalisation}.{taken}{whole}"
        return [read, *([f"Warning: {suspect}"] if suspect else [])]

    def asked(self, ablation: str, folder: Path) -> Asked:
        """Whose answers it gives, kept below the folder; they depend on the weights and what exactly they are shown."""
        shown = {"mean": list(self.normalisation.mean), "std": list(self.normalisation.std), "images": self.images}
        return Asked(ablation, self.arm, 0, self.run, folder, shown={"weights": self.run, **shown})


def load(options: Options, data: ImageData, needs_blocks: bool = True) -> ForeignNetwork:
    """The network that --network and --weights name, fitted to the data's classes and channels.

    needs_blocks: whether a library's model that cannot be divided into blocks is refused, or taken as a whole.

    The data is normalised as the flags say, else as timm or torchvision train the network, else by its own statistics.
    Raises ValueError for an unknown network, one whose blocks cannot be found, weights or numbers that do not fit.
    """
    name, weights = options.network or "", options.weights or ""
    torch.manual_seed(0)
    taken: list[str] = []
    whole: list[str] = []
    try:
        if is_foreign(name):
            network = build_foreign(
                name, data.num_classes, data.in_channels, pretrained=weights == "pretrained",
                weights=None if weights in ("pretrained", "random") else Path(weights), told=taken.append,
                image_size=data.image_size, undivided=None if needs_blocks else whole.append,
            )  # fmt: skip
        else:
            if weights == "pretrained":
                raise WrongInput(f"--weights pretrained is for timm: and torchvision: networks; for {name} give a file")
            network = build(name, data.num_classes, data.in_channels, **fitted(name, {}, data.image_size))
            if weights != "random":
                taken.append(load_weights(network, weights))
    except Misfit as error:
        raise WrongInput(f"{error}; python -m modules {name} --keys lists those wanted") from None
    normalisation = _normalisation(options, data)
    data.mean, data.std = normalisation.mean, normalisation.std
    arm = name.partition(":")[2] or name
    tensors = list(network.state_dict().items())
    if options.normalisation is not None:  # another page than without, and other records
        tensors += [("mean", torch.tensor(data.mean)), ("std", torch.tensor(data.std))]
    run = f"{arm}-{digest(tensors)[:8]}"
    return ForeignNetwork(
        network, arm, run, f"{run}-{data.name}", weights, "".join(taken), "".join(whole), normalisation,
        data.identity["digest"],
    )  # fmt: skip


def _normalisation(options: Options, data: ImageData) -> Normalisation:
    if options.normalisation is not None:
        return options.normalisation.for_channels(data.in_channels)
    source = "statistics of the training images"
    own = as_trained(options.network or "")
    if own is None:
        return Normalisation(tuple(data.mean), tuple(data.std), source)
    if len(own.mean) != data.in_channels and len(set(zip(own.mean, own.std, strict=True))) > 1:
        source += f"; {own.source} has {len(own.mean)} channels, not {data.in_channels}"
        return Normalisation(tuple(data.mean), tuple(data.std), source)
    if len(own.mean) != data.in_channels:
        own = Normalisation(own.mean[:1], own.std[:1], own.source)
    return own.for_channels(data.in_channels)


def describe(
    foreign: ForeignNetwork, ablation: Ablation, asked: Asked, subject: Subject, records: Records
) -> dict[str, Any]:
    """What is told of a foreign network, as plain values; test_error is None for one that does not classify.

    The intact error is among the records, or asked for where the ablation has no probe that gives it.
    """
    errors = records.where(probe="intact", metric=ERROR).values()
    if not errors:
        errors = [row.value for row in ask(asked, [Intact()], subject)[0]]
    error, classes = errors[0] if errors else None, subject.data.num_classes
    return {
        "run": foreign.run,
        "weights": foreign.weights,
        "taken": foreign.taken,
        "whole": foreign.whole,
        "normalisation": foreign.normalisation._asdict(),
        "test_error": error,
        "guessing": 100.0 - 100.0 / classes,
        "summary": list(ablation.summary(records)),
        "warning": warning(error, classes, foreign.weights),
    }


def warning(error: float | None, num_classes: int, weights: str) -> str:
    """One sentence if the error in % is above half of what guessing gives, and "" if not or if weights are random."""
    guessing = 100.0 - 100.0 / num_classes
    if error is None or weights == "random" or error <= guessing / 2:
        return ""
    return (
        f"The intact network errs on {error:.3g} % of the test images, where guessing errs on {guessing:.3g} %: likely "
        "causes are another normalisation (--mean, --std), another order of the classes, or weights renamed to a "
        "network with another function."
    )
