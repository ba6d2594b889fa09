"""Models of timm and torchvision as networks: the same logits, shared weights, and surgery on every block."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from modules import Network, removed, reordered, routed, set_survival
from modules.foreign.adoption import adopt, build_foreign

NARROW = {"channels": (64, 64, 96, 128)}  # timm's argument; the structure stays, the time goes
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def timm_model(name: str, **arguments: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=11, **arguments)


# name -> how to make it, number of blocks, first and last block, and, of one block, the steps of its branch
MODELS: dict[str, tuple[Callable[[], nn.Module], int, str, str, str]] = {
    "timm resnet18": (timm_model("resnet18", **NARROW), 8, "layer1_0", "layer4_1", "conv1 bn1 act1 conv2 bn2"),
    "timm resnet50": (
        timm_model("resnet50", **NARROW), 16, "layer1_0", "layer4_2", "conv1 bn1 act1 conv2 bn2 act2 conv3 bn3",
    ),
    # squeeze and excitation, a deep stem, average pooling in the shortcut, every kind of dropping
    "timm seresnet26d": (
        timm_model(
            "resnet26d", block_args={"attn_layer": "se"},
            drop_rate=0.2, drop_path_rate=0.2, drop_block_rate=0.1, **NARROW,
        ),
        8, "layer1_0", "layer4_1", "conv1 bn1 act1 conv2 bn2 drop_block act2 conv3 bn3 se drop_path",
    ),
    "timm resnetblur18": (timm_model("resnetblur18", **NARROW), 8, "layer1_0", "layer4_1", "conv1 bn1 act1 conv2 bn2"),
    "timm resnetv2_18": (
        timm_model("resnetv2_18", **NARROW), 8, "stages_0_blocks_0", "stages_3_blocks_1", "norm1 conv1 norm2 conv2",
    ),
    "timm resnetv2_50": (
        timm_model("resnetv2_50", channels=(128, 128, 192, 256)),
        16, "stages_0_blocks_0", "stages_3_blocks_2", "norm1 conv1 norm2 conv2 norm3 conv3",
    ),
    "timm vgg11": (timm_model("vgg11", mlp_ratio=0.01), 8, "features_0", "features_18", "conv relu"),
    "timm vgg11_bn": (timm_model("vgg11_bn", mlp_ratio=0.01), 8, "features_0", "features_25", "conv bn relu"),
    "torchvision resnet18": (
        lambda: torchvision.models.resnet18(num_classes=11), 8, "layer1_0", "layer4_1", "conv1 bn1 relu1 conv2 bn2",
    ),
}  # fmt: skip


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Makes every layer matter: timm starts the last batch norm of a branch at zero."""
    for name, tensor in model.state_dict().items():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5) if name.endswith(("weight", "running_var")) else tensor.normal_(0, 0.1)
    return model


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Network]:
    torch.manual_seed(0)
    model = randomise(MODELS[request.param][0]())
    return request.param, model.eval(), adopt(model, IMAGES)


def run(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(IMAGES)


def test_same_logits_blocks_and_names(pair: tuple[str, nn.Module, Network]) -> None:
    name, model, network = pair
    _, count, first, last, steps = MODELS[name]
    names = list(network.blocks)
    assert (len(names), names[0], names[-1]) == (count, first, last)
    # The last block of every model is an ordinary one.
    assert [key for key, _ in network.block(last).branch.named_children()] == steps.split()
    assert torch.equal(run(network), run(model))


def test_parameters_and_buffers_are_shared(pair: tuple[str, nn.Module, Network]) -> None:
    _, model, network = pair
    for kind in ("parameters", "buffers"):
        ours, theirs = ({id(tensor) for tensor in getattr(part, kind)()} for part in (network, model))
        assert ours == theirs


def test_torchvision_bottlenecks() -> None:
    model = randomise(torchvision.models.resnet.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])).eval()
    network = adopt(model, IMAGES)
    steps = " ".join(key for key, _ in network.block("layer4_0").branch.named_children())
    assert steps == "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3"
    assert torch.equal(run(network), run(model))


def test_every_block_can_be_deleted(pair: tuple[str, nn.Module, Network]) -> None:
    _, _, network = pair
    logits = run(network)
    for name in network.blocks:
        with removed(network, [name]):
            found = run(network)
        assert found.shape == logits.shape, name
        assert not torch.equal(found, logits), name
    with removed(network, network.blocks):
        assert run(network).shape == logits.shape
    assert torch.equal(run(network), logits)


def test_changes_shape_tells_the_downsampling_blocks(pair: tuple[str, nn.Module, Network]) -> None:
    name, _, network = pair
    changing = [key for key, block in network.named_blocks() if block.changes_shape]
    if "vgg" in name:
        assert len(changing) == 4  # 3 channels to 64, 128, 256, 512; the other blocks keep their width
    else:
        stages = {key.rsplit("_", 1)[0]: key for key in reversed(list(network.blocks))}
        firsts = [stages[stage] for stage in reversed(stages)]
        assert changing == (firsts if "18" not in name else firsts[1:])


def test_no_module_works_in_place_or_twice(pair: tuple[str, nn.Module, Network]) -> None:
    _, _, network = pair
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        calls[module] = calls.get(module, 0) + 1

    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(count) for module in leaves]
    run(network)
    for handle in handles:
        handle.remove()
    assert not [module for module in leaves if getattr(module, "inplace", False)]
    assert set(calls.values()) == {1}


def test_training_draws_and_updates_alike(pair: tuple[str, nn.Module, Network]) -> None:
    """Dropping and batch statistics too: the same seed gives the same logits and gradients in training mode."""
    _, model, network = pair
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = []
    for part in (model, network):
        torch.manual_seed(2)
        model.load_state_dict(buffers, strict=False)
        model.zero_grad()
        logits = part.train()(IMAGES)
        logits.square().sum().backward()
        found.append((logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    model.load_state_dict(buffers, strict=False)
    model.eval()
    network.eval()
    (expected, gradients), (ours, our_gradients) = found
    torch.testing.assert_close(ours, expected)
    assert len(gradients) == len(our_gradients) == len(list(model.parameters()))
    for ours, expected in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


# Deletion by hand, in the original model.


@torch.no_grad()
def test_deletion_equals_emptying_the_original_block() -> None:
    for model in (timm.create_model("resnet18", **NARROW), torchvision.models.resnet18()):
        network = adopt(randomise(model).eval(), IMAGES)
        kept, downsampling = model.layer2[1], model.layer3[0]
        with removed(network, ["layer2_1", "layer3_0"]):
            found = run(network)
        model.layer2[1] = nn.ReLU()
        model.layer3[0] = nn.Sequential(downsampling.downsample, nn.ReLU())
        assert torch.equal(found, run(model))
        model.layer2[1], model.layer3[0] = kept, downsampling


@torch.no_grad()
def test_deletion_of_preactivation_blocks() -> None:
    model = timm.create_model("resnetv2_18", **NARROW).eval()
    network = adopt(randomise(model), IMAGES)
    with removed(network, ["stages_1_blocks_1", "stages_2_blocks_0"]):
        found = run(network)
    first = model.stages[2].blocks[0]
    model.stages[1].blocks[1] = nn.Identity()
    model.stages[2].blocks[0] = nn.Sequential(first.norm1, first.downsample)  # the shortcut reads the normalised signal
    assert torch.equal(found, run(model))


@torch.no_grad()
def test_deletion_in_vgg_keeps_the_pooling() -> None:
    model = timm.create_model("vgg11_bn", mlp_ratio=0.01).eval()
    network = adopt(randomise(model), IMAGES)
    with removed(network, ["features_11"]):  # 256 to 256 channels, followed by pooling at 14
        found = run(network)
    for index in (11, 12, 13):
        model.features[index] = nn.Identity()
    assert torch.equal(found, run(model))


def test_routes_order_and_survival_work() -> None:
    network = build_foreign("timm:resnet18", **NARROW)
    with torch.no_grad():
        randomise(network.eval())
    logits = run(network)
    names = list(network.blocks)
    with routed(network, {"layer1_1": "branch"}):
        assert not torch.equal(run(network), logits)
    with reordered(network, [names[1], names[0], *names[2:]]):
        assert not torch.equal(run(network), logits)
    set_survival(network.train(), 0.5)(IMAGES).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
