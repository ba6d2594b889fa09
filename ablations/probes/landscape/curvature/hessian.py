"""The Hessian of a network's loss: products with vectors, extreme eigenvalues, trace and spectrum.

Li et al. 2018, arXiv:1712.09913, section 6, map |lambda_min / lambda_max|, found by a Lanczos method on exact products
(Pearlmutter 1994). The spectrum by stochastic Lanczos quadrature is that of Ghorbani et al. 2019, arXiv:1901.10159,
algorithm 1; the trace is Hutchinson's estimate.
The loss is the mean cross-entropy over all images, in evaluation mode: batch norm is an affine map, and batches of any
size add up. It is differentiated twice by reverse mode. The graph of the gradient is kept, so that each further product
costs one backward pass through it instead of forward pass, gradient and product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablations.probes.landscape.curvature.spectrum import Density, Estimate, summary
from ablations.probes.landscape.point_losses import Batches
from modules.blocks.network import evaluating

Product = Callable[[Tensor], Tensor]
"""A symmetric matrix: maps a vector (n,) to its product with the matrix, (n,)."""


class Ritz(NamedTuple):
    """What a Lanczos run of k steps knows of a matrix; CPU float64 tensors (k,), ascending by value.

    values: estimates of eigenvalues, the extreme ones best. weights: of the start vector's spectrum, their sum is 1.
    residuals: within so much of each value there is an eigenvalue, up to the rounding of the products.
    """

    values: Tensor
    weights: Tensor
    residuals: Tensor

    @property
    def products(self) -> int:
        """The number of steps, each of which is one product."""
        return len(self.values)


class Extremes(NamedTuple):
    """The smallest and the largest eigenvalue, each with the residual bound of `Ritz`, and the products they took."""

    smallest: float
    largest: float
    smallest_residual: float
    largest_residual: float
    products: int


def double(x: Tensor) -> Tensor:
    """In float64; on the CPU where the device knows no such numbers."""
    return x.cpu().double() if x.device.type == "mps" else x.double()


def chosen(network: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, of all that need a gradient, in the network's order.

    Raises ValueError if there are none, and unless all of them are float32, or all float64.
    """
    found = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    if not found:
        raise ValueError("the network has no parameters that need a gradient, so its loss has no curvature")
    dtypes = {weight.dtype for weight in found.values()}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        raise ValueError(f"parameters must all be float32, or all float64, got {', '.join(sorted(map(str, dtypes)))}")
    return found


def num_images(batches: Batches) -> int:
    """Over all batches; raises ValueError if there are none."""
    total = sum(len(labels) for _, labels in batches)
    if not total:
        raise ValueError("no images to compute a loss on")
    return total


@contextmanager
def exactly(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, gradients on, full float32 (no autocast, no TF32 convolutions); all undone on exit."""
    device = next(network.parameters()).device.type
    convolutions = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    attention = sdpa_kernel(SDPBackend.MATH)  # the quicker ones have no second derivative
    with evaluating(network), torch.enable_grad(), torch.autocast(device, enabled=False), convolutions, attention:
        yield


def share_of_loss(network: nn.Module, batches: Batches, index: int, total: int) -> Tensor:
    """What batch `index` adds to the mean cross-entropy over `total` images, a scalar with its graph.

    Raises FloatingPointError if it is not finite.
    """
    images, labels = batches[index]
    loss = nn.functional.cross_entropy(network(images), labels, reduction="sum") / total
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss of batch {index + 1} of {len(batches)} is {loss.item()}")
    return loss


class Hessian:
    """The Hessian (n, n) of a network's mean cross-entropy over all images, by its products with vectors.

    It is taken over all parameters that need a gradient; n counts their entries, in the network's order, each parameter
    row by row. keep_graph: hold the gradient's graph of all batches, which takes two to three times the activations of
    a training step on all images at once; False computes it anew in every product, one batch at a time. on_pass: called
    after each batch of each product.
    The network is left as it is, weights, buffers, modes, `.grad` and `requires_grad`. A kept graph belongs to the
    weights of its time: after they have changed, products raise RuntimeError (changes through `.data` go unseen).
    Raises ValueError without parameters or images, FloatingPointError if the loss is not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        *,
        keep_graph: bool = True,
        on_pass: Callable[[], object] = lambda: None,
    ) -> None:
        self._network, self._batches, self._on_pass = network, batches, on_pass
        self._chosen = chosen(network)
        self._weights = tuple(self._chosen.values())
        self._total = num_images(batches)
        self._kept: list[tuple[Tensor, ...]] = []
        self.size = sum(weight.numel() for weight in self._weights)
        self.dtype, self.device = self._weights[0].dtype, self._weights[0].device
        if keep_graph:
            with exactly(network):
                self._kept = [self._gradient(index) for index in range(len(batches))]
        self._versions = [weight._version for weight in self._weights]

    def product(self, vector: Tensor) -> Tensor:
        """H v for a vector (n,), as (n,) in the parameters' type and on their device.

        Raises ValueError for another shape, FloatingPointError if the product is not finite.
        """
        if vector.shape != (self.size,):
            raise ValueError(f"the vector must have shape ({self.size},), got {tuple(vector.shape)}")
        if self._kept and self._versions != [weight._version for weight in self._weights]:
            raise RuntimeError("the weights have changed since the graph of their gradient was kept")
        parts = vector.to(self.device, self.dtype).split([weight.numel() for weight in self._weights])
        shaped = [part.view_as(weight) for part, weight in zip(parts, self._weights, strict=True)]
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        with exactly(self._network):
            for index in range(len(self._batches)):
                gradient = self._kept[index] if self._kept else self._gradient(index)
                total += self._share(gradient, shaped)
                self._on_pass()
        if not torch.isfinite(total).all():
            raise FloatingPointError("the product of the Hessian and a vector is not finite")
        return total

    def flat(self, direction: Mapping[str, Tensor]) -> Tensor:
        """A direction given by parameter names as a vector (n,); parameters that it does not name get zeros.

        Raises ValueError for a name that the Hessian is not taken over, or a shape that does not fit.
        """
        for name, part in direction.items():
            if name not in self._chosen:
                raise ValueError(f"the direction names {name!r}, which the Hessian is not taken over")
            if part.shape != self._chosen[name].shape:
                fits = tuple(self._chosen[name].shape)
                raise ValueError(f"the direction's {name} must have shape {fits}, got {tuple(part.shape)}")
        parts = (direction.get(name, torch.zeros_like(weight)) for name, weight in self._chosen.items())
        return torch.cat([part.detach().to(self.device, self.dtype).reshape(-1) for part in parts])

    def _gradient(self, index: int) -> tuple[Tensor, ...]:
        loss = share_of_loss(self._network, self._batches, index, self._total)
        # Zeros for parameters that evaluation does not use, such as those of auxiliary heads.
        return torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)

    def _share(self, gradient: Sequence[Tensor], vector: Sequence[Tensor]) -> Tensor:
        """One batch's part of the product: the derivative of (gradient . vector), flat."""
        curved = [(g, v) for g, v in zip(gradient, vector, strict=True) if g.requires_grad]
        if not curved:
            return torch.zeros(self.size, dtype=self.dtype, device=self.device)
        parts = torch.autograd.grad(
            [g for g, _ in curved],
            self._weights,
            [v for _, v in curved],
            retain_graph=bool(self._kept),
            materialize_grads=True,
        )
        return torch.cat([part.reshape(-1) for part in parts])


def lanczos(
    product: Product,
    size: int,
    steps: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    tolerance: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Ritz:
    """Lanczos on a symmetric matrix (size, size), with full reorthogonalisation, from a Gaussian vector drawn by seed.

    Stops after `steps` products, or when the residual of each extreme value is at most tolerance times the value's own
    size, or when no direction is left. Its own, not the largest: most eigenvalues of a network's Hessian are near 0,
    and measured by the largest one, the smallest seems to be found there after a few steps.
    Vectors have the given dtype and device, all dot products and the tridiagonal matrix are float64. Memory: steps *
    size numbers. Raises ValueError for less than one step, FloatingPointError if a product is not finite.
    """
    if steps < 1 or size < 1:
        raise ValueError(f"Lanczos needs at least one step and one dimension, got {steps} and {size}")
    draw = torch.Generator().manual_seed(seed)  # of the CPU: the same vector on every device
    start = torch.randn(size, generator=draw, dtype=torch.float64)
    vector = (start / start.norm()).to(dtype).to(device)
    basis: list[Tensor] = []
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        basis.append(vector)
        rest = double(product(vector))
        diagonal.append(float(rest @ double(vector)))
        for known in (*basis, *basis):  # twice is enough (Parlett 1998, section 6.9)
            wide = double(known)
            rest = rest - (wide @ rest) * wide
        length = float(rest.norm())
        if not (math.isfinite(diagonal[-1]) and math.isfinite(length)):
            raise FloatingPointError(f"product {len(diagonal)} of Lanczos is not finite")
        found = _ritz(diagonal, beside, length)
        scale = float(found.values.abs().max())
        exhausted = len(basis) == size or length <= torch.finfo(dtype).eps * scale
        converged = all(found.residuals[end] <= tolerance * found.values[end].abs() for end in (0, -1))
        if exhausted or converged or len(basis) == steps:
            return found
        beside.append(length)
        vector = (rest / length).to(dtype).to(device)


def _ritz(diagonal: Sequence[float], beside: Sequence[float], rest: float) -> Ritz:
    """Of the tridiagonal matrix with this diagonal (k,) and the one beside it (k - 1,); rest: the next entry there."""
    next_to = torch.tensor(beside, dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    tridiagonal += torch.diag(next_to, 1) + torch.diag(next_to, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return Ritz(values, vectors[0].square(), rest * vectors[-1].abs())


def extremes(hessian: Hessian, steps: int = 100, tolerance: float = 1e-3, seed: int = 0) -> Extremes:
    """The smallest and the largest eigenvalue by at most `steps` products; the rest as `lanczos`.

    Where the steps did not suffice for the tolerance, the residuals say so: always if the smallest eigenvalue is 0. In
    float32 products are exact to about 1e-6 of the largest eigenvalue, whatever the residuals say.
    """
    found = lanczos(hessian.product, hessian.size, steps, seed, hessian.device, tolerance, hessian.dtype)
    smallest, largest = found.values[[0, -1]].tolist()
    below, above = found.residuals[[0, -1]].tolist()
    return Extremes(smallest, largest, below, above, found.products)


def density(hessian: Hessian, steps: int = 80, draws: int = 10, seed: int = 0, width: float = 0.01) -> Density:
    """The spectrum of eigenvalues by stochastic Lanczos quadrature: `draws` runs of `steps` products.

    width: of the Gaussians, as a share of the range of the spectrum. Raises ValueError for no draws or no width.
    """
    if draws < 1 or not width > 0:
        raise ValueError(f"a density needs at least one draw and a width above 0, got {draws} and {width}")
    size, device, dtype = hessian.size, hessian.device, hessian.dtype
    runs = [lanczos(hessian.product, size, steps, seed * draws + draw, device, 0.0, dtype) for draw in range(draws)]
    centres = torch.cat([run.values for run in runs])
    low, high = float(centres.min()), float(centres.max())
    return Density(
        centres.numpy(),
        (torch.cat([run.weights for run in runs]) / draws).numpy(),
        width * ((high - low) or abs(high) or 1.0),  # a single eigenvalue has no range but itself
    )


def trace(hessian: Hessian, draws: int = 30, seed: int = 0) -> Estimate:
    """The sum of all eigenvalues, by Hutchinson's estimate: v . H v for vectors of random signs, one product each.

    Raises ValueError for less than two draws, which would have no error.
    """
    if draws < 2:
        raise ValueError(f"a trace with its error needs at least two draws, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        signs = (
            torch.randint(2, (hessian.size,), generator=generator).to(hessian.dtype).mul(2).sub(1).to(hessian.device)
        )
        found.append(float(double(hessian.product(signs)) @ double(signs)))
    return summary(found)
