"""Models of timm and torchvision as networks: the same logits, blocks, routes, gradients and weights."""

import copy
import io
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from ablations.probes.lesions import lesions
from modules import Network, build, removed, reordered, routed, set_survival
from modules.foreign.adoption import adopt, build_foreign

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
NARROW = {"channels": (64, 64, 96, 128)}  # timm's argument; the structure stays, the time goes
VIT = {"img_size": 64, "depth": 2, "drop_path_rate": 0.3, "drop_rate": 0.2, "proj_drop_rate": 0.2}
DENSE = {"block_config": (2, 3), "growth_rate": 8, "drop_rate": 0.2}
# squeeze and excitation, a deep stem, average pooling in the shortcut, every kind of dropping
SE = {"block_args": {"attn_layer": "se"}, "drop_rate": 0.2, "drop_path_rate": 0.2, "drop_block_rate": 0.1, **NARROW}


def library(name: str) -> Callable[..., nn.Module]:
    return partial(timm.create_model, name)


def torchvision_resnet(block: str, num_blocks: int, **arguments: Any) -> nn.Module:
    kind = getattr(torchvision.models.resnet, block)
    return torchvision.models.resnet.ResNet(kind, [num_blocks] * 4, **arguments)


# name -> how to make it, its arguments, how many blocks are merged in which way, the first and the last block, and of
# the last block the steps of its branch, where each is a module of the model
MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], dict[str, int], str, str, str]] = {
    "resnet18": (library("resnet18"), NARROW, {"add": 8}, "layer1_0", "layer4_1", "conv1 bn1 act1 conv2 bn2"),
    "resnet50": (
        library("resnet50"), NARROW, {"add": 16}, "layer1_0", "layer4_2", "conv1 bn1 act1 conv2 bn2 act2 conv3 bn3",
    ),
    "seresnet26d": (
        library("resnet26d"), SE, {"add": 8}, "layer1_0", "layer4_1",
        "conv1 bn1 act1 conv2 bn2 drop_block act2 conv3 bn3 se drop_path",
    ),
    "resnetblur18": (library("resnetblur18"), NARROW, {"add": 8}, "layer1_0", "layer4_1", "conv1 bn1 act1 conv2 bn2"),
    "resnetv2_18": (
        library("resnetv2_18"), NARROW, {"add": 8}, "stages_0_blocks_0", "stages_3_blocks_1", "norm1 conv1 norm2 conv2",
    ),
    "resnetv2_50": (
        library("resnetv2_50"), {"channels": (128, 128, 192, 256)}, {"add": 16}, "stages_0_blocks_0",
        "stages_3_blocks_2", "norm1 conv1 norm2 conv2 norm3 conv3",
    ),
    "vgg11": (library("vgg11"), {"mlp_ratio": 0.01}, {"replace": 8}, "features_0", "features_18", "conv relu"),
    "vgg11_bn": (library("vgg11_bn"), {"mlp_ratio": 0.01}, {"replace": 8}, "features_0", "features_25", "conv bn relu"),
    "torchvision 18": (
        torchvision_resnet, {"block": "BasicBlock", "num_blocks": 2}, {"add": 8}, "layer1_0", "layer4_1",
        "conv1 bn1 relu1 conv2 bn2",
    ),
    "torchvision bottlenecks": (
        torchvision_resnet, {"block": "Bottleneck", "num_blocks": 1}, {"add": 4}, "layer1_0", "layer4_0",
        "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3",
    ),
    "vision_transformer": (library("vit_tiny_patch16_224"), VIT, {"add": 4}, "blocks_0_attn", "blocks_1_mlp", ""),
    "mlp_mixer": (
        library("mixer_s32_224"), {"img_size": 64}, {"add": 16}, "blocks_0_mlp_tokens", "blocks_7_mlp_channels",
        "",
    ),
    "convnext": (library("test_convnext"), {}, {"add": 9}, "stages_0_blocks_0", "stages_3_blocks_1", ""),
    "densenet": (
        library("densenet121"), DENSE, {"concat": 5}, "features_denseblock1_denselayer1",
        "features_denseblock2_denselayer3", "",
    ),
    # 3 of its units change the shape and have no shortcut of their own
    "mobilenetv3": (
        library("mobilenetv3_small_050"), {}, {"add": 7, "replace": 3}, "blocks_1_0", "blocks_4_2", "",
    ),
    "regnet": (library("regnetx_002"), {}, {"add": 13}, "s1_b1", "s4_b7", ""),
    # the sizes of the maps cross from the patches to the blocks
    "pvt_v2": (
        library("pvt_v2_b0"), {"depths": (1, 1, 1, 1)}, {"add": 8}, "stages_0_blocks_0_attn", "stages_3_blocks_0_mlp",
        "",
    ),
    # paths side by side, whose module is a block
    "vovnet": (library("ese_vovnet19b_slim_dw"), {}, {"replace": 4}, "stages_0_blocks_0", "stages_3_blocks_0", ""),
    # nothing but a sequence that is repeated
    "lcnet": (library("lcnet_035"), {}, {"replace": 13}, "blocks_0_0", "blocks_5_1", ""),
}  # fmt: skip
Pair = tuple[str, nn.Module, Network]


def made(name: str) -> nn.Module:
    """A model of the table in which every layer matters: last norms, scales and layers may begin at 0."""
    torch.manual_seed(0)
    make, arguments, *_ = MODELS[name]
    model = make(num_classes=11, **arguments)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if not key.endswith(("bias", "mean")) else tensor.normal_(0, 0.1)
            elif tensor.dim() and not tensor.any():
                tensor.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    model = made(request.param)
    return request.param, model, adopt(model, IMAGES)


@torch.no_grad()
def run(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    found: Tensor = network(images)
    return found


def test_blocks_names_and_logits(pair: Pair) -> None:
    name, model, network = pair
    _, arguments, merges, first, last, steps = MODELS[name]
    names = list(network.blocks)
    assert Counter(block.merge for _, block in network.named_blocks()) == merges
    assert (names[0], names[-1]) == (first, last)
    if steps:  # the last block of these is an ordinary one
        assert [key for key, _ in network.block(last).branch.named_children()] == steps.split()
    for shape in ((2, 3, 64, 64), (1, 3, 64, 64), *(() if "img_size" in arguments else ((3, 3, 96, 128),))):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        assert torch.equal(run(network, images), run(model, images)), shape


def test_weights_are_the_models_own(pair: Pair) -> None:
    name, model, network = pair
    assert list(model.state_dict()) == list(made(name).state_dict())
    for kind in ("parameters", "buffers"):
        ours, theirs = ({id(tensor) for tensor in getattr(part, kind)()} for part in (network, model))
        assert ours == theirs


def test_every_block_can_be_deleted_on_its_own_and_with_all(pair: Pair) -> None:
    """Probes share the work of many lesions, and answer as whole passes do."""
    _, _, network = pair
    logits = run(network)
    with torch.no_grad():
        chains = [lesions.chain(network, {name: "shortcut"}) for name in network.blocks]
        shared = dict(lesions.logits_of_chains(network, chains, IMAGES))
    for index, name in enumerate(network.blocks):
        with removed(network, [name]):
            found = run(network)
        assert found.shape == logits.shape, name
        assert not torch.equal(found, logits), name
        assert torch.equal(found, shared[index]), name
    with removed(network, network.blocks):
        assert run(network).shape == logits.shape
    assert torch.equal(run(network), logits)


def test_copies_answer_alike(pair: Pair) -> None:
    """A probe copies a network, and hands it to other processes."""
    _, model, network = pair
    packed = io.BytesIO()
    torch.save(network, packed)
    packed.seek(0)
    for copied in (copy.deepcopy(network), torch.load(packed, weights_only=False)):
        assert torch.equal(run(copied), run(model))
        assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}


@pytest.mark.parametrize("pair", [name for name, row in MODELS.items() if row[-1]], indirect=True)
def test_no_module_of_a_stepwise_branch_works_in_place_or_twice(pair: Pair) -> None:
    _, _, network = pair
    calls: Counter[nn.Module] = Counter()
    leaves = [module for module in network.modules() if not list(module.children())]
    handles = [module.register_forward_hook(lambda module, *_: calls.update([module])) for module in leaves]
    run(network)
    for handle in handles:
        handle.remove()
    assert not [module for module in leaves if getattr(module, "inplace", False)]
    assert set(calls.values()) == {1}


def test_changes_shape_tells_the_downsampling_blocks(pair: Pair) -> None:
    name, _, network = pair
    if "18" in name or "50" in name:
        changing = [key for key, block in network.named_blocks() if block.changes_shape]
        firsts = [key for key in network.blocks if key.endswith("_0")]
        assert changing == (firsts if "50" in name else firsts[1:])
    elif "vgg" in name:  # 3 channels to 64, 128, 256, 512; the other blocks keep their width
        assert sum(block.changes_shape for _, block in network.named_blocks()) == 4


def test_training_draws_and_updates_alike(pair: Pair) -> None:
    """Dropping and batch statistics too: the same seed gives the same logits and gradients in training mode."""
    _, model, network = pair
    buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
    found = []
    for part in (model, network):
        torch.manual_seed(2)
        model.load_state_dict(buffers, strict=False)
        model.zero_grad()
        logits = part.train()(IMAGES)
        logits.square().sum().backward()
        found.append((logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        part.eval()
    model.load_state_dict(buffers, strict=False)
    (expected, gradients), (ours, our_gradients) = found
    torch.testing.assert_close(ours, expected)
    assert len(gradients) == len(our_gradients) == len(list(model.parameters()))
    for mine, theirs in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


# Surgery by hand, in the original model.


class WithoutFirstShortcut(nn.Module):
    """A block of a vision transformer whose attention does not add its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, **_: object) -> Tensor:
        block = self.block
        x = block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        y: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return y


def emptied(_: nn.Module) -> nn.Module:
    return nn.Identity()


def zeros(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    return layer


Edits = dict[str, Callable[[Any], nn.Module]]
POST: Edits = {"layer2.1": lambda _: nn.ReLU(), "layer3.0": lambda block: nn.Sequential(block.downsample, nn.ReLU())}
# the shortcut reads the normalised signal
PRE: Edits = {
    "stages.1.blocks.1": emptied, "stages.2.blocks.0": lambda block: nn.Sequential(block.norm1, block.downsample),
}  # fmt: skip
# 256 to 256 channels, followed by pooling at 14, which stays
CONV: Edits = dict.fromkeys(("features.11", "features.12", "features.13"), emptied)
# the model, what is done to its network, and by hand: what stands where, made of what stood there
BY_HAND: list[tuple[str, Callable[..., Any], Any, Edits]] = [
    ("resnet18", removed, ["layer2_1", "layer3_0"], POST),
    ("torchvision 18", removed, ["layer2_1", "layer3_0"], POST),
    ("resnetv2_18", removed, ["stages_1_blocks_1", "stages_2_blocks_0"], PRE),
    ("vgg11_bn", removed, ["features_11"], CONV),
    ("convnext", removed, ["stages_1_blocks_1"], {"stages.1.blocks.1": emptied}),
    ("vision_transformer", removed, ["blocks_1_attn", "blocks_1_mlp"], {"blocks.1": emptied}),
    ("mobilenetv3", removed, ["blocks_1_1"], {"blocks.1.1": emptied}),
    ("lcnet", removed, ["blocks_4_1"], {"blocks.4.1": emptied}),
    ("densenet", removed, ["features_denseblock2_denselayer2"], {"features.denseblock2.denselayer2": zeros}),
    ("vision_transformer", routed, {"blocks_0_attn": "branch"}, {"blocks.0": WithoutFirstShortcut}),
    (
        "vision_transformer", reordered, ["blocks_1_attn", "blocks_1_mlp", "blocks_0_attn", "blocks_0_mlp"],
        {"blocks": lambda blocks: nn.Sequential(blocks[1], blocks[0])},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "surgery", "blocks", "edits"), BY_HAND)
def test_surgery_is_what_it_is_by_hand(name: str, surgery: Callable[..., Any], blocks: Any, edits: Edits) -> None:
    model = made(name)
    network = adopt(model, IMAGES)
    with surgery(network, blocks):
        found = run(network)
    for path, edit in edits.items():
        parent, _, last = path.rpartition(".")
        model.get_submodule(parent)._modules[last] = edit(model.get_submodule(path))
    assert torch.equal(found, run(model))


def test_deletion_of_a_shape_changing_unit_subsamples_and_pads() -> None:
    block = adopt(made("mobilenetv3"), IMAGES).block("blocks_1_0")
    assert block.changes_shape
    x = torch.randn(1, 8, 16, 16)
    y = block(x, "shortcut")
    assert y.shape == (1, 16, 8, 8)
    assert torch.equal(y[:, :8], x[:, :, ::2, ::2])
    assert not y[:, 8:].any()


def test_stochastic_depth_trains_every_parameter() -> None:
    network = set_survival(build_foreign("timm:resnet18", **NARROW), 0.5)
    network(IMAGES).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_sizes_are_those_of_the_images_seen_last() -> None:
    network, fresh = (adopt(made("pvt_v2"), IMAGES) for _ in range(2))
    larger = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(4))
    assert torch.equal(run(network, larger), run(fresh, larger))
    assert torch.equal(run(network, IMAGES), run(fresh, IMAGES))


def test_an_adopted_resnet_is_our_resnet() -> None:
    """Block by block: the logits agree with the same blocks deleted."""
    theirs, ours = adopt(made("torchvision 18"), IMAGES), build("resnet18", 11).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    for name, twin in zip(theirs.blocks, ours.blocks, strict=True):
        assert theirs.block(name).changes_shape == ours.block(twin).changes_shape
        with removed(theirs, [name]), removed(ours, [twin]):
            torch.testing.assert_close(run(ours), run(theirs), rtol=1e-5, atol=1e-5)


def test_blocks_are_found_inside_a_wrapper_and_modes_survive() -> None:
    model = nn.Sequential(timm.create_model("resnet18", **NARROW), nn.Flatten(0))
    norm = model.get_submodule("0.layer1.0.bn1").eval()
    network = adopt(model, IMAGES)
    assert next(iter(network.blocks)) == "0_layer1_0"
    assert not norm.training
    assert sum(not module.training for module in network.modules()) == 1
    assert not any(buffer.any() for name, buffer in model.named_buffers() if name.endswith("running_mean"))
    assert torch.equal(run(network.eval()), run(model.eval()))
