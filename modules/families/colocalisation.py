"""Co-localisation: Jaderberg et al. 2015, arXiv:1506.02025, appendix A.2.

Two images show things of one class, nobody says which or where. A spatial transformer T looks for the thing in each,
an encoder e describes what T sampled. Trained by triplets: e of the two windows shall be closer to each other, by a
margin of 1 in squared distance, than e of a window and of a random crop of its own image.

What differs, because windows outside of the image are all alike, and that is where runs ended that had it otherwise:

- The encoder is fixed by default, a coarse thumbnail; `encoder="cnn"` learns two convolutions and a linear layer, from
  scratch, and soon tells the empty window from all else. (Which encoder the paper has is not confirmed.)
- Each window approaches the other as it stands, no gradient flows through that one: the values are the paper's, the
  pull between the windows is half as strong beside the push away from the crops.
- The window keeps its scale by default (`translation`); `attention`, which learns it too, was lost like that as well.
- Crops reach beyond the image (REACH), where there is nothing, so that some are as empty as such a window.

Also, the paper takes all pairs of a set of images of one class; here pairs come as they are given, of all classes, and
one network learns from all. Where the paper is silent: both images of a pair have their crops, two each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from modules.architecture import Architecture
from modules.blocks.block import Block
from modules.blocks.layers import check_choice, check_least, conv, initialise, named, plain_block
from modules.blocks.localisation import LocalisationName
from modules.blocks.network import InputSize, Network
from modules.blocks.sampling import sample
from modules.blocks.spatial_transformer import Resize, SpatialTransformer, TransformerDesign, transformer_block
from modules.families.transformer_networks import JADERBERG2015_MNIST

Window = Literal["attention", "translation"]
Encoder = Literal["thumbnail", "cnn"]

MARGIN = 1.0  # of squared distances, as published
CROPS = 2  # random crops of each image in training
REACH = 1.5  # how far from the middle crops stand, as a multiple of where they still fit into the image
EVALUATION_CROPS = 8  # of each image in evaluation, the same places in all

JADERBERG2015_PAIRS = replace(
    JADERBERG2015_MNIST,
    source="Jaderberg et al. 2015, 1506.02025: the schedule of A.4, as none is known for A.2; momentum is ours",
)


class EachChannel(nn.Module):
    """Every channel as an image of its own, its darkest pixel 0: (N, C, H, W) to (N * C, 1, H, W).

    Zero, because outside the image there are zeros, and nothing there shall be told from the background inside.
    """

    def forward(self, images: Tensor) -> Tensor:
        each = images.flatten(0, 1).unsqueeze(1)
        return each - each.amin(dim=(2, 3), keepdim=True)


class Thumbnail(nn.Module):
    """The mean brightness of grid x grid parts of an image, times `contrast`: (N, 1, H, W) to (N, 1, grid, grid)."""

    def __init__(self, grid: int, contrast: float) -> None:
        super().__init__()
        self.contrast = contrast
        self.pool = nn.AdaptiveAvgPool2d(grid)

    def forward(self, images: Tensor) -> Tensor:
        return self.contrast * self.pool(images)

    def extra_repr(self) -> str:
        return f"contrast={self.contrast}"


class Pairs(nn.Module):
    """The embeddings of two images side by side: (2 N, E) to (N, E, 2)."""

    def forward(self, embeddings: Tensor) -> Tensor:
        return embeddings.unflatten(0, (-1, 2)).mT


def st_colocalisation(
    num_classes: int = 10,
    in_channels: int = 2,
    *,
    image_size: int = 84,
    transform: Window = "translation",
    scale: float = 1 / 3,
    localisation: LocalisationName = "conv",
    encoder: Encoder = "thumbnail",
    grid: int = 3,
    contrast: float = 0.2,
    width: int = 16,
    embedding: int = 32,
) -> Network:
    """One transformer and one encoder for both images (N, 2, H, W) of a pair: their embeddings, (N, E, 2).

    num_classes: not used, nobody says the class. transform: `translation` keeps the scale, `attention` learns it.
    scale: width of the window (at the start), as a fraction of the image's. grid, contrast: of the thumbnail; contrast
    brings squared distances, in standard deviations of pixels, to the order of the margin. width, embedding: channels
    of both convolutions of the CNN, and numbers that it gives.
    Raises ValueError for unknown and impossible values, and for other than two channels.
    """
    check_choice("transform", transform, get_args(Window))
    check_choice("encoder", encoder, get_args(Encoder))
    if in_channels != 2:
        raise ValueError(f"in_channels is {in_channels}; a pair has 2, one for each image")
    if not 0 < scale < 1:
        raise ValueError(f"scale must lie between 0 and 1, so that there is something beside the window; got {scale}")
    if not contrast > 0:
        raise ValueError(f"contrast must be positive, got {contrast}")
    check_least("grid", grid)
    check_least("embedding", embedding)
    size = round(scale * image_size)
    check_least("width in pixels of the window", size, 4 if encoder == "cnn" else grid)
    design = TransformerDesign(transform, output_size=size, localisation=localisation, scale=scale)
    transformer = transformer_block(1, image_size, design)
    blocks: dict[str, Block] = {}
    head: dict[str, nn.Module] = {}
    if encoder == "thumbnail":
        blocks["thumbnail"] = Block(
            Thumbnail(grid, contrast), Resize(grid, "bilinear"), post=nn.Flatten(), merge="replace", changes_shape=True
        )
    else:
        flat = named(pool=nn.MaxPool2d(2), flatten=nn.Flatten())
        blocks["conv1"] = plain_block({"conv": conv(1, width, 5, bias=True), "relu": nn.ReLU()}, nn.MaxPool2d(2))
        blocks["conv2"] = plain_block({"conv": conv(width, width, 5, bias=True), "relu": nn.ReLU()}, flat)
        head["fc"] = nn.Linear(width * (size // 4) ** 2, embedding)
    head["pairs"] = Pairs()
    stem = named(images=EachChannel(), transformer=transformer)
    network = Network(stem, blocks, named(**head), input_size=InputSize(image_size, 0))
    initialise(network)
    localiser(network).initialise()
    return network


def localiser(network: Network) -> SpatialTransformer:
    """The one transformer of a network for pairs."""
    found = network.stem.get_submodule("transformer.branch")
    assert isinstance(found, SpatialTransformer)
    return found


def embedded_crops(network: Network, images: Tensor, draws: Tensor) -> Tensor:
    """Embeddings (N, K, E, 2) of K crops of both images (N, 2, H, W), whose places draws (N, K, 2, 2) in [0, 1) say.

    A crop has the size of the window at the start. Draws are x first; from 0 to 1 crops go from one edge of the image
    to the other, or as many times as far apart as REACH says.
    """
    transformer, crops = localiser(network), draws.shape[1]
    start = transformer.grid.start.unsqueeze(0)
    room = 1 - transformer.grid.at(start, torch.ones(1, 2, device=start.device))
    places = (REACH * room * (2 * draws - 1)).flatten(0, 2)
    each = network.stem.get_submodule("images")(images.repeat_interleave(crops, dim=0))
    x = sample(each, transformer.grid(start) + places[:, None, None], transformer.sampling)
    for name in network.order:
        x = network.block(name)(x)
    found: Tensor = network.head(x)
    return found.unflatten(0, (-1, crops))


class Triplets(NamedTuple):
    """Squared distances: between the windows of a pair, (N, 1, 2), and of each from K crops of its image, (N, K, 2)."""

    between: Tensor
    from_crops: Tensor

    def loss(self) -> Tensor:
        """The mean over pairs, crops and both images of max(0, between - from_crops + 1)."""
        return (self.between - self.from_crops + MARGIN).clamp(min=0).mean()

    def wrong(self) -> Tensor:
        """The share of all triplets in which the crop is no farther than the other window."""
        return (self.from_crops <= self.between).double().mean()


def triplets(windows: Tensor, crops: Tensor) -> Triplets:
    """The distances of windows embedded as (N, E, 2) from each other and from crops embedded as (N, K, E, 2)."""
    windows, crops = windows.float(), crops.float()
    between = (windows - windows.detach().flip(2)).square().sum(1, keepdim=True)
    return Triplets(between, (windows.unsqueeze(1) - crops).square().sum(2))


def training_triplets(network: Network, images: Tensor) -> Triplets:
    """Triplets of pairs (N, 2, H, W) with crops at random places, drawn from torch's generator of their device."""
    draws = torch.rand(len(images), CROPS, 2, 2, device=images.device)
    return triplets(network(images), embedded_crops(network, images, draws))


def evaluation_triplets(network: Network, images: Tensor) -> Triplets:
    """Triplets with crops at fixed places, the same in every image: a function of images and weights alone."""
    places = torch.rand(EVALUATION_CROPS, 2, 2, generator=torch.Generator().manual_seed(0)).to(images.device)
    # .forward, not a call: a compiled training graph is left alone.
    windows = network.forward(images)
    assert isinstance(windows, Tensor)
    return triplets(windows, embedded_crops(network, images, places.expand(len(images), -1, -1, -1)))


PAPER = "Jaderberg et al. 2015, 1506.02025"
ARCHITECTURES = {
    "st_colocalisation": Architecture(
        st_colocalisation, PAPER, JADERBERG2015_PAIRS, image_size=84, in_channels=2, task="localise"
    ),
}
