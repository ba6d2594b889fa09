"""Networks with spatial transformers: arms of equal size, several transformers, deletion, arguments."""

from typing import Any

import pytest
import torch
from torch import nn

from modules import Network, build, recipe_for, removed
from modules.blocks.spatial_transformer import SpatialTransformer, tiles
from modules.training.optimisation import optimiser


def transformers(network: Network) -> list[SpatialTransformer]:
    return [module for module in network.modules() if isinstance(module, SpatialTransformer)]


def test_positions_are_no_weights() -> None:
    network = build("st_fcn_tps", 10, 1, num_parameters=60_000, output_size=12)
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_localisation_networks_have_their_own_learning_rate() -> None:
    network = build("st_svhn", width=3, hidden=8)
    recipe = recipe_for("st_svhn")
    groups = {group["factor"]: group["params"] for group in optimiser(recipe, network).param_groups}
    assert set(groups) == {1.0, 0.1}
    inside = [p for module in transformers(network) for p in module.parameters()]
    assert {id(p) for p in groups[0.1]} == {id(p) for p in inside}


@pytest.mark.parametrize(("size", "pool"), [(16, 1), (28, 1), (42, 1), (42, 2), (60, 1), (60, 2)])
def test_arms_have_about_equal_parameters(size: int, pool: int) -> None:
    with torch.device("meta"):
        for name in ("fcn", "cnn", *(f"st_{n}_{t}" for n in ("fcn", "cnn") for t in ("affine", "projective", "tps"))):
            network = build(name, 10, 1, image_size=size, pool=pool)
            assert sum(p.numel() for p in network.parameters()) == pytest.approx(400_000, rel=0.01), name
            assert network(torch.empty(2, 1, size, size)).shape == (2, 10)


def test_initial_theta_is_the_identity_in_every_network() -> None:
    x = torch.rand(2, 1, 28, 28)
    for name in ("st_fcn_affine", "st_cnn_projective", "st_fcn_tps"):
        torch.manual_seed(0)
        network = build(name, 10, 1).eval()
        with torch.no_grad(), removed(network, ["stem.transformer"]):
            expected = network(x)
        with torch.no_grad():
            torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-4)


def test_parallel_transformers_are_deleted_one_by_one() -> None:
    torch.manual_seed(0)
    network = build("st_addition", 19, 2)
    for module in transformers(network):
        nn.init.normal_(module.localisation.get_parameter("theta.weight"), std=0.2)
    assert [name for name, _ in network.every_block()][:2] == ["stem.transformer.1", "stem.transformer.2"]
    images = torch.rand(3, 2, 42, 42)
    crops = network.stem.get_submodule("transformer")
    both = crops(images)
    assert both.shape == (3, 4, 42, 42)
    with removed(network, ["stem.transformer.2"]):
        first = crops(images)
    assert torch.equal(first[:, :2], both[:, :2])
    assert torch.equal(first[:, 2:], images)
    assert not torch.allclose(both[:, 2:], images, atol=0.1)
    assert network(images).shape == (3, 19)
    assert build("st_addition", 19, 2, trunk="cnn", num_transformers=1)(images).shape == (3, 19)


def test_tiles_cover_the_image() -> None:
    assert tiles(1) == [(0, 0)]
    assert tiles(2) == [(0, -0.5), (0, 0.5)]
    assert tiles(4) == [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
    network = build(
        "transformed", transform="translation", scale=0.5, tile=True, num_transformers=4, output_size=16,
        network_arguments={"width": 2},
    )  # fmt: skip
    images = torch.rand(2, 3, 32, 32)
    quarters = [images[:, :, a : a + 16, b : b + 16] for a in (0, 16) for b in (0, 16)]
    for number, quarter in enumerate(quarters, start=1):
        crop = network.stem.get_submodule(f"{number}.stem.transformer")
        torch.testing.assert_close(crop(images), quarter, rtol=0, atol=1e-5)


def test_each_of_several_crops_has_a_network_whose_features_one_classifier_reads() -> None:
    arguments = {"width": 2, "num_parameters": 4_000}
    torch.manual_seed(0)
    network = build(
        "transformed", 25, 1, image_size=32, network="cnn", network_arguments=arguments, num_transformers=2, tile=True,
        transform="translation", scale=0.5, output_size=16,
    ).eval()  # fmt: skip
    alone = [network.stem.get_submodule(name) for name in "12"]
    assert not torch.equal(*(each.get_parameter("blocks.conv1.branch.conv.weight") for each in alone))
    images = torch.rand(3, 1, 32, 32)
    seen, features = network(images), [each(images) for each in alone]
    fc = network.head.get_submodule("fc")
    assert seen.shape == (3, 25)
    assert features[0].shape == features[1].shape == (3, fc.in_features // 2), "no classifier of its own"
    torch.testing.assert_close(seen, fc(torch.cat(features, dim=1)))
    upper = images.clone()
    upper[:, :, 16:] = 0
    torch.testing.assert_close(alone[0](upper), features[0], msg="it sees its own crop alone")
    with pytest.raises(ValueError, match="does not end in one linear layer"):
        build("transformed", network="googlenet", network_arguments={"width": 2}, num_transformers=2, image_size=224)


@pytest.mark.parametrize(("transformers_", "count"), [("none", 0), ("single", 1), ("multi", 4)])
def test_house_numbers(transformers_: str, count: int) -> None:
    torch.manual_seed(0)
    network = build("st_svhn", 11, transformers=transformers_, width=3, hidden=8, num_digits=5, image_size=32)
    assert len(transformers(network)) == count
    assert sum(isinstance(module, nn.Dropout) for module in network.modules()) == 7 + 2, "none behind the first"
    assert [name for name in network.blocks if "transformer" in name] == [f"transformer{i + 1}" for i in range(count)]
    logits = network(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 11, 5)
    nn.functional.cross_entropy(logits, torch.randint(11, (2, 5))).backward()


def test_a_transformer_in_front_of_a_network_leaves_the_rest_of_it() -> None:
    arguments: dict[str, Any] = {"depth": 10, "growth_rate": 4, "recompute": 2}
    torch.manual_seed(0)
    network = build("transformed", network="densenet_cifar", network_arguments=arguments).eval()
    trunk = build("densenet_cifar", **arguments).eval()
    state = {name.replace("stem.trunk.", "stem."): tensor for name, tensor in network.state_dict().items()}
    trunk.load_state_dict({name: tensor for name, tensor in state.items() if "stem.transformer." not in name})
    assert list(network.blocks) == list(trunk.blocks)
    assert network.recompute == 2
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(images), trunk(images), rtol=0, atol=1e-4)
        with removed(network, ["stem.transformer"]):
            assert torch.equal(network(images), trunk(images))
