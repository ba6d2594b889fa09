"""Arguments that no network can have: one line that names the value and what is allowed."""

from typing import Any

import pytest

from modules import ARCHITECTURES, build
from modules.catalogue import COUNTS


def lacking(name: str, arguments: dict[str, Any], named: list[str]) -> list[str]:
    """Builds a network that cannot be built; gives the words that the one line of its ValueError lacks."""
    with pytest.raises(ValueError) as caught:
        build(name, in_channels=ARCHITECTURES[name].in_channels if name in ARCHITECTURES else 3, **arguments)
    assert "\n" not in str(caught.value)
    return [word for word in named if word not in str(caught.value)]


def free() -> dict[tuple[str, str], tuple[str, Any]]:
    """(builder, argument) -> a name of the registry that leaves the argument free, and its default."""
    found: dict[tuple[str, str], tuple[str, Any]] = {}
    for name, architecture in ARCHITECTURES.items():
        for key, parameter in architecture.parameters.items():
            if key not in architecture.fixed:
                found.setdefault((architecture.builder.__name__, key), (name, parameter.default))
    return found


FREE = free()
WORDS = [key for key, (_, default) in FREE.items() if isinstance(default, str)]
NUMBERS = [key for key in FREE if key[1] in COUNTS]


@pytest.mark.parametrize(("builder", "argument"), WORDS)
def test_a_word_that_is_none_of_the_allowed(builder: str, argument: str) -> None:
    name, default = FREE[builder, argument]
    survival = {"survival_prob": 0.5} if argument in ("survival_rule", "drop_per") else {}  # else they are not read
    listed = "resnet20" if argument == "network" else default
    word = "resnet21" if argument == "network" else "nonsense"
    assert lacking(name, {argument: word, **survival}, [f"{word!r}", listed]) == []


@pytest.mark.parametrize(("builder", "argument"), NUMBERS)
def test_none_of_what_is_counted(builder: str, argument: str) -> None:
    for number in (0, -1, 2.0):
        assert lacking(FREE[builder, argument][0], {argument: number}, [argument, repr(number)]) == []


def test_what_a_name_fixes_is_not_changed() -> None:
    for name, architecture in ARCHITECTURES.items():
        for key, value in architecture.fixed.items():
            assert lacking(name, {key: value}, [name, f"{key}={value!r}"]) == []


@pytest.mark.parametrize(("name", "arguments", "named"), [
    ("resnet21", {}, ["resnet21", "resnet20", "python -m modules"]),
    ("resnet20", {"widht": 3}, ["widht", "width"]),
    # depths
    ("resnet_cifar", {"depth": 21}, ["21", "6n"]),
    ("resnet_cifar", {"depth": 2}, ["2", "6n"]),
    ("resnet_cifar", {"depth": 32, "block": "bottleneck"}, ["32", "9n"]),
    ("resnext_cifar", {"depth": 28}, ["28", "9n + 2"]),
    ("wide_resnet_cifar", {"depth": 29}, ["29", "6n + 4"]),
    ("densenet_cifar", {"depth": 41}, ["41", "3n + 4"]),
    ("densenet_cifar", {"depth": 4}, ["4", "3n + 4"]),
    ("densenet_cifar", {"depth": 43, "bottleneck": True}, ["43", "6n + 4"]),
    ("highway_cifar", {"depth": 20}, ["20", "19, 32"]),
    # residual blocks
    ("resnet20", {"gate_bias": -3.0}, ["-3.0", "exclusive"]),
    ("resnet20", {"gate": "exclusive", "shortcut": "B"}, ["exclusive", "'A'"]),
    ("resnet20", {"gate": "shortcut", "shortcut_dropout": 0.5}, ["shortcut", "dropout"]),
    ("resnet20", {"skip": False, "branch_scale": 0.5}, ["skip=False"]),
    ("resnet20", {"skip": False, "gate": "exclusive"}, ["skip=False"]),
    ("resnet20", {"shortcut_scale": -1.0}, ["shortcut_scale", "-1.0"]),
    ("resnet20", {"branch_scale": -0.5}, ["branch_scale", "-0.5"]),
    ("resnet20", {"shortcut_dropout": 1.0}, ["1.0", "[0, 1)"]),
    ("resnet20", {"survival_prob": 0.0}, ["0.0", "(0, 1]"]),
    ("resnet20", {"survival_prob": 1.5}, ["1.5", "(0, 1]"]),
    ("resnet20", {"survival_prob": float("nan")}, ["nan", "(0, 1]"]),
    ("resnet20", {"survival_prob": 0.5, "skip": False}, ["replace"]),
    ("resnet20", {"kept_blocks": 10}, ["1..9"]),
    ("resnet20", {"kept_blocks": -1}, ["1..9"]),
    ("resnet20", {"kept_blocks": 4, "survival_prob": 0.5}, ["excludes"]),
    ("resnet20", {"kept_blocks": 4, "skip": False}, ["replace"]),
    ("densenet_cifar", {"compression": 0.0}, ["0.0", "(0, 1]"]),
    ("densenet_cifar", {"compression": 1.5}, ["1.5", "(0, 1]"]),
    ("densenet_cifar", {"dropout": 1.0}, ["1.0", "[0, 1)"]),
    ("densenet_cifar", {"recompute": -1}, ["recompute", "-1"]),
    # plain networks
    ("mlp", {"dropout": 1.5}, ["dropout", "1.5"]),
    ("lenet5", {"image_size": 11}, ["image_size", "11", "12"]),
    ("alexnet", {"widths": (1, 2, 3)}, ["widths", "(1, 2, 3)", "five"]),
    ("alexnet", {"widths": (2, 2, 2, 2, 0)}, ["widths", "0"]),
    ("alexnet", {"groups": 5}, ["groups", "5"]),
    ("alexnet", {"pool_size": 4}, ["pool_size", "4", "2, 3"]),
    ("alexnet_cifar", {"groups": 3}, ["width", "groups", "3"]),
    ("alexnet_cifar", {"pool_size": 1}, ["pool_size", "1", "2, 3"]),
    ("alexnet_cifar", {"first_kernel": 6}, ["first_kernel", "6", "odd"]),
    ("alexnet_cifar", {"image_size": 7}, ["image_size", "7", "8"]),
    ("vgg13", {"kernel_size": 4}, ["kernel_size", "4", "3, 5 or 7"]),
    ("vgg16", {"kernel_size": 5}, ["kernel_size 5", "(2, 2, 3, 3, 3)"]),
    ("vgg16_c", {"kernel_size": 7}, ["kernel_size 7", "(2, 2, 3, 3, 3)"]),
    ("vgg_cifar", {"kernel_size": 5}, ["kernel_size 5", "(2, 2, 3, 3, 3)"]),
    ("vgg_cifar", {"grid": 0}, ["grid", "0"]),
    ("vgg_cifar", {"convs_per_group": ()}, ["()"]),
    ("vgg_cifar", {"convs_per_group": (1, 0)}, ["(1, 0)"]),
    ("vgg_cifar", {"num_pools": 6}, ["6", "0..5"]),
    ("nin_cifar", {"image_size": 3}, ["image_size", "3", "4"]),
    ("nin_imagenet", {"image_size": 66}, ["image_size", "66", "67"]),
    ("nin_imagenet", {"width": 64}, ["width", "64", "3"]),
    # paths, gates, skips
    ("googlenet", {"paths": ()}, ["()", "1x1, 3x3, 5x5, pool"]),
    ("googlenet", {"paths": ("7x7",)}, ["7x7", "1x1, 3x3, 5x5, pool"]),
    ("googlenet_cifar", {"paths": ("1x1", "1x1")}, ["each once", "1x1"]),
    ("googlenet_cifar", {"kernel": 4}, ["4", "odd"]),
    ("googlenet", {"kernel": 0}, ["0", "odd"]),
    ("googlenet", {"dropout": 1.0}, ["1.0", "[0, 1)"]),
    ("highway_conv_w16", {"image_size": 7}, ["7", "8"]),
    ("highway_conv_w16", {"carry": None}, ["None", "coupled, separate"]),
    ("unet", {"dropout": 1.0}, ["1.0", "[0, 1)"]),
    ("unet_small", {"dropout": -0.1}, ["-0.1", "[0, 1)"]),
    # spatial transformers
    ("transformed", {"transform": "none"}, ["'none'", "affine"]),
    ("st_fcn", {"output_size": 0}, ["output_size", "0", "1"]),
    ("st_fcn", {"output_size": 2.5}, ["output_size", "2.5"]),
    ("st_fcn", {"pool": 0}, ["pool", "0"]),
    ("st_fcn", {"pool": 29}, ["width in pixels", "0"]),
    ("st_fcn", {"scale": 0.0}, ["scale", "0.0"]),
    ("st_fcn", {"num_parameters": 100}, ["100"]),
    ("fcn", {"num_transformers": 2}, ["none", "num_transformers"]),
    ("cnn", {"output_size": 14}, ["none", "output_size"]),
    ("st_fcn_tps", {"control_points": 1}, ["control_points", "1", "2"]),
    ("st_cnn", {"image_size": 3}, ["3", "4"]),
    ("st_cnn", {"output_size": 3}, ["3", "4"]),
    ("st_svhn", {"image_size": 15}, ["15", "16"]),
    ("st_svhn", {"num_digits": 0}, ["num_digits", "0"]),
    ("st_svhn", {"dropout": 1.0}, ["1.0", "[0, 1)"]),
    ("transformed", {"network_arguments": {"widht": 3}}, ["widht", "width"]),
    ("transformed", {"network": "vgg15", "output_size": 31}, ["31 x 31"]),
    ("st_colocalisation", {"transform": "affine"}, ["affine", "attention", "translation"]),
    ("st_colocalisation", {"scale": 1.0}, ["1.0", "between 0 and 1"]),
    ("st_colocalisation", {"scale": 0.05, "image_size": 28}, ["window", "at least 3", "1"]),
    ("st_colocalisation", {"contrast": 0.0}, ["contrast", "0.0"]),
    ("st_colocalisation", {"grid": 0}, ["grid", "0"]),
])  # fmt: skip
def test_what_is_out_of_range(name: str, arguments: dict[str, Any], named: list[str]) -> None:
    assert lacking(name, arguments, named) == []
