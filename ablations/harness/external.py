"""Networks that the suite did not train: `--network NAME --weights FILE`, and any timm model as `timm:NAME`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ablations.harness.command_line import Options, WrongInput
from datamodules.images import ImageData
from modules import Network, build, fitted
from modules.foreign import build_foreign
from modules.weights import digest, load_weights


@dataclass(frozen=True)
class Stranger:
    """A network from outside; run: its name and the hash of its weights, which stand for a run in the records."""

    network: Network
    arm: str
    run: str
    folder_name: str


def load(options: Options, data: ImageData) -> Stranger:
    """The network that --network and --weights name, fitted to the data's classes and channels.

    timm models keep the normalisation they were trained with. Raises ValueError for an unknown network, one whose
    blocks cannot be found, or weights that do not fit.
    """
    name, weights = options.network or "", options.weights or ""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        network = build_foreign(
            name, data.num_classes, data.in_channels,
            pretrained=weights == "pretrained", weights=None if weights in ("pretrained", "random") else Path(weights),
        )  # fmt: skip
        if data.in_channels == 3:
            _normalise_as_trained(name, data)
    else:
        if weights == "pretrained":
            raise WrongInput(f"--weights pretrained is for timm: networks; for {name} give a file")
        network = build(name, data.num_classes, data.in_channels, **fitted(name, {}, data.image_size))
        if weights != "random":
            load_weights(network, weights)
    arm = name.replace("timm:", "")
    run = f"{arm}-{digest(network.state_dict().items())[:8]}"
    return Stranger(network, arm, run, f"{run}-{data.name}")


def _normalise_as_trained(name: str, data: ImageData) -> None:
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix("timm:"))
    if config is not None:
        data.mean, data.std = tuple(config.mean), tuple(config.std)
