"""Captum's methods on our networks: the checks that show a method to be applied as it must be."""

import pytest
import torch
from torch import nn

from ablations.probes.filters.attributions import (
    calls,
    explainable,
    grad_cam,
    gradient,
    guided_backpropagation,
    integrated_gradients,
    occlusion,
    why_not_guided,
)
from ablations.probes.filters.maps import map_layers, outputs
from ablations.probes.filters.randomised import randomised, similarity
from modules import build

IMAGES = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([1, 4, 7])


def small(name="resnet_cifar", **arguments):
    torch.manual_seed(0)
    if name == "resnet_cifar":
        arguments = {"depth": 8, "width": 4, **arguments}
    return explainable(build(name, in_channels=1, **arguments))


NETWORK = small()


@pytest.mark.parametrize("network", [NETWORK, small("alexnet_cifar", image_size=16), small("lenet5", image_size=16)])
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(network):
    found = integrated_gradients(network, IMAGES, TARGETS)
    assert found.maps.shape == IMAGES.shape
    with torch.no_grad():
        logits = network(IMAGES) - network(torch.zeros(1, 1, 16, 16))
    assert found.differences == pytest.approx(logits[range(3), TARGETS].tolist(), rel=1e-4, abs=1e-6)
    assert max(found.gaps) <= 0.01
    assert found.sums == pytest.approx(found.differences, rel=0.01)


def test_the_gradient_has_a_sign_and_is_autograds():
    x = IMAGES.clone().requires_grad_()
    expected = torch.autograd.grad(NETWORK(x)[range(3), TARGETS].sum(), x)[0]
    found = gradient(NETWORK, IMAGES, TARGETS)
    assert torch.allclose(found, expected)
    assert found.min() < 0 < found.max()


def test_guided_backpropagation_is_not_the_plain_gradient():
    guided, plain = (method(NETWORK, IMAGES, TARGETS) for method in (guided_backpropagation, gradient))
    assert guided.shape == plain.shape
    assert (guided - plain).abs().max() > 0.1 * plain.abs().max()


class Twice(nn.Module):
    """One ReLU for two activations."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(256, 8), nn.Linear(8, 10), nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x.flatten(1)))))


class Functional(Twice):
    """A ReLU that is no module."""

    def forward(self, x):
        return self.second(torch.relu(self.first(x.flatten(1))))


@pytest.mark.parametrize(("network", "reason"), [
    (Twice(), "relu is used for more than one activation"),
    (Functional(), "1 ReLUs are computed, 0 of them by modules"),
    (small("alexnet_cifar", image_size=16, activation="tanh"), "no ReLU"),
])  # fmt: skip
def test_guided_backpropagation_refuses_where_it_would_be_silently_wrong(network, reason):
    assert reason in why_not_guided(network, IMAGES[:1])
    with pytest.raises(ValueError, match=reason):
        guided_backpropagation(network, IMAGES, TARGETS)


def test_our_networks_call_every_module_once_at_most():
    assert set(calls(NETWORK, IMAGES[:1]).values()) == {1}
    assert max(calls(Twice(), IMAGES[:1]).values()) == 2


def test_timm_networks_are_made_explainable():
    from modules.foreign.adoption import build_foreign

    network = explainable(build_foreign("timm:resnet10t", 10, 1))
    assert not any(getattr(module, "inplace", False) for module in network.modules())
    assert why_not_guided(network, torch.randn(1, 1, 32, 32)) == ""


def test_grad_cam_has_the_images_size_and_no_negative_part():
    found = grad_cam(NETWORK, "stage3_block1", IMAGES, TARGETS)
    assert found.shape == (3, 1, 16, 16)
    assert found.min() >= 0
    assert found.max() > 0


def test_occlusion_says_by_how_much_the_logit_falls():
    found = occlusion(NETWORK, IMAGES, TARGETS, window=16)
    with torch.no_grad():
        fall = (NETWORK(IMAGES) - NETWORK(torch.zeros_like(IMAGES)))[range(3), TARGETS]
    assert found.shape == IMAGES.shape
    assert torch.allclose(found[:, 0, 0, 0], fall, atol=1e-4), "a patch as large as the image covers all of it"


def test_what_a_layer_gives_is_captured():
    assert torch.equal(outputs(NETWORK, ["stem"], IMAGES)["stem"], NETWORK.stem(IMAGES))
    assert map_layers(NETWORK, IMAGES[:1])["stem"] == (4, 16, 16)


def test_random_weights_change_every_map():
    other = randomised(NETWORK, 0)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), randomised(NETWORK, 0).parameters(), strict=True))
    for method in (gradient, guided_backpropagation, lambda *words: integrated_gradients(*words).maps):
        one, two = (method(network, IMAGES, TARGETS) for network in (NETWORK, other))
        assert similarity(one, one) == pytest.approx(1.0)
        assert abs(similarity(one, two)) < 0.9
        assert not torch.allclose(one, two)


def test_positions_of_a_vision_transformer_are_drawn_too() -> None:
    from modules.foreign.adoption import build_foreign

    network = build_foreign("timm:test_vit", image_size=64)
    fresh, again = (dict(randomised(network, 0).named_parameters()) for _ in range(2))
    old = dict(network.named_parameters())
    positions = [name for name in old if name.endswith(("pos_embed", "cls_token", "reg_token"))]
    assert positions
    for name in positions:
        assert not torch.equal(fresh[name], old[name])
        assert 0.01 < fresh[name].std() < 0.03
        assert torch.equal(fresh[name], again[name])


def test_random_weights_leave_the_network_and_the_generator_alone():
    torch.manual_seed(0)
    network = build("st_cnn", in_channels=1, image_size=16)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    fresh = randomised(network, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    transformer = fresh.stem.get_submodule("transformer.branch.localisation.theta")
    assert not transformer.weight.any(), "a spatial transformer starts at the identity"
