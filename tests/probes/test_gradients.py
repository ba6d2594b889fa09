"""Gradients: norms against plain backward passes, the residual identity, derivatives against their formulas."""

import pytest
import torch
from torch import nn

from ablations.harness.declare.probe import Subject
from ablations.probes.activations.derivatives import (
    NUM_BINS,
    SMALL,
    ActivationDerivatives,
    activation_derivatives,
    derivative,
)
from ablations.probes.gradients.block_gradients import BlockGradients, block_norms, forward
from ablations.probes.gradients.residual_identity import ResidualIdentity, identity_deviations, stages
from ablations.probes.gradients.untrained_gradients import FAMILIES, UntrainedGradients, remove_norms
from modules import build
from modules.weights import save_weights


def small(name="resnet_cifar", **arguments):
    torch.manual_seed(0)
    defaults = {"lenet5": {"image_size": 16}, "resnet_cifar": {"depth": 14, "width": 4}}
    return build(name, **{**defaults[name], **arguments})


def batch(count, seed=1, size=16):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=draws), torch.randint(10, (count,), generator=draws)


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_forward_is_the_network():
    network, (images, _) = small().eval(), batch(4)
    outputs, logits = forward(network, images)
    assert torch.equal(logits, network(images))
    assert list(outputs) == list(network.blocks)


def test_norms_are_those_of_plain_backward_passes_and_leave_the_network_alone():
    network, batches = small().eval(), [batch(6, 1), batch(4, 2)]
    before = state(network)
    found = block_norms(network, batches)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    network.train()
    expected = {name: [0.0, 0.0] for name in network.blocks}
    for images, labels in batches:
        outputs, logits = forward(network, images)
        for output in outputs.values():
            output.retain_grad()
        network.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        for name, output in outputs.items():
            expected[name][0] += output.grad.norm().item() / 2
            flat = torch.cat([parameter.grad.flatten() for parameter in network.block(name).parameters()])
            expected[name][1] += flat.norm().item() / 2
    for name, norms in found.items():
        assert norms == pytest.approx(expected[name], rel=1e-5)


def test_stages_start_where_the_shape_changes_and_single_blocks_are_left_out():
    assert stages(small()) == [[f"stage{s}_block1", f"stage{s}_block2"] for s in (1, 2, 3)]
    assert stages(small(depth=8)) == []


def test_the_identity_is_exact_for_preactivation_alone():
    images, labels = batch(5)
    exact = identity_deviations(small(depth=20, order="full_preactivation"), images, labels)
    assert len(exact) == 3
    assert max(exact) < 1e-12
    original = identity_deviations(small(depth=20), images, labels)
    assert min(original) > 0.01
    network = small(order="full_preactivation")
    before = state(network)
    identity_deviations(network, images, labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_scaled_shortcut_breaks_the_identity():
    images, labels = batch(5)
    scaled = small(order="full_preactivation", shortcut_scale=0.5)
    assert min(identity_deviations(scaled, images, labels)) > 0.01


def test_derivatives_follow_their_formulas():
    x = torch.linspace(-8, 8, 1001)
    sigmoid = torch.sigmoid(x)
    assert torch.allclose(derivative(nn.Sigmoid(), x), sigmoid * (1 - sigmoid), atol=1e-7)
    assert derivative(nn.Sigmoid(), x).max() <= 0.25
    assert torch.allclose(derivative(nn.Tanh(), x), 1 - torch.tanh(x) ** 2, atol=1e-6)
    assert torch.equal(derivative(nn.ReLU(), x), (x > 0).float())


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_derivatives_inside_a_network(activation):
    network = small("lenet5", activation=activation)
    batches = [batch(6, 1), batch(4, 2)]
    found = activation_derivatives(network, batches)
    assert list(found) == [f"{layer}.branch.activation" for layer in ("conv1", "conv2", "fc3", "fc4")]
    assert not any(module._forward_hooks for module in network.modules())
    first = network.block("conv1").branch
    with torch.no_grad():
        inputs = torch.cat([first.conv(images) for images, _ in batches])
    slopes = derivative(first.activation, inputs)
    mine = found["conv1.branch.activation"]
    assert mine.mean == pytest.approx(slopes.mean().item(), rel=1e-5)
    assert mine.largest == pytest.approx(slopes.max().item(), rel=1e-6)
    assert mine.small == pytest.approx((slopes < SMALL).float().mean().item(), abs=1e-3)
    assert len(mine.histogram) == NUM_BINS
    assert sum(mine.histogram) == pytest.approx(1)
    if activation == "relu":
        assert mine.inexact == 0
        assert mine.histogram[-1] == pytest.approx(1 - mine.small)
    if activation == "sigmoid":
        assert mine.largest <= 0.25
        assert mine.inexact == 1
        assert sum(mine.histogram[6:]) == 0


def test_no_batches_are_refused():
    network = small("lenet5")
    for ask in (block_norms, activation_derivatives):
        with pytest.raises(ValueError, match="no batches"):
            ask(network, [])


def asked(probe, network, data):
    """Point -> metric -> value, of a network that was given with its weights."""
    found = {}
    for each in probe.ask(Subject(network, data, "any", 0, torch.device("cpu"))):
        found.setdefault(each.point, {})[each.metric] = each.value
        assert each.metric in probe.units
    return found


def test_probes_ask_training_images(digits):
    network = small(in_channels=1)
    batches = list(digits.evaluation_batches("train", 8, limit=16))
    found = asked(BlockGradients(batch_size=8, limit=16), network, digits)
    norms = block_norms(network, batches)
    assert found == {
        f"gradient epoch=0 position={position} block={name}": {
            "gradient/activation": activation, "gradient/parameters": parameters
        }
        for position, (name, (activation, parameters)) in enumerate(norms.items(), start=1)
    }  # fmt: skip
    found = asked(ResidualIdentity(identity_images=4, limit=16), network, digits)
    deviations = identity_deviations(network, *(tensor[:4] for tensor in batches[0]))
    assert [value for each in found.values() for value in each.values()] == deviations
    assert asked(ResidualIdentity(), small(in_channels=1, skip=False), digits) == {}, "nothing is added"


def test_gradients_of_untrained_networks_are_those_of_the_same_seed(digits):
    """Whatever network is asked; without batch norm all other layers keep their weights."""
    found = asked(UntrainedGradients(depths=(8, 14), width=4, batch_size=8, limit=16), small("lenet5"), digits)
    assert set(found) == {
        f"untrained network={family}_{norm} depth={depth}"
        for family in FAMILIES for norm in ("batch_norm", "no_norm") for depth in (8, 14)
    }  # fmt: skip
    network = small(in_channels=1, order="full_preactivation").double()
    batches = [(images.double(), labels) for images, labels in digits.evaluation_batches("train", 8, limit=16)]
    for norm in ("batch_norm", "no_norm"):
        first, *_, last = (norms[0] for norms in block_norms(network, batches).values())
        (growth,) = found[f"untrained network=preact_{norm} depth=14"].values()
        assert 10**growth == pytest.approx(first / last)
        remove_norms(network)
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert network(batches[0][0]).isfinite().all()


def test_derivatives_are_asked_of_each_snapshot(digits, tmp_path):
    network = small("lenet5", in_channels=1, activation="sigmoid")
    snapshots = {epoch: tmp_path / f"{epoch}.safetensors" for epoch in (0, 7)}
    for file in snapshots.values():
        save_weights(network, file)
    subject = Subject(network, digits, "any", 0, torch.device("cpu"), snapshots=snapshots)
    found = list(ActivationDerivatives(batch_size=8, limit=16).ask(subject))
    points = {each.point for each in found if each.point.startswith("derivative ")}
    layers = ("conv1", "conv2", "fc3", "fc4")
    assert points == {f"derivative epoch={epoch} layer={layer}" for epoch in (0, 7) for layer in layers}
    assert {each.metric for each in found} == set(ActivationDerivatives.units)
