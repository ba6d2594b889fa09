"""The Hessian: against closed forms and dense matrices; what it leaves alone, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from curved import batches, convolutional, dense, footprint, known, numbers, quadratic, symmetric, unchanged
from torch import nn

from ablations.probes.landscape.curvature.hessian import Hessian, density, extremes, lanczos, trace
from modules import build


def draw(size, seed=7, dtype=torch.float64):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def far(found, expected):
    """The largest difference, relative to the largest number expected."""
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


@pytest.mark.parametrize("keep_graph", [True, False])
def test_products_eigenvalues_and_trace_of_a_quadratic_loss(keep_graph):
    network, data, matrix = quadratic()
    hessian, vector, eigenvalues = (
        Hessian(network, data, keep_graph=keep_graph),
        draw(12),
        torch.linalg.eigvalsh(matrix),
    )
    assert far(hessian.product(vector), matrix @ vector) < 1e-6
    assert far(hessian.product(2 * vector), 2 * matrix @ vector) < 1e-6  # a graph serves more than once
    found = extremes(hessian, tolerance=1e-9)
    assert (found.smallest, found.largest) == pytest.approx(tuple(eigenvalues[[0, -1]].tolist()), rel=1e-6)
    assert found.products <= 12
    every = lanczos(hessian.product, 12, 50, dtype=torch.float64)
    assert far(every.values, eigenvalues) < 1e-6
    assert float(every.weights.sum()) == pytest.approx(1)
    # v . H v for signs v is the trace where the matrix is diagonal, for every draw.
    network, data, diagonal = quadratic(matrix=torch.diag(torch.diag(symmetric(12))))
    estimate = trace(Hessian(network, data, keep_graph=keep_graph), draws=3)
    assert estimate.draws == pytest.approx([float(diagonal.trace())] * 3, rel=1e-6)


def test_product_is_the_dense_matrix_times_the_vector():
    network, data = convolutional(torch.float64), batches(5, 2, dtype=torch.float64)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    images, labels = (torch.cat(parts) for parts in zip(*data, strict=True))
    network.eval()

    def loss(flat):
        parts = flat.split([weight.numel() for weight in weights.values()])
        moved = {name: part.view_as(w) for (name, w), part in zip(weights.items(), parts, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(network, moved, (images,)), labels)

    start = torch.cat([weight.reshape(-1) for weight in weights.values()])
    matrix = torch.autograd.functional.hessian(loss, start)
    vector = draw(len(start))
    assert far(Hessian(network, data).product(vector), matrix @ vector) < 1e-12


def test_extremes_in_float32_are_the_dense_eigenvalues():
    hessian, _, eigenvalues = known()
    found = extremes(hessian, tolerance=1e-5)
    assert eigenvalues[0] < 0 < eigenvalues[-1]
    assert (found.smallest, found.largest) == pytest.approx(tuple(eigenvalues[[0, -1]].tolist()), rel=1e-4)
    assert found.smallest_residual <= 1e-5 * -found.smallest
    assert found.largest_residual <= 1e-5 * found.largest
    rough = extremes(hessian, tolerance=0.1)
    assert rough.products < found.products
    assert abs(rough.largest - found.largest) <= rough.largest_residual


def test_residuals_bound_the_error_of_every_value():
    matrix = symmetric(40)
    found = lanczos(lambda v: matrix @ v, 40, 15, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(matrix)
    nearest = (found.values[:, None] - eigenvalues).abs().min(dim=1).values
    assert found.products == 15
    assert bool((nearest <= found.residuals + 1e-12).all())
    assert found.residuals[0] > 1e-3  # so the bounds were not all nothing


def test_many_eigenvalues_near_zero_are_not_taken_for_the_smallest():
    """As in a trained network, whose Hessian has few large eigenvalues; -1 is found after those near 0."""
    eigenvalues = torch.cat([torch.tensor([100.0, -1.0]), torch.linspace(-1e-3, 1e-3, 998)]).double()
    found = lanczos(lambda v: eigenvalues * v, 1000, 50, tolerance=1e-3, dtype=torch.float64)
    early = lanczos(lambda v: eigenvalues * v, 1000, 2, dtype=torch.float64)
    assert early.values[0] > -0.5
    assert early.residuals[0] < 1e-3 * 100  # small beside the largest eigenvalue
    assert found.values[0] == pytest.approx(-1, rel=1e-5)
    assert found.products < 50


@pytest.mark.parametrize(("matrix", "steps"), [(torch.zeros(5, 5), 1), (3 * torch.eye(5), 1)])
def test_lanczos_stops_where_no_direction_is_left(matrix, steps):
    found = lanczos(lambda v: matrix @ v, 5, 4)
    assert found.products == steps
    assert far(found.values + 1, matrix.diagonal()[:1] + 1) < 1e-6


def test_mean_is_over_images_and_not_over_batches():
    whole, matrix, _ = known()
    vector = draw(whole.size, dtype=torch.float32)
    ((images, labels),) = batches(9)
    parts = zip(images.split([6, 2, 1]), labels.split([6, 2, 1]), strict=True)
    assert far(Hessian(convolutional(), list(parts)).product(vector), matrix @ vector.double()) < 1e-5


def test_weights_that_need_no_gradient_are_left_out():
    whole, matrix, _ = known()
    network = convolutional()
    kept = {name: weight for name, weight in network.named_parameters() if name in ("norm1.weight", "fc.bias")}
    network.requires_grad_(False)
    for weight in kept.values():
        weight.requires_grad_()
    places = whole.flat({name: torch.ones_like(weight) for name, weight in kept.items()}).bool()
    assert far(dense(Hessian(network, batches(9))), matrix[places][:, places]) < 1e-5


def test_parameters_that_evaluation_does_not_use_are_flat():
    network = convolutional()
    network.register_parameter("auxiliary", nn.Parameter(torch.ones(2)))  # the first in the order of names
    found = dense(Hessian(network, batches(9)))
    assert torch.equal(found[2:, 2:], known()[1])
    assert not found[:2].any()
    assert not found[:, :2].any()


def test_flat_puts_a_direction_where_its_parameters_are():
    network, data, _ = quadratic(8)
    found = Hessian(network, data).flat({"second": torch.arange(4.0)})
    assert found.tolist() == [0, 0, 0, 0, 0, 1, 2, 3]


def test_recomputed_activations_change_nothing():
    network = convolutional(recomputed=True)
    before, vector = footprint(network), draw(112, dtype=torch.float32)
    assert far(Hessian(network, batches(9)).product(vector), known()[1] @ vector.double()) < 1e-5
    assert unchanged(network, before)


@pytest.mark.parametrize("keep_graph", [True, False])
def test_network_is_left_as_it_was(keep_graph):
    network = convolutional()
    network.norm2.eval()
    network.conv2.weight.requires_grad_(False)
    network.fc.bias.grad = torch.ones(3)
    before = footprint(network)
    hessian = Hessian(network, batches(6), keep_graph=keep_graph)
    with torch.no_grad():
        extremes(hessian, steps=3)
    assert unchanged(network, before)
    assert hessian.size == 112 - network.conv2.weight.numel()


def test_network_is_left_as_it_was_after_an_error():
    network = convolutional()
    before = footprint(network)
    network.act2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Hessian(network, batches(6))
    with pytest.raises(ZeroDivisionError):
        Hessian(network, batches(6), keep_graph=False).product(torch.ones(112))
    assert unchanged(network, before)


def test_autocast_outside_has_no_effect():
    network, data, vector = convolutional(), batches(6), draw(112, dtype=torch.float32)
    expected = Hessian(network, data).product(vector)
    with torch.autocast("cpu", torch.bfloat16):
        found = Hessian(network, data, keep_graph=False).product(vector)
    assert torch.equal(found, expected)


def test_same_seed_same_answer():
    def answers(seed):
        hessian = Hessian(convolutional(), batches(5, 3))
        spectrum = density(hessian, steps=5, draws=2, seed=seed)
        return extremes(hessian, steps=8, seed=seed), trace(hessian, draws=3, seed=seed), spectrum.centres.tolist()

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_trace_lies_within_its_interval():
    hessian, matrix, _ = known()
    expected = float(matrix.trace())
    found = trace(hessian, draws=40, seed=0)
    assert found.error == pytest.approx(np.std(found.draws, ddof=1) / math.sqrt(40))
    assert 0 < found.error < abs(expected)
    assert abs(found.mean - expected) < 2 * found.error


def test_density_integrates_to_one_and_has_the_mean_of_the_spectrum():
    hessian, matrix, eigenvalues = known()
    found = density(hessian, steps=12, draws=20)
    margin = 8 * found.width
    points = np.linspace(found.centres.min() - margin, found.centres.max() + margin, 20001)
    heights = found.at(points)
    assert np.trapezoid(heights, points) == pytest.approx(1, abs=1e-6)
    mean = float(found.weights @ found.centres)
    assert np.trapezoid(points * heights, points) == pytest.approx(mean, rel=1e-6)
    assert abs(mean - float(matrix.trace()) / 112) < 0.016  # two standard errors of 20 draws
    assert np.ptp(found.centres) == pytest.approx(np.ptp(eigenvalues.numpy()), rel=1e-3)
    assert found.weights @ found.centres**2 == pytest.approx(float((eigenvalues**2).mean()), rel=0.1)


def test_passes_are_counted():
    passes = []
    hessian = Hessian(convolutional(), batches(3, 3, 1), on_pass=lambda: passes.append(1))
    trace(hessian, draws=2)
    assert len(passes) == 6


SMALL = {
    "resnet": ("resnet_cifar", {"depth": 8, "width": 2}),
    "preact": ("resnet_cifar", {"depth": 8, "width": 2, "order": "full_preactivation"}),
    "stochastic": ("resnet_cifar", {"depth": 8, "width": 2, "survival_prob": 0.5}),
    "vgg": ("vgg_cifar", {"width": 2, "hidden": 8, "num_pools": 3, "batch_norm": True}),
    "densenet": ("densenet_cifar", {"depth": 10, "growth_rate": 3, "recompute": 2}),
    "highway": ("highway_cifar", {"width": 1}),
}


@pytest.mark.parametrize("kind", SMALL)
def test_products_of_every_kind_of_network(kind):
    """Against the difference of two gradients, in float64."""
    torch.manual_seed(0)
    name, arguments = SMALL[kind]
    network = build(name, **arguments).double()
    for weight in network.parameters():  # biases of 0 leave units that see only zeros on the kink of ReLU
        if weight.ndim == 1:
            nn.init.uniform_(weight, 0.5, 1.5)
    images, labels = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.randint(10, (4,))
    hessian = Hessian(network, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    vector = draw(hessian.size)
    found = hessian.product(vector)
    network.eval()

    def gradient(length):
        weights = list(network.parameters())
        start = nn.utils.parameters_to_vector(weights).detach()
        nn.utils.vector_to_parameters(start + length * vector, weights)
        loss = nn.functional.cross_entropy(network(images), labels)
        parts = torch.autograd.grad(loss, weights, materialize_grads=True)
        nn.utils.vector_to_parameters(start, weights)
        return torch.cat([part.reshape(-1) for part in parts])

    step = 1e-7  # small, lest a unit changes its side
    assert far((gradient(step) - gradient(-step)) / (2 * step), found) < 1e-5


def test_a_loss_that_is_not_finite_is_named():
    network, data, _ = quadratic()
    with torch.no_grad():
        network.second.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="loss of batch 1 of 2 is nan"):
        Hessian(network, data)
    with pytest.raises(FloatingPointError, match="product 1 of Lanczos"):
        lanczos(lambda v: v * math.inf, 5, 3)


def test_weights_that_change_under_a_kept_graph_are_refused():
    network, data, _ = quadratic()
    hessian = Hessian(network, data)
    with torch.no_grad():
        network.first.add_(1)
    with pytest.raises(RuntimeError, match="weights have changed"):
        hessian.product(torch.ones(12))


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda network, data: Hessian(network.requires_grad_(False), data), "no parameters that need a gradient"),
    (lambda network, data: Hessian(nn.Flatten(), data), "no parameters that need a gradient"),
    (lambda network, data: Hessian(network.bfloat16(), data), "bfloat16"),
    (lambda network, data: Hessian(network, []), "no images"),
    (lambda network, data: Hessian(network, [numbers()]), "no images"),
    (lambda network, data: Hessian(network, data).product(torch.ones(3)), r"shape \(12,\), got \(3,\)"),
    (lambda network, data: Hessian(network, data).flat({"third": torch.ones(2)}), "'third'"),
    (lambda network, data: Hessian(network, data).flat({"second": torch.ones(2)}), r"\(6,\), got \(2,\)"),
    (lambda network, data: extremes(Hessian(network, data), steps=0), "at least one step"),
    (lambda network, data: trace(Hessian(network, data), draws=1), "at least two draws, got 1"),
    (lambda network, data: density(Hessian(network, data), draws=0), "at least one draw"),
    (lambda network, data: density(Hessian(network, data), width=0.0), "width above 0"),
])  # fmt: skip
def test_bad_input_is_refused(wrong, message):
    network, data, _ = quadratic()
    with pytest.raises(ValueError, match=message):
        wrong(network, data)
