"""Networks whose curvature is known: an exactly quadratic loss, and a small convolutional one with batch norm."""

from collections import OrderedDict
from functools import cache

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ablations.probes.landscape.curvature.hessian import Hessian

OFFSET = 30.0  # keeps the quadratic form above 0, which a cross-entropy cannot leave


class Quadratic(nn.Module):
    """Label 0 of an image that is a single number s has the cross-entropy OFFSET + s / 2 * w . A w.

    w is `first` (2, k) and then `second` (the rest). log(1 + e^z) of z = log(e^q - 1) is q.
    """

    def __init__(self, matrix, weights):
        super().__init__()
        self.register_buffer("matrix", matrix)
        half = len(weights) // 4
        self.first = nn.Parameter(weights[: 2 * half].reshape(2, half).clone())
        self.second = nn.Parameter(weights[2 * half :].clone())

    def forward(self, images):
        w = torch.cat([self.first.reshape(-1), self.second])
        q = OFFSET + images.flatten() / 2 * (w @ self.matrix @ w)
        z = q + torch.log(-torch.expm1(-q))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def symmetric(size, seed=0):
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn + drawn.T) / 2


def numbers(*values):
    """A batch of single numbers, all of label 0."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1), torch.zeros(len(values), dtype=torch.long)


def quadratic(size=12, matrix=None):
    """The network, batches of unequal size whose images have the mean 1.5, and the Hessian 1.5 A."""
    matrix = symmetric(size) if matrix is None else matrix
    weights = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 4
    return Quadratic(matrix, weights), [numbers(1.0, 2.0, 3.0), numbers(0.0)], 1.5 * matrix


def convolutional(dtype=torch.float32, recomputed=False):
    """Two convolutions with batch norm that has seen data, 3 classes; 112 parameters."""
    torch.manual_seed(0)
    layers = OrderedDict(
        conv1=nn.Conv2d(2, 2, 3, padding=1, bias=False), norm1=nn.BatchNorm2d(2), act1=nn.ReLU(),
        conv2=nn.Conv2d(2, 3, 3, stride=2, bias=False), norm2=nn.BatchNorm2d(3), act2=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(3, 3),
    )  # fmt: skip
    network = nn.Sequential(layers)
    for _ in range(5):
        network(torch.randn(16, 2, 6, 6) * 2 + 1)
    network = network.to(dtype)
    return Recomputed(network) if recomputed else network


class Recomputed(nn.Module):
    """A network that computes its activations anew for every gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return checkpoint(self.network, images, use_reentrant=False)


def batches(*sizes, dtype=torch.float32, seed=3):
    draw = torch.Generator().manual_seed(seed)
    made = [(torch.randn(n, 2, 6, 6, generator=draw) * 2, torch.randint(3, (n,), generator=draw)) for n in sizes]
    return [(images.to(dtype), labels) for images, labels in made]


@cache
def known():
    """The Hessian of the convolutional network on nine images, its matrix, and that one's eigenvalues."""
    hessian = Hessian(convolutional(), batches(9))
    matrix = dense(hessian)
    return hessian, matrix, torch.linalg.eigvalsh((matrix + matrix.T) / 2)


def dense(hessian):
    """All columns of a Hessian by products, float64."""
    columns = torch.eye(hessian.size, dtype=hessian.dtype)
    return torch.stack([hessian.product(column) for column in columns]).double()


def footprint(network):
    """All that a probe may not change, and copies of its tensors."""
    modes = {name: module.training for name, module in network.named_modules()}
    asked = {name: (weight.requires_grad, weight.grad) for name, weight in network.named_parameters()}
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}, modes, asked


def unchanged(network, before):
    tensors, modes, asked = footprint(network)
    return (modes, asked) == before[1:] and all(torch.equal(tensors[name], kept) for name, kept in before[0].items())
