"""The sanity check of Adebayo et al. 2018, arXiv:1810.03292, section 3: the same network with random weights.

A picture that looks the same for both says nothing about what the network has learned. All layers are drawn anew at
once (the paper's end point of its cascade), and maps are compared by Spearman's rank correlation, as there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from datamodules.order import generator
from modules.blocks.layers import initialise
from modules.blocks.network import Network
from modules.blocks.spatial_transformer import SpatialTransformer


def randomised(network: Network, seed: int) -> Network:
    """A copy with fresh weights and batch norms that have seen nothing; the same seed gives the same weights.

    What no module knows how to draw, such as the positions of a vision transformer, is drawn as those begin: normal
    with a standard deviation of 0.02.
    """
    fresh = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        # Not the bare seed: a network that was itself drawn from it would be drawn once more.
        torch.manual_seed(generator("random weights", seed).initial_seed())
        fresh.cpu()
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        initialise(fresh)
        for module in fresh.modules():
            if isinstance(module, SpatialTransformer):
                module.initialise()
    fresh.to(next(network.parameters()).device)
    for (name, new), old in zip(fresh.named_parameters(), network.parameters(), strict=True):
        is_start = not bool(new.any())  # the last layer of a transformer starts at zero
        if new.dim() > 1 and not is_start and torch.equal(new, old):
            drawn = torch.randn(new.shape, generator=generator("random weights", seed, name))
            with torch.no_grad():
                new.copy_(0.02 * drawn)
    return fresh


def similarity(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation, -1..1, of the sizes of two maps; NaN if one of them is constant."""
    from scipy.stats import spearmanr

    first, second = (each.detach().cpu().abs().flatten() for each in (one, other))
    is_constant = first.min() == first.max() or second.min() == second.max()  # of which scipy warns
    return float("nan") if is_constant else float(spearmanr(first, second).statistic)
