"""Networks that this suite did not build, from timm or torchvision, as stem, named blocks and head.

Blocks are found by their type: the residual blocks of `RESIDUAL` in any model, and the convolutions of the models in
`PLAIN_MODELS`. Every parameter and buffer stays the model's own tensor, so weights are loaded into the model before (or
after) it is adopted, under the names they were saved with. Nothing is taken on trust: the network's logits must equal
the model's to the last bit.
"""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from modules.block import Block, shape_match
from modules.network import Network
from modules.pretrained import loading_weights
from modules.weights import load_weights


class Residual(NamedTuple):
    """A residual block's attributes, as words in the order in which its forward uses them; absent ones are skipped."""

    prefix: str  # before the split if the shortcut is a projection, else the branch's first layer
    branch: str
    post: str  # after the addition


RESIDUAL = {
    "timm.models.resnet.BasicBlock": Residual("", "conv1 bn1 drop_block act1 aa conv2 bn2 se drop_path", "act2"),
    "timm.models.resnet.Bottleneck": Residual(
        "", "conv1 bn1 act1 conv2 bn2 drop_block act2 aa conv3 bn3 se drop_path", "act3"
    ),
    "timm.models.resnetv2.PreActBasic": Residual("norm1", "conv1 norm2 conv2 drop_path", ""),
    "timm.models.resnetv2.PreActBottleneck": Residual("norm1", "conv1 norm2 conv2 norm3 conv3 drop_path", ""),
    "torchvision.models.resnet.BasicBlock": Residual("", "conv1 bn1 relu conv2 bn2", "relu"),
    "torchvision.models.resnet.Bottleneck": Residual("", "conv1 bn1 relu conv2 bn2 relu conv3 bn3", "relu"),
}
PLAIN_MODELS = ("timm.models.vgg.VGG", "torchvision.models.vgg.VGG")
PLAIN = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.MaxPool2d: "pool"}


def adopt(model: nn.Module, example: Tensor) -> Network:
    """Expresses a timm or torchvision model as a `Network` that shares all its parameters and buffers.

    example: an input of the model, (N, C, H, W), on the model's device; used to check that the logits are equal.
    Blocks carry the model's own names, with underscores for dots (layer1_0, features_3). In-place activations of the
    model are set to work out of place, which changes no value.
    Raises ValueError if the model has no block of a known type, or is not a stem, a chain of such blocks and a head.
    """
    plain = _type(model) in PLAIN_MODELS
    parts = list(_flatten(model, plain))
    known = [index for index, (_, module) in enumerate(parts) if _is_known(module, plain)]
    if not known:
        findable = f"{', '.join(RESIDUAL)} and the convolutions of {' and '.join(PLAIN_MODELS)}"
        raise ValueError(f"no blocks found in {_type(model)}; those that can be found are {findable}")
    first, last = known[0], known[-1]
    if len(known) != last - first + 1:
        between = next(name for name, module in parts[first:last] if not _is_known(module, plain))
        raise ValueError(f"{_type(model)} is not one chain of blocks: {between} stands between two of them")
    blocks: OrderedDict[str, Block] = OrderedDict()
    for name, module in parts[first : last + 1]:
        blocks.update(_plain_blocks(module, name) if plain else {name: _residual_block(module)})
    network = Network(nn.Sequential(OrderedDict(parts[:first])), blocks, _head(model, parts[last + 1 :]))
    own = set(model.modules())
    for module in network.modules():
        if module not in own:
            module.training = model.training
        if getattr(module, "inplace", False):  # would overwrite what a deleted block, a probe or a hook still reads
            setattr(module, "inplace", False)  # noqa: B010
    _check_equal(model, network, example)
    return network


def build_foreign(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    pretrained: bool = False,
    weights: str | Path | None = None,
    told: Callable[[str], object] = lambda taken: None,
    **arguments: object,
) -> Network:
    """Builds a timm model, by a name such as `timm:resnet18`, as a `Network`.

    pretrained: load timm's own weights, through timm (may need the internet). weights: a file saved for the timm model,
    under timm's names; told: is given what of it was taken. arguments: timm's own, e.g. drop_path_rate.
    Raises ValueError for a name or argument timm does not know, weights that do not fit, or no known blocks.
    """
    import timm

    library, _, model_name = name.partition(":")
    if library != "timm" or not model_name:
        raise ValueError(f"a foreign network is named timm:MODEL, got {name!r}")
    if not timm.is_model(model_name.split(".")[0]):
        close = difflib.get_close_matches(model_name, timm.list_models(), n=1)
        raise ValueError(f"timm has no model {model_name!r}" + (f"; did you mean {close[0]}?" if close else ""))
    try:
        with loading_weights(model_name) if pretrained else nullcontext():
            model = timm.create_model(
                model_name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **arguments
            )
    except Exception as error:  # timm raises whatever its constructor or its download happens to raise
        raise ValueError(f"timm cannot build {model_name}: {_first_line(error)}") from error
    if weights is not None:
        told(load_weights(model, weights))
    # Own generator: the check must not move the seed that a run starts from. 64 pixels leave 2 after five halvings.
    return adopt(model, torch.randn(2, in_channels, 64, 64, generator=torch.Generator().manual_seed(0)))


def _type(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_known(module: nn.Module, plain: bool) -> bool:
    """Whether the module holds blocks: in a plain model a sequence of convolutions, else one residual block."""
    if not plain:
        return _type(module) in RESIDUAL
    if type(module) is not nn.Sequential:
        return False
    words = " ".join(PLAIN.get(type(layer), "other") for layer in module) + " "
    return re.fullmatch("(conv (bn )?relu (pool )?)+", words) is not None


def _flatten(module: nn.Module, plain: bool, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of the model's parts in order, entering a part only if there are known blocks inside."""
    for name, child in module.named_children():
        if not _is_known(child, plain) and any(_is_known(part, plain) for part in child.modules()):
            yield from _flatten(child, plain, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", child


def _chain(block: nn.Module, words: list[str]) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for word in words:
        layer = getattr(block, word, None)
        if layer is None or type(layer) is nn.Identity:
            continue
        if word == "relu":  # torchvision calls one module several times; hooks and attributions need one per use
            layers[f"relu{sum(name.startswith('relu') for name in layers) + 1}"] = nn.ReLU()
        else:
            layers[word] = layer
    return nn.Sequential(layers)


def _residual_block(block: nn.Module) -> Block:
    prefix, branch, post = (words.split() for words in RESIDUAL[_type(block)])
    projection = block.downsample
    assert projection is None or isinstance(projection, nn.Module)
    shares_prefix = bool(prefix) and projection is not None
    return Block(
        _chain(block, branch if shares_prefix else prefix + branch),
        projection,
        pre=_chain(block, prefix) if shares_prefix else None,
        post=_chain(block, post) if post else None,
    )


def _plain_blocks(features: nn.Module, prefix: str) -> Iterator[tuple[str, Block]]:
    """One `replace` block per convolution; max pooling is the block's `post`, so deletion keeps the resolution."""
    assert isinstance(features, nn.Sequential)
    starts = [index for index, layer in enumerate(features) if isinstance(layer, nn.Conv2d)]
    for start, end in pairwise([*starts, len(features)]):
        layers = OrderedDict((PLAIN[type(layer)], layer) for layer in features[start:end])
        conv, pool = layers["conv"], layers.pop("pool", None)
        assert isinstance(conv, nn.Conv2d)
        shortcut = shape_match(conv.in_channels, conv.out_channels, conv.stride[0])
        yield f"{prefix}_{start}", Block(nn.Sequential(layers), shortcut, post=pool, merge="replace")


def _head(model: nn.Module, parts: list[tuple[str, nn.Module]]) -> nn.Sequential:
    """What follows the last block, with the steps that the models' forward does without a module."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    drop_rate = getattr(model, "drop_rate", 0.0)
    for name, module in parts:
        if _type(model) == "timm.models.resnet.ResNet" and name == "fc" and drop_rate:
            layers["dropout"] = nn.Dropout(drop_rate)
        layers[name] = module
        if type(module) is nn.AdaptiveAvgPool2d:
            layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)


def _check_equal(model: nn.Module, network: Network, example: Tensor) -> None:
    """Compares the logits in evaluation mode and, on the way, notes which blocks change shape and can be deleted."""

    def note(name: str, block: Block, x: Tensor, y: Tensor) -> None:
        block.changes_shape = x.shape != y.shape
        if block.shortcut(x).shape != y.shape:
            raise ValueError(f"no shortcut for {name} from {tuple(x.shape)} to {tuple(y.shape)}")

    handles = [
        block.branch.register_forward_hook(lambda _, inputs, y, name=name, block=block: note(name, block, inputs[0], y))
        for name, block in network.named_blocks()
    ]
    modes = {module: module.training for part in (model, network) for module in part.modules()}
    try:
        with torch.no_grad():
            expected = model.eval()(example)
            try:
                found = network.eval()(example)
            except Exception as error:  # whatever a layer raises for an input it was not made for
                raise ValueError(f"{_type(model)} is not a stem, blocks and a head: {_first_line(error)}") from error
        if not isinstance(expected, Tensor) or not torch.equal(expected, found):
            raise ValueError(f"{_type(model)} does more than its stem, blocks and head: the logits differ")
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
