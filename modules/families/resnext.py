"""ResNeXt: Xie et al. 2016, arXiv:1611.05431; wide residual networks: Zagoruyko & Komodakis 2016, arXiv:1605.07146.

ResNeXt's bottleneck has `cardinality` paths of `base_width` channels in the first stage (twice as many in each next);
section 3.4 and figure 3 give three forms of one function: paths summed, paths concatenated, one grouped convolution.
ImageNet networks as table 1, stride on the 3x3 convolution, shortcut B. CIFAR networks as section 5.3: a 3x3 stem of 64
channels, three stages of bottlenecks, 256 channels out of the first. No shortcuts: skip=False (table 5).
`wide_resnet50_2` is the bottleneck with one path of 128 channels; `wrn28_10` the pre-activation CIFAR network.

Differs from the papers: CIFAR blocks are post-activation, as the authors' later code; order="full_preactivation" is the
published one. A block form other than the grouped one starts from the very weights of the grouped one. Wide networks
have no dropout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from modules.architecture import Architecture, taking
from modules.blocks.layers import check_choice
from modules.blocks.network import Network
from modules.blocks.residual_block import BlockDesign
from modules.families.resnet import IMAGENET_STAGES, StemKind, Survival, residual_network, stages_of
from modules.training.recipe import HE2015_IMAGENET, Recipe

XIE2016_CIFAR = Recipe(
    epochs=300,
    weight_decay=5e-4,
    source="Xie et al. 2016, 1611.05431, section 5.3, and the authors' code (batch 128; the paper's runs had 256)",
)
XIE2016_IMAGENET = replace(HE2015_IMAGENET, source="Xie et al. 2016, 1611.05431, section 4: as He et al. 2015")
ZAGORUYKO2016_CIFAR = Recipe(
    epochs=200,
    nesterov=True,
    weight_decay=5e-4,
    milestones=(0.3, 0.6, 0.8),
    milestone_factor=0.2,
    source="Zagoruyko & Komodakis 2016, 1605.07146, section 3, and the authors' code",
)


def converted(grouped: Mapping[str, Tensor], names: Mapping[str, object], cardinality: int) -> dict[str, Tensor]:
    """The weights of a network of grouped blocks, for the same network of another form, which has these tensor names.

    A path takes its own channels of every layer: rows of the weights, columns of the last convolution's.
    """
    found = {}
    for name in names:
        path = re.search(r"\.paths\.path(\d+)\.", name)
        if path is None:
            found[name] = grouped[name]
            continue
        whole = grouped[name.replace(path[0], ".")]
        channels = 1 if ".conv3." in name else 0
        # A batch norm's count of batches belongs to every path.
        found[name] = whole.chunk(cardinality, channels)[int(path[1]) - 1] if whole.dim() else whole
    return found


def _resnext(
    design: BlockDesign, stages: tuple[int, ...], width: int, num_classes: int, in_channels: int, stem: StemKind
) -> Network:
    like = replace(design, form="grouped")
    network = residual_network(like, stages, width, num_classes, in_channels, stem=stem)
    if design.form == "grouped":
        return network
    weights = network.state_dict()
    network = residual_network(design, stages, width, num_classes, in_channels, stem=stem)
    network.load_state_dict(converted(weights, network.state_dict(), design.cardinality))
    return network


PATHS = ("cardinality", "base_width", "form", "order", "shortcut", "skip")


@taking("survival", Survival())
@taking("design", BlockDesign("bottleneck", shortcut="B", cardinality=8), *PATHS)
def resnext_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 29,
    width: int = 64,
    design: BlockDesign,
    survival: Survival,
) -> Network:
    """The CIFAR network of `depth` = 9n + 2 layers; stages give 4, 8 and 16 times `width` channels.

    Raises ValueError for a depth that the formula does not allow or an unknown variant.
    """
    stages = stages_of(depth, design.block)
    return survival.of(_resnext(design, stages, width, num_classes, in_channels, "small"))


@taking("survival", Survival())
@taking("design", BlockDesign("bottleneck", shortcut="B", cardinality=32, base_width=4), *PATHS)
def resnext_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    depth: int = 50,
    width: int = 64,
    design: BlockDesign,
    survival: Survival,
) -> Network:
    """The ImageNet network of 50, 101 or 152 layers; arguments as `resnext_cifar`.

    Raises ValueError for another depth or an unknown variant.
    """
    check_choice("depth", depth, (50, 101, 152))
    return survival.of(_resnext(design, IMAGENET_STAGES[depth][1], width, num_classes, in_channels, "7x7"))


@taking("survival", Survival())
@taking("design", BlockDesign(order="full_preactivation", shortcut="B"), "skip")
def wide_resnet_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    depth: int = 28,
    width: int = 16,
    widening: int = 10,
    design: BlockDesign,
    survival: Survival,
) -> Network:
    """The pre-activation network of `depth` = 6n + 4 layers: a stem of `width` channels, basic blocks `widening` wider.

    Raises ValueError for a depth that the formula does not allow.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 with n >= 1, got {depth}")
    stages = ((depth - 4) // 6,) * 3
    return survival.of(residual_network(design, stages, width * widening, num_classes, in_channels, stem_width=width))


def _imagenet(depth: int, cardinality: int, base_width: int, paper: str, recipe: Recipe) -> Architecture:
    fixed = {"depth": depth, "cardinality": cardinality, "base_width": base_width}
    return Architecture(resnext_imagenet, paper, recipe, fixed, image_size=224, num_classes=1000)


def _table() -> dict[str, Architecture]:
    paper, wide = "Xie et al. 2016, 1611.05431", "Zagoruyko & Komodakis 2016, 1605.07146"
    found = {"resnext_cifar": Architecture(resnext_cifar, paper, XIE2016_CIFAR)}
    for cardinality in (1, 2, 4, 8, 16):
        fixed = {"depth": 29, "cardinality": cardinality, "base_width": 64}
        found[f"resnext29_{cardinality}x64d"] = Architecture(resnext_cifar, paper, XIE2016_CIFAR, fixed)
    ladder = ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4))  # the same cost, table 3
    doubled = ((2, 64), (64, 4))  # twice the cost, table 4
    for depth, shapes in {50: ladder, 101: ladder + doubled}.items():
        for cardinality, base_width in shapes:
            name = f"resnext{depth}_{cardinality}x{base_width}d"
            found[name] = _imagenet(depth, cardinality, base_width, paper, XIE2016_IMAGENET)
    found["wide_resnet50_2"] = _imagenet(50, 1, 128, wide, HE2015_IMAGENET)
    found["wide_resnet_cifar"] = Architecture(wide_resnet_cifar, wide, ZAGORUYKO2016_CIFAR)
    found["wrn28_10"] = Architecture(wide_resnet_cifar, wide, ZAGORUYKO2016_CIFAR, {"depth": 28, "widening": 10})
    return found


ARCHITECTURES = _table()
