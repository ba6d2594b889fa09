"""The residual block in all the forms that the residual families compare.

Original, bottleneck and shortcuts A, B, C: He et al. 2015, arXiv:1512.03385, section 3. Five orders of batch norm and
ReLU, and scaled, gated, convolutional and dropped-out shortcuts: He et al. 2016, arXiv:1603.05027, tables 1 and 2.
Cardinality, and the three equal forms of one block: Xie et al. 2016, arXiv:1611.05431, figure 3. Shortcut D, average
pooling before the projection: He et al. 2018, arXiv:1812.01187, figure 2.

With F the convolutions, x the (pre-activated, where that is shared) input brought to the shape of the output, and
g = sigmoid(1x1 convolution of the input), what is added up is

| form                                   | shortcut                | branch              |
|----------------------------------------|-------------------------|---------------------|
| shortcut A, B, C, D                    | x                       | F                   |
| shortcut_scale a, branch_scale b       | a * x                   | b * F               |
| shortcut_dropout p                     | dropout(x)              | F                   |
| gate "shortcut"                        | (1 - g) * x             | F                   |
| gate "exclusive", (1 - g) * x + g * F  | x                       | g * (F - x)         |

so that deleting an exclusively gated block is shutting its gate, as in a highway network.

Differs from the papers: dropout divides what it keeps by 1 - p, which leaves the expectation of the shortcut at 1; the
paper says 0.5, which is shortcut_dropout=0.5 with shortcut_scale=0.5. Gates where the shape changes are not described:
here option A stands for x and the gate's convolution has the stride.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from modules.blocks.block import Block, shape_match
from modules.blocks.layers import check_choice, check_dropout, conv, named, sequence
from modules.blocks.parallel import Parallel


class Order(NamedTuple):
    """Where batch norm and ReLU stand around a block's convolutions, as words (see `layers.sequence`)."""

    prefix: str  # before the first convolution
    unit: str  # each convolution
    joint: str  # between two convolutions
    suffix: str  # after the last convolution, before the addition
    post: str  # after the addition


ORDERS = {  # the five rows of 1603.05027, table 2
    "original": Order("", "conv bn", "relu", "", "relu"),
    "bn_after_addition": Order("", "conv", "bn relu", "", "bn relu"),
    "relu_before_addition": Order("", "conv bn", "relu", "relu", ""),
    "relu_only_preactivation": Order("relu", "conv bn", "relu", "", ""),
    "full_preactivation": Order("bn relu", "conv", "bn relu", "", ""),
}

BlockKind = Literal["basic", "bottleneck"]
Shortcut = Literal["A", "B", "C", "D"]
Gating = Literal["none", "exclusive", "shortcut"]
OrderName = Literal[
    "original", "bn_after_addition", "relu_before_addition", "relu_only_preactivation", "full_preactivation"
]
StrideOn = Literal["first", "3x3"]
Form = Literal["grouped", "concat", "split"]
EXPANSION = {"basic": 1, "bottleneck": 4}


@dataclass(frozen=True)
class BlockDesign:
    """What all blocks of a residual network have in common.

    shortcut: where the shape changes, A pads with zeros, B projects, D pools and projects; C projects everywhere.
    average_shortcut: A pools instead of subsampling. stride_on: which convolution of a bottleneck has the stride.
    skip: False leaves the shortcuts out, the "plain" twin.
    shortcut_scale, branch_scale, shortcut_dropout, gate: see above; gate_bias: at the start.
    cardinality, base_width, form: of bottlenecks. Number of paths, channels of each in the first stage of a network of
        width 64 (in proportion in others, at least 1), and which of the three equal forms computes them: a grouped
        convolution, paths concatenated before the last convolution, or whole paths summed.
    Raises ValueError for an unknown variant, a number out of its range, or parts that exclude each other.
    """

    block: BlockKind = "basic"
    order: OrderName = "original"
    shortcut: Shortcut = "A"
    stride_on: StrideOn = "3x3"
    average_shortcut: bool = False
    skip: bool = True
    shortcut_scale: float = 1.0
    branch_scale: float = 1.0
    shortcut_dropout: float = 0.0
    gate: Gating = "none"
    gate_bias: float = 0.0
    cardinality: int = 1
    base_width: int = 64
    form: Form = "grouped"

    def __post_init__(self) -> None:
        check_choice("block", self.block, get_args(BlockKind))
        check_choice("order", self.order, tuple(ORDERS))
        check_choice("shortcut", self.shortcut, get_args(Shortcut))
        check_choice("stride_on", self.stride_on, get_args(StrideOn))
        check_choice("gate", self.gate, get_args(Gating))
        check_choice("form", self.form, get_args(Form))
        for name in ("shortcut_scale", "branch_scale"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        check_dropout(self.shortcut_dropout, "shortcut_dropout")
        if self.gate == "none" and self.gate_bias != 0:
            raise ValueError(f"gate_bias {self.gate_bias} needs a gate, exclusive or shortcut")
        scaled = (self.shortcut_scale, self.branch_scale, self.shortcut_dropout) != (1, 1, 0)
        if not self.skip and (scaled or self.gate != "none"):
            raise ValueError("skip=False has no shortcut to scale, drop out or gate")
        if self.gate != "none" and (scaled or self.shortcut != "A"):
            raise ValueError(f"gate {self.gate!r} goes with shortcut='A' alone, not scaled and without dropout")


class Scale(nn.Module):
    """Times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor

    def extra_repr(self) -> str:
        return str(self.factor)


class Gate(nn.Sequential):
    """sigmoid(1x1 convolution): (N, C_in, H, W) to (N, C_out, H / stride, W / stride) in (0, 1)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: float) -> None:
        transform = conv(in_channels, out_channels, 1, stride, bias=True)
        super().__init__(OrderedDict(conv=transform, sigmoid=nn.Sigmoid()))
        self.initial_bias = bias

    def open_at_bias(self) -> None:
        """Sets the bias to its initial value, after the initialisation that the network's layers share."""
        assert isinstance(self.conv, nn.Conv2d)
        assert self.conv.bias is not None
        nn.init.constant_(self.conv.bias, self.initial_bias)


class GatedShortcut(nn.Module):
    """(1 - gate(x)) * path(x)."""

    def __init__(self, path: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.path, self.gate = path, gate

    def forward(self, x: Tensor) -> Tensor:
        return (1 - self.gate(x)) * self.path(x)


class GatedBranch(nn.Module):
    """gate(x) * (residual(x) - path(x)), to be added to path(x)."""

    def __init__(self, residual: nn.Module, path: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.residual, self.path, self.gate = residual, path, gate

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x) * (self.residual(x) - self.path(x))


class PathSum(nn.ModuleDict):
    """Adds up what its paths make of the same input."""

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.values()
        total: Tensor = first(x)
        for path in others:
            total = total + path(x)
        return total


def _bottleneck(
    in_channels: int, inner: int, out_channels: int, stride: int, stride_on: str, groups: int = 1
) -> list[nn.Conv2d]:
    first, middle = (stride, 1) if stride_on == "first" else (1, stride)
    return [
        conv(in_channels, inner, 1, first),
        conv(inner, inner, 3, middle, groups),
        conv(inner, out_channels, 1),
    ]


def _paths(design: BlockDesign, words: str, in_channels: int, inner: int, out_channels: int, stride: int) -> nn.Module:
    """A bottleneck of separate paths, whose layers have the names of the grouped form with `paths.pathN.` before."""
    shapes = in_channels, inner // design.cardinality, out_channels, stride, design.stride_on
    paths = [
        dict(sequence(words, in_channels, _bottleneck(*shapes)).named_children()) for _ in range(design.cardinality)
    ]
    names = list(paths[0])
    start, end = names.index("conv1"), names.index("conv3") + (design.form == "split")
    by_name = {
        f"path{number}": named(**{name: path[name] for name in names[start:end]})
        for number, path in enumerate(paths, start=1)
    }
    shared = dict(paths[0])
    if design.form == "concat":
        shared["conv3"] = conv(inner, out_channels, 1)
    before, after = ({name: shared[name] for name in part} for part in (names[:start], names[end:]))
    return named(**before, paths=PathSum(by_name) if design.form == "split" else Parallel(by_name), **after)


def _residual(design: BlockDesign, words: str, in_channels: int, width: int, stride: int) -> nn.Module:
    if design.block == "basic":
        return sequence(words, in_channels, [conv(in_channels, width, 3, stride), conv(width, width, 3)])
    inner = max(1, width * design.base_width // 64) * design.cardinality
    if design.form != "grouped":
        return _paths(design, words, in_channels, inner, 4 * width, stride)
    convs = _bottleneck(in_channels, inner, 4 * width, stride, design.stride_on, design.cardinality)
    return sequence(words, in_channels, convs)


def _projection(design: BlockDesign, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    words = "conv" if "bn" in ORDERS[design.order].prefix else "conv bn"
    if design.shortcut != "D" or stride == 1:
        return sequence(words, in_channels, [conv(in_channels, out_channels, 1, stride)])
    layers = sequence(words, in_channels, [conv(in_channels, out_channels, 1)]).named_children()
    return named(pool=nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False), **dict(layers))


def _weakened(design: BlockDesign, path: nn.Module) -> nn.Module:
    """The shortcut with its dropout and its constant factor, where it has them."""
    layers = {"path": path}
    if design.shortcut_dropout > 0:
        layers["dropout"] = nn.Dropout(design.shortcut_dropout)
    if design.shortcut_scale != 1:
        layers["scale"] = Scale(design.shortcut_scale)
    return named(**layers) if len(layers) > 1 else path


def residual_block(design: BlockDesign, in_channels: int, width: int, stride: int, is_first: bool) -> Block:
    """One residual block: (N, in_channels, H, W) to (N, width * expansion, H / stride, W / stride).

    is_first: the network's first block moves its prefix before the split, because no addition precedes it (1603.05027,
    appendix); so does every block with a projection, whose shortcut then reads the pre-activated signal.
    """
    order, out_channels = ORDERS[design.order], width * EXPANSION[design.block]
    changes_shape = stride != 1 or in_channels != out_channels
    projects = design.skip and (design.shortcut == "C" or (design.shortcut != "A" and changes_shape))
    shares_prefix = bool(order.prefix) and (is_first or projects)
    words = [] if shares_prefix else [order.prefix]
    words += [f" {order.joint} ".join([order.unit] * (2 if design.block == "basic" else 3)), order.suffix]
    branch = _residual(design, " ".join(words), in_channels, width, stride)
    if projects:
        path = _projection(design, in_channels, out_channels, stride)
    else:
        path = shape_match(in_channels, out_channels, stride, design.average_shortcut)
    shortcut = _weakened(design, path)
    if design.branch_scale != 1:
        branch.add_module("scale", Scale(design.branch_scale))
    if design.gate != "none":
        gate = Gate(in_channels, out_channels, stride, design.gate_bias)
        if design.gate == "shortcut":
            shortcut = GatedShortcut(path, gate)
        else:
            again = shape_match(in_channels, out_channels, stride, design.average_shortcut)
            branch = GatedBranch(branch, again, gate)
    return Block(
        branch,
        shortcut,
        pre=sequence(order.prefix, in_channels) if shares_prefix else None,
        post=sequence(order.post, out_channels) if order.post else None,
        merge="add" if design.skip else "replace",
        changes_shape=changes_shape,
    )
