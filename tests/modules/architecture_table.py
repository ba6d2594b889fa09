"""The table of every registered network: what is published of it, and how to make it small enough to compute with."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """One architecture.

    parameters: weights and biases of the published network, without auxiliary heads. tiny: arguments that make it small
    enough to compute with, at tiny_image pixels; None: only on the meta device. multiply_adds: as published, where
    they are. arguments: what the name alone does not say of the network that was counted.
    """

    parameters: int
    tiny: dict[str, Any] | None
    multiply_adds: float | None = None
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed
    tiny_image: int = 32


CIFAR_RESNETS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}  # 1512.03385, table 6
CIFAR_COSTS = {20: 40.6e6, 32: 68.9e6, 44: 97.2e6, 56: 125.5e6, 110: 252.9e6}  # from the layers of section 4.2
RESNETS = {
    "resnet_cifar": Row(272_474, {"width": 2}, arguments={"shortcut": "B"}),
    **{f"resnet{depth}": Row(count, {"width": 2}, CIFAR_COSTS[depth]) for depth, count in CIFAR_RESNETS.items()},
    "resnet1202": Row(19_421_274, None, 2.83e9),
    # Option A has no weights, so the plain twins have as many.
    **{f"plain{depth}": Row(count, {"width": 2}, CIFAR_COSTS[depth]) for depth, count in CIFAR_RESNETS.items()},
    # Pre-activation moves every batch norm to another width; the sum over a network stays the same.
    **{f"preact_resnet{depth}": Row(count, {"width": 2}) for depth, count in CIFAR_RESNETS.items()},
    "preact_resnet164": Row(1_703_258, {"width": 2}),
    "preact_resnet1001": Row(10_327_706, None),
    "resnet18": Row(11_689_512, {"width": 2}, 1.8e9),
    "resnet34": Row(21_797_672, {"width": 2}, 3.66e9),  # 1512.03385, table 1: 3.6e9, cut off
    "resnet50": Row(25_557_032, {"width": 2}, 4.1e9),  # stride on the 3x3: 1812.01187, table 5
    "resnet101": Row(44_549_160, {"width": 2}),
    "resnet152": Row(60_192_808, {"width": 2}),
    # Without the projections: 173_824 in basic blocks, 2_776_576 in bottlenecks.
    "plain18": Row(11_515_688, {"width": 2}),
    "plain34": Row(21_623_848, {"width": 2}),
    "plain50": Row(22_780_456, {"width": 2}),
    # 1812.01187, table 5; ResNet-A as published in 2015 is 3.8e9, cut off: exactly 3.858e9.
    "resnet50a": Row(25_557_032, {"width": 2}, 3.858e9),
    "resnet50b": Row(25_557_032, {"width": 2}, 4.1e9),
    "resnet50c": Row(25_576_264, {"width": 2}, 4.3e9),
    "resnet50d": Row(25_576_264, {"width": 2}, 4.3e9),
    # The stem of three convolutions has 19_232 weights more than the 7x7 one.
    "resnet18d": Row(11_708_744, {"width": 2}),
    "resnet34d": Row(21_816_904, {"width": 2}),
    "resnet101d": Row(44_568_392, {"width": 2}),
    "resnet152d": Row(60_212_040, {"width": 2}),
}
RESNEXTS = {  # the ImageNet ladder as timm's ResNet(cardinality, base_width) counts
    "resnext_cifar": Row(34_426_698, {"width": 2, "cardinality": 2}),
    "resnext50_1x64d": Row(25_557_032, {"width": 2}, 4.1e9),
    "resnext50_32x4d": Row(25_028_904, {"width": 2}, 4.2e9),  # table 1
    **{
        f"resnext{form}d": Row(count, {"width": 2})
        for form, count in {  # 1611.05431, table 7: 34.4 M and 68.1 M of the last two in 29 layers
            "29_1x64": 4_914_250, "29_2x64": 9_130_314, "29_4x64": 17_562_442, "29_8x64": 34_426_698,
            "29_16x64": 68_155_210, "50_2x40": 25_425_000, "50_4x24": 25_292_968, "50_8x14": 25_603_016,
            "101_1x64": 44_549_160, "101_2x40": 44_456_296, "101_4x24": 44_363_432, "101_8x14": 45_104_328,
            "101_32x4": 44_177_704, "101_2x64": 84_198_184, "101_64x4": 83_455_272,
        }.items()
    },
    "wide_resnet50_2": Row(68_883_240, {"width": 2}, 11.4e9),
    "wide_resnet_cifar": Row(36_479_194, {"width": 2, "widening": 2}, 5.2e9),
    "wrn28_10": Row(36_479_194, {"width": 1}, 5.2e9),  # 1605.07146, table 4: 36.5 M
}  # fmt: skip
VGG_TINY = {"width": 2, "hidden": 8}
VGGS = {
    # 13 convolutions 14 714 688, hidden layer 262 656, classifier 5130; batch norm adds 2 * 4224.
    "vgg_cifar": Row(14_982_474, {"width": 2, "hidden": 8}),
    "vgg15": Row(14_982_474, {"width": 2, "hidden": 8}),
    "vgg15_bn": Row(14_990_922, {"width": 2, "hidden": 8}),
    "vgg9": Row(2_786_890, {"width": 2}),  # 1 735 488 of convolutions, 1 051 402 fully connected
    "vgg9_bn": Row(2_789_706, {"width": 2}),
    "vgg11": Row(132_863_336, VGG_TINY, 7.61e9),
    "vgg11_lrn": Row(132_863_336, VGG_TINY, 7.61e9),
    "vgg11_bn": Row(132_868_840, VGG_TINY),
    "vgg13": Row(133_047_848, VGG_TINY, 11.31e9),
    "vgg13_bn": Row(133_053_736, VGG_TINY),
    "vgg13_5x5": Row(134_503_528, VGG_TINY),  # convolutions have 10 860 672 instead of 9 404 992
    "vgg16": Row(138_357_544, VGG_TINY, 15.47e9),
    "vgg16_bn": Row(138_365_992, VGG_TINY),
    "vgg16_c": Row(133_638_952, VGG_TINY, 11.77e9),
    "vgg19": Row(143_667_240, VGG_TINY, 19.63e9),  # 1512.03385, section 3.3: 19.6e9
    "vgg19_bn": Row(143_678_248, VGG_TINY),
}
DENSENETS = {
    # Counts of the authors' networks; 1608.06993, table 2 rounds them: 1.0M, 7.0M, 27.2M, 0.8M, 15.3M, 25.6M.
    "densenet_cifar": Row(1_019_722, {"depth": 10, "growth_rate": 4}),
    "densenet40_k12": Row(1_019_722, {}, tiny_image=8),
    "densenet100_k12": Row(6_979_642, None),
    "densenet100_k24": Row(27_249_082, None),
    "densenet_bc100_k12": Row(769_162, {}, tiny_image=8),
    "densenet_bc250_k24": Row(15_324_406, None),
    "densenet_bc190_k40": Row(25_624_430, None),
    "densenet121": Row(7_978_856, {"growth_rate": 2}, 2.834e9),
    "densenet169": Row(14_149_480, {"growth_rate": 2}),
    "densenet201": Row(20_013_928, {"growth_rate": 2}),
}
UNETS = {
    "unet": Row(31_030_658, {"width": 1, "depth": 2}, tiny_image=44),  # figure 1
    "unet_small": Row(482_466, {"width": 2}),  # ours
}
PLAIN = {
    "mlp": Row(269_322, {"width": 8}),
    # 1507.06228, section 3.1: 5112 for each of the depth - 1 layers of 71 units; 55 735 below them, 720 above.
    **{f"mlp{depth}": Row(56_455 + 5112 * (depth - 1), {}, tiny_image=28) for depth in (10, 20, 50, 100)},
    **{f"lenet5{form}": Row(61_706, {}, tiny_image=16) for form in ("", "_relu", "_relu_max")},
    "alexnet": Row(60_965_224, {"widths": (4, 4, 6, 6, 4), "hidden": 8}, 724e6, tiny_image=64),
    "alexnet_cifar": Row(89_578, {"width": 4}, tiny_image=16),
    "nin_cifar": Row(966_986, {"width": 6}, tiny_image=16),
    "nin_imagenet": Row(1_992_166, {"width": 3}, tiny_image=67),
}
TRANSFORMED = {
    # 1506.02025 gives no counts; 400 000 was aimed at.
    **{
        name: Row(count, {"num_parameters": 14_000}, tiny_image=16)
        for name, count in {
            "fcn": 399_615, "st_fcn": 400_477, "st_fcn_affine": 400_477, "st_fcn_projective": 400_543,
            "st_fcn_tps": 399_878,
        }.items()
    },
    **{
        name: Row(count, {"num_parameters": 20_000, "width": 2}, tiny_image=16)
        for name, count in {
            "cnn": 400_222, "st_cnn": 400_255, "st_cnn_affine": 400_255, "st_cnn_projective": 400_297,
            "st_cnn_tps": 399_222,
        }.items()
    },
    "st_addition": Row(400_919, {"num_parameters": 45_000}, tiny_image=16),
    # Convolutions 4 331 168, hidden layers 18 880 512, 33 803 per digit, transformers 5 116 952.
    "st_svhn": Row(28_362_435, {"width": 3, "hidden": 8}),
    # The localisation network: 520, 10 020 and, of 15 x 15 pixels, 90 020; theta 42. The encoder has no weights.
    "st_colocalisation": Row(100_602, {}, tiny_image=24),
    # resnet20's 269 722 and a localisation network of 13 286.
    "transformed": Row(283_008, {"network_arguments": {"width": 2}}),
    "st_resnet20": Row(283_008, {"network_arguments": {"width": 2}}),
}  # fmt: skip
GOOGLENETS = {
    # Auxiliary heads need 79 pixels and are not counted. Batch norm: 7280 numbers more than the biases it replaces.
    "googlenet": Row(6_998_552, {"width": 2}, 1.58e9, tiny_image=80),
    "googlenet_bn": Row(7_005_832, {"width": 2}, 1.58e9, tiny_image=80),
    # Ours: table 1 with a 3x3 in the place of the 7x7, batch norm, 10 classes.
    "googlenet_cifar": Row(5_983_402, {"width": 2}, tiny_image=16),
}
HIGHWAYS = {
    # 784 * 50 + 50, then 5100 a layer, and 510.
    "highway10": Row(85_660, {"width": 4}, tiny_image=8),
    "highway20": Row(136_660, {"width": 4}, tiny_image=8),
    "highway50": Row(289_660, {"width": 4}, tiny_image=8),
    "highway100": Row(544_660, {"width": 4}, tiny_image=8),
    "highway_conv_w16": Row(38_730, {}, tiny_image=16),  # 1507.06228, table 1: 39k
    "highway_conv_w32": Row(151_178, {}, tiny_image=16),  # 151k
    # Ours, after Fitnet 4: the text has about 2.3M and 1.25M, table 2.
    "highway_cifar": Row(2_277_242, {"width": 2}, tiny_image=16),
    "highway19": Row(2_277_242, {"width": 2}, tiny_image=16),
    "highway32": Row(1_232_902, {}, tiny_image=8),
}
TABLE: dict[str, Row] = RESNETS | RESNEXTS | VGGS | PLAIN | DENSENETS | UNETS | TRANSFORMED | GOOGLENETS | HIGHWAYS
