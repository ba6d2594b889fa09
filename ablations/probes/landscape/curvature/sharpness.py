"""How sharp the minimum is that a network was trained to: along a direction, and in a small box around it.

Keskar et al. 2016, arXiv:1609.04836, section 2.2: the largest loss in the box |y_i| <= epsilon (|x_i| + 1) around the
weights x (equation 3, full space), as phi = 100 (max f(x + y) - f(x)) / (1 + f(x)) (equation 4). The maximum is sought
as there, by 10 iterations of L-BFGS-B, and is therefore a lower bound.
Differs from the paper: the search starts at random points of the box, one per draw, because at a minimum the gradient
vanishes and a search from x itself may never leave it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ablations.probes.landscape.curvature.hessian import Hessian, chosen, double, exactly, num_images, share_of_loss
from ablations.probes.landscape.curvature.spectrum import Estimate, summary
from ablations.probes.landscape.directions import Direction
from ablations.probes.landscape.point_losses import Batches


def curvature(hessian: Hessian, direction: Direction) -> float:
    """d . H d, the second derivative of the loss along the direction as it is long, by one exact product.

    direction: parameter name -> offset; parameters that it does not name stay. Raises ValueError as `Hessian.flat`.
    """
    flat = hessian.flat(direction)
    return float(double(hessian.product(flat)) @ double(flat))


def epsilon_sharpness(
    network: nn.Module,
    batches: Batches,
    epsilon: float = 1e-3,
    *,
    iterations: int = 10,
    draws: int = 5,
    seed: int = 0,
    on_pass: Callable[[], object] = lambda: None,
) -> Estimate:
    """phi in percent of a network's mean cross-entropy over all images, in evaluation mode, over all its parameters.

    iterations: of L-BFGS-B, per draw; each takes one or a few evaluations. on_pass: called after each batch of each
    evaluation. The network is not touched: a copy is moved. Memory: about 25 float64 numbers per parameter.
    Raises ValueError for an epsilon of 0 or below, no iterations, no draws, and as `Hessian`; FloatingPointError where
    the loss is not finite somewhere in the box.
    """
    if not epsilon > 0 or iterations < 1 or draws < 1:
        raise ValueError(
            "sharpness needs epsilon above 0, and at least one iteration and one draw, got "
            f"{epsilon}, {iterations} and {draws}"
        )
    from scipy.optimize import Bounds, minimize

    descent = _Descent(network, batches, on_pass)
    half = epsilon * (np.abs(descent.start) + 1)
    loss = -descent(np.zeros_like(half))[0]
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        descent.lowest = -loss  # x lies in the box as well
        minimize(
            descent,
            random.uniform(-half, half),
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(-half, half),
            # No other stopping rule: scipy's take the small gradients of a trained network for a maximum.
            options={"maxiter": iterations, "ftol": 0.0, "gtol": 0.0},
        )
        found.append(100 * (-descent.lowest - loss) / (1 + loss))
    return summary(found)


class _Descent:
    """The negative loss and its gradient at an offset from the weights, for a minimiser; moves a copy of the network.

    start: the weights x (n,), float64. lowest: the lowest value since it was last set.
    """

    def __init__(self, network: nn.Module, batches: Batches, on_pass: Callable[[], object]) -> None:
        self._network, self._batches, self._on_pass = copy.deepcopy(network), batches, on_pass
        self._weights = tuple(chosen(self._network).values())
        self._total = num_images(batches)
        self.start = _flat(self._weights)
        self.lowest = np.inf

    def __call__(self, offset: np.ndarray) -> tuple[float, np.ndarray]:
        self._move_to(torch.from_numpy(self.start + offset))
        loss, gradient = 0.0, np.zeros_like(self.start)
        with exactly(self._network):
            for index in range(len(self._batches)):
                share = share_of_loss(self._network, self._batches, index, self._total)
                gradient += _flat(torch.autograd.grad(share, self._weights, materialize_grads=True))
                loss += share.item()
                self._on_pass()
        self.lowest = min(self.lowest, -loss)
        return -loss, -gradient

    @torch.no_grad()
    def _move_to(self, point: Tensor) -> None:
        for weight, part in zip(self._weights, point.split([w.numel() for w in self._weights]), strict=True):
            weight.copy_(part.view_as(weight))


def _flat(tensors: Sequence[Tensor]) -> np.ndarray:
    """All entries of all tensors, float64 on the CPU."""
    return torch.cat([double(tensor.detach()).reshape(-1).cpu() for tensor in tensors]).numpy()
