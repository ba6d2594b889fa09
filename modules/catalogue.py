"""Every architecture by name: what it is, what it resolves to, its recipe, and how it is built."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping

import torch
from torch import nn

from modules.architecture import Architecture, taking
from modules.blocks.layers import named
from modules.blocks.network import InputSize, Network
from modules.blocks.parallel import Parallel
from modules.blocks.spatial_transformer import TransformerDesign, transformer_blocks
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
    """Any network of the suite behind a transformer; of several transformers, each has a network of its own behind it.

    The birds of Jaderberg et al. 2015, section 4.3, have translations at a fixed scale of 0.5 that start as tiles
    (`transform="translation", scale=0.5, tile=True, num_transformers=2`). As there, the features of all crops, what the
    last layers of their networks would read, stand side by side in front of a single classifier.
    network, network_arguments: of each crop, as for `build`; it has images of output_size pixels.
    Raises ValueError for unknown and impossible values, for an output that the network cannot take, and for several
    networks that do not end in a fully connected layer.
    """
    size, networks, features = design.output_size or image_size, [], 0
    for crop in transformer_blocks(in_channels, image_size, design):
        behind = build(network, num_classes, in_channels, **fitted(network, network_arguments or {}, size))
        behind.input_size.check(torch.Size((1, in_channels, size, size)))
        behind.stem = named(transformer=crop, trunk=behind.stem)
        behind.input_size = InputSize(image_size, 0)
        networks.append(behind)
    if len(networks) == 1:
        return networks[0]
    for each in networks:
        *before, (_, last) = each.head.named_children()
        if not isinstance(last, nn.Linear) or "auxiliary" in each._modules:
            raise ValueError(
                f"{network} does not end in one linear layer, whose input could stand beside that of others"
            )
        each.head, features = named(**dict(before)), features + last.in_features
    side_by_side = Parallel({str(number): each for number, each in enumerate(networks, start=1)})
    return Network(side_by_side, {}, named(fc=nn.Linear(features, num_classes)), input_size=InputSize(image_size, 0))


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
