"""Network in Network: Lin et al. 2013, arXiv:1312.4400, for 32 and for 224 pixels.

An mlpconv layer, a convolution followed by two 1x1 convolutions, is one `replace` block; the last gives one map per
class, and global average pooling makes the logits. Section 4.6 is two arguments: `head` puts a fully connected layer on
those maps, `mlpconv=False` leaves the 1x1 convolutions out (a conventional network of the same maps).
Channels: the authors' CIFAR configuration (966 986 parameters); for 224 pixels the form of Zhang et al. 2021,
arXiv:2106.11342, section 8.3 (1 992 166 parameters with 1 channel and 10 classes).
Differs from the paper: He initialisation, because N(0, 0.01) hardly starts; no whitening; the conventional network has
no locally connected layer.
"""

from __future__ import annotations

from torch import nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import check_choice, keep_variance, named, plain_block
from modules.blocks.network import InputSize, Network
from modules.training.recipe import Recipe

LIN2013 = Recipe(
    epochs=200,
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(0.6, 0.8),
    source="Lin et al. 2013, 1312.4400, section 4: as AlexNet (10x down on plateaus; epochs and fractions ours)",
)
HEADS = ("gap", "fc", "fc_dropout")


def _mlpconv(conv: nn.Conv2d, widths: tuple[int, ...], post: nn.Module | None) -> Block:
    """A convolution and 1x1 convolutions to `widths` channels, each with ReLU."""
    layers: dict[str, nn.Module] = {"conv": conv, "relu": nn.ReLU()}
    channels = conv.out_channels
    for number, width in enumerate(widths, start=1):
        layers[f"mlp{number}"] = nn.Conv2d(channels, width, 1)
        layers[f"mlp_relu{number}"] = nn.ReLU()
        channels = width
    return plain_block(layers, post)


def _head(head: str, num_classes: int, grid: int, dropout: float) -> nn.Sequential:
    """(N, num_classes, grid, grid) to (N, num_classes)."""
    if head == "gap":
        return named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    dropped = {"dropout": nn.Dropout(dropout)} if head == "fc_dropout" else {}
    return named(flatten=nn.Flatten(), **dropped, fc=nn.Linear(num_classes * grid**2, num_classes))


def _check(head: str, image_size: int, least: int) -> None:
    check_choice("head", head, HEADS)
    if image_size < least:
        raise ValueError(f"image_size must be at least {least} pixels, got {image_size}")


def nin_cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    width: int = 192,
    head: str = "gap",
    mlpconv: bool = True,
    dropout: float = 0.5,
    image_size: int = 32,
) -> Network:
    """Three mlpconv blocks of `width` channels (160 and 96 of 192 inside the first), for 32 x 32 input.

    head: gap (global average pooling), fc or fc_dropout (a fully connected layer on the last maps). dropout: between
    blocks, and before the layer of fc_dropout. image_size: at least 4 pixels; only fully connected heads hold to it.
    Raises ValueError for another head or a size below that.
    """
    _check(head, image_size, 4)
    mlpconvs: list[tuple[int, ...]] = [
        (width, max(1, width * 5 // 6), max(1, width // 2)),
        (width, width, width),
        (width, width, num_classes),
    ]
    pools = (nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2, ceil_mode=True), None)
    blocks = {}
    channels = in_channels
    for number, (widths, pool) in enumerate(zip(mlpconvs, pools, strict=True), start=1):
        widths = widths if mlpconv else widths[-1:]
        kernel_size = 3 if number == 3 else 5
        conv = nn.Conv2d(channels, widths[0], kernel_size, padding=kernel_size // 2)
        post = named(pool=pool, dropout=nn.Dropout(dropout)) if pool else None
        blocks[f"mlpconv{number}"] = _mlpconv(conv, widths[1:], post)
        channels = widths[-1]
    network = Network(
        nn.Identity(),
        blocks,
        _head(head, num_classes, image_size // 4, dropout),
        input_size=InputSize(4) if head == "gap" else InputSize(image_size, 0),
    )
    keep_variance(network, "relu")
    return network


def nin_imagenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width: int = 96,
    head: str = "gap",
    mlpconv: bool = True,
    dropout: float = 0.5,
    image_size: int = 224,
) -> Network:
    """Four mlpconv blocks of width, 8/3 width, 4 width and num_classes channels, for 224 x 224 input.

    width: divisible by 3. dropout: before the last block. image_size: at least 67 pixels. Else as `nin_cifar`.
    Raises ValueError for a width, head or size that is not possible.
    """
    _check(head, image_size, 67)
    if width % 3:
        raise ValueError(f"width must be divisible by 3, got {width}")
    convs = (
        nn.Conv2d(in_channels, width, 11, 4),
        nn.Conv2d(width, width // 3 * 8, 5, padding=2),
        nn.Conv2d(width // 3 * 8, 4 * width, 3, padding=1),
        nn.Conv2d(4 * width, num_classes, 3, padding=1),
    )
    last = named(pool=nn.MaxPool2d(3, 2), dropout=nn.Dropout(dropout))
    posts = (nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2), last, None)
    blocks = {
        f"mlpconv{number}": _mlpconv(conv, (conv.out_channels,) * (2 if mlpconv else 0), post)
        for number, (conv, post) in enumerate(zip(convs, posts, strict=True), start=1)
    }
    grid = (image_size - 11) // 4 + 1
    for _ in range(3):
        grid = (grid - 3) // 2 + 1
    network = Network(
        nn.Identity(),
        blocks,
        _head(head, num_classes, grid, dropout),
        input_size=InputSize(67) if head == "gap" else InputSize(image_size, 0),
    )
    keep_variance(network, "relu")
    return network


PAPER = "Lin et al. 2013, 1312.4400"
ARCHITECTURES = {
    "nin_cifar": Architecture(nin_cifar, PAPER, LIN2013),
    "nin_imagenet": Architecture(
        nin_imagenet, f"{PAPER}, as in Zhang et al. 2021, 2106.11342", LIN2013, image_size=224, in_channels=1
    ),
}
