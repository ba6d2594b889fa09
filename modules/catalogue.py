"""Every architecture by name: what it is, what it resolves to, its recipe, and how it is built."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping

import torch

from modules.architecture import Architecture, taking
from modules.blocks.layers import named
from modules.blocks.network import InputSize, Network
from modules.blocks.spatial_transformer import TransformerDesign, parallel_transformers
from modules.families import (
    alexnet,
    colocalisation,
    densenet,
    googlenet,
    highway,
    lenet,
    mlp,
    nin,
    resnet,
    resnext,
    transformer_networks,
    unet,
    vgg,
)
from modules.training.recipe import HE2015_IMAGENET, Recipe


@taking("design", TransformerDesign())
def transformed(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: int = 32,
    network: str = "resnet20",
    network_arguments: Mapping[str, object] | None = None,
    design: TransformerDesign,
) -> Network:
    """Any network of the suite with transformers in front of its stem; blocks and heads stay as they are.

    The birds of Jaderberg et al. 2015, section 4.3, have translations at a fixed scale of 0.5 that start as tiles
    (`transform="translation", scale=0.5, tile=True, num_transformers=2`). Differs: there each crop has the trunk's
    features for itself; here one trunk reads all crops as channels.
    network, network_arguments: as for `build`; the network has num_transformers * in_channels channels and images of
    output_size pixels.
    Raises ValueError for unknown and impossible values, and for an output that the network cannot take.
    """
    stem = parallel_transformers(in_channels, image_size, design)
    size, channels = design.output_size or image_size, design.num_transformers * in_channels
    trunk = build(network, num_classes, channels, **fitted(network, network_arguments or {}, size))
    trunk.input_size.check(torch.Size((1, channels, size, size)))
    trunk.stem = named(transformer=stem, trunk=trunk.stem)
    trunk.input_size = InputSize(image_size, 0)
    return trunk


ARCHITECTURES: dict[str, Architecture] = {
    **mlp.ARCHITECTURES,
    **lenet.ARCHITECTURES,
    **alexnet.ARCHITECTURES,
    **vgg.ARCHITECTURES,
    **nin.ARCHITECTURES,
    **googlenet.ARCHITECTURES,
    **highway.ARCHITECTURES,
    **resnet.ARCHITECTURES,
    **resnext.ARCHITECTURES,
    **densenet.ARCHITECTURES,
    **unet.ARCHITECTURES,
    **transformer_networks.ARCHITECTURES,
    "transformed": Architecture(transformed, transformer_networks.PAPER, transformer_networks.ST_CIFAR),
    "st_resnet20": Architecture(
        transformed, transformer_networks.PAPER, transformer_networks.ST_CIFAR, {"network": "resnet20"}
    ),
    **colocalisation.ARCHITECTURES,
}

# How a network computes, not what: no part of a run's identity.
EXECUTION_ARGUMENTS = frozenset(["recompute"])


def _architecture(name: str) -> Architecture:
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, ARCHITECTURES, n=5)
        hint = f"; close are {', '.join(close)}" if close else ""
        if ":" in name:
            hint = "; those of libraries are timm:NAME and torchvision:NAME"
        raise ValueError(f"unknown network {name!r}{hint}; `python -m modules` lists all {len(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def resolve(name: str, arguments: Mapping[str, object] | None = None) -> dict[str, object]:
    """Everything that decides what `build` makes: the builder's name and all its arguments, defaults included.

    Two names for the same network resolve to the same dictionary. Raises ValueError for an unknown name or argument.
    """
    architecture, given = _architecture(name), dict(arguments or {})
    parameters = architecture.parameters
    unknown = set(given) - set(parameters)
    if unknown:
        raise ValueError(f"{name} takes no argument {', '.join(sorted(unknown))}; it takes {', '.join(parameters)}")
    fixed = sorted(set(architecture.fixed) & set(given))
    if fixed:
        values = ", ".join(f"{key}={architecture.fixed[key]!r}" for key in fixed)
        raise ValueError(f"{name} fixes {values}; choose another network")
    defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    resolved = {**defaults, **architecture.fixed, **given}
    deciding = {key: resolved[key] for key in sorted(resolved) if key not in EXECUTION_ARGUMENTS}
    return {"builder": architecture.builder.__name__, **deciding}


def fitted(name: str, arguments: Mapping[str, object], image_size: int) -> dict[str, object]:
    """The arguments, and the images' width for a network that must know it (one with a fully connected layer).

    Raises ValueError for an unknown name.
    """
    architecture = _architecture(name)
    asks = "image_size" in architecture.parameters and "image_size" not in {**architecture.fixed, **arguments}
    return {**arguments, "image_size": image_size} if asks else dict(arguments)


def recipe_for(name: str) -> Recipe:
    """The published recipe of an architecture, by its registered name; that of He et al. 2015 for a library's."""
    return HE2015_IMAGENET if name.startswith(("timm:", "torchvision:")) else _architecture(name).recipe


# Arguments that count something.
COUNTS = (
    "depth", "width", "hidden", "image_size", "growth_rate", "cardinality", "base_width", "widening",
    "num_transformers",
)  # fmt: skip


def build(name: str, num_classes: int = 10, in_channels: int = 3, **arguments: object) -> Network:
    """Builds a network by its name in `ARCHITECTURES`, freshly initialised from torch's global generator.

    Raises ValueError for an unknown name, argument or value, naming what is allowed.
    """
    resolved = {**resolve(name, arguments), "num_classes": num_classes, "in_channels": in_channels}
    for key in (*COUNTS, "num_classes", "in_channels"):
        value = resolved.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} of {name} must be a whole number of at least 1, got {value!r}")
    return ARCHITECTURES[name](num_classes, in_channels, **arguments)
