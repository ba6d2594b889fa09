"""U-Net: the published figure, a plain rewriting of it with the same weights, skips and their deletion, sizes."""

import pytest
import torch
from torch import Tensor, nn

from modules import Network, build, removed, routed
from modules.blocks.features import features

SKIPS = ["concat", "add", "none"]


def level_name(number: int) -> str:
    return ".branch.".join(f"level{k}" for k in range(1, number + 1))


def pair(x: Tensor, weights: dict[str, Tensor], prefix: str, padding: int) -> Tensor:
    for number in (1, 2):
        name = f"{prefix}.conv{number}"
        x = torch.relu(nn.functional.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding))
    return x


def plain_unet(network: Network, x: Tensor, depth: int, padding: int, skips: str, zeroed: int = 0) -> Tensor:
    """Figure 1 as a loop down and a loop up, with the network's weights; the skip of level `zeroed` is zeros."""
    weights = network.state_dict()
    x = pair(x, weights, "stem", padding)
    kept = []
    for number in range(1, depth + 1):
        kept.append(x)
        x = pair(nn.functional.max_pool2d(x, 2), weights, f"blocks.{level_name(number)}.branch.convs", padding)
    for number in range(depth, 0, -1):
        name = f"blocks.{level_name(number)}"
        up = nn.functional.conv_transpose2d(
            x, weights[f"{name}.branch.up.weight"], weights[f"{name}.branch.up.bias"], stride=2
        )
        margin = (kept[number - 1].shape[2] - up.shape[2]) // 2
        skip = nn.functional.pad(kept[number - 1], (-margin,) * 4) * float(number != zeroed)
        merged = {"concat": torch.cat([skip, up], 1), "add": skip + up, "none": up}[skips]
        x = pair(merged, weights, f"{name}.post", padding)
    return nn.functional.conv2d(x, weights["head.conv.weight"], weights["head.conv.bias"])


def small(name: str, skips: str) -> tuple[Network, Tensor, int]:
    """A network of two or three levels without batch norm, with biases that matter, images and the padding."""
    torch.manual_seed(0)
    if name == "unet":
        network, images, padding = build("unet", 3, 1, width=4, depth=2, skips=skips), torch.randn(2, 1, 52, 52), 0
    else:
        network = build("unet_small", 3, 1, width=4, batch_norm=False, skips=skips)
        images, padding = torch.randn(2, 1, 16, 24), 1
    for key, tensor in network.state_dict().items():
        if key.endswith("bias"):
            tensor.normal_(0, 0.1)
    return network.eval(), images, padding


def depth_of(network: Network) -> int:
    return len(list(network.every_block()))


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet", "unet_small"])
@pytest.mark.parametrize("skips", SKIPS)
def test_same_as_the_plain_loops(name: str, skips: str) -> None:
    network, images, padding = small(name, skips)
    expected = plain_unet(network, images, depth_of(network), padding, skips)
    assert expected.std() > 0.01
    torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("skips", SKIPS)
@pytest.mark.parametrize("name", ["unet", "unet_small"])
def test_route_branch_is_the_network_without_that_skip(name: str, skips: str) -> None:
    network, images, padding = small(name, skips)
    depth, intact = depth_of(network), network(images)
    for number in range(1, depth + 1):
        with routed(network, {level_name(number): "branch"}):
            logits = network(images)
        expected = plain_unet(network, images, depth, padding, skips, zeroed=number)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(logits, intact) == (skips == "none")


@torch.no_grad()
@pytest.mark.parametrize("skips", SKIPS)
def test_a_deleted_level_gives_its_skip_alone(skips: str) -> None:
    network, images, _ = small("unet", skips)
    block = network.block(level_name(2))
    for up in block.branch.modules():
        if isinstance(up, nn.ConvTranspose2d):
            up.weight.fill_(torch.nan)
    with removed(network, [level_name(2)]):
        logits = network(images)
    assert logits.isfinite().all()
    assert logits.shape == network(images).shape


def test_figure_1() -> None:
    with torch.device("meta"):
        network = build("unet", 2, 1)
        images = torch.empty(1, 1, 572, 572)
        convs = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert len(convs) == 23
        names = [name for name, _ in network.every_block()]
        assert names == [level_name(number) for number in (1, 2, 3, 4)]
        assert network(images).shape == (1, 2, 388, 388)
        # The numbers beside the blue boxes, down on the left and up on the right.
        down = [network.stem(images)]
        for name in names:
            down.append(network.block(name).branch.convs(nn.functional.max_pool2d(down[-1], 2)))
        assert [tuple(x.shape[1:3]) for x in down] == [(64, 568), (128, 280), (256, 136), (512, 64), (1024, 28)]
        up = features(network, images, names)
        assert [tuple(up[name].shape[1:3]) for name in names] == [(64, 388), (128, 196), (256, 100), (512, 52)]


@pytest.mark.parametrize("name", ["unet", "unet_small"])
def test_skips_in_parameters(name: str) -> None:
    counts = {}
    for skips in SKIPS:
        with torch.device("meta"):
            network = build(name, 2, 1, width=4, skips=skips)
        counts[skips] = sum(p.numel() for p in network.parameters())
    levels = depth_of(network)
    assert counts["add"] == counts["none"]
    assert counts["concat"] - counts["add"] == sum(9 * (4 * 2**k) ** 2 for k in range(levels))


@pytest.mark.parametrize(
    ("name", "refused", "allowed"), [("unet", 570, "every 16 more"), ("unet_small", 20, "every 8 more")]
)
def test_sizes_that_poolings_cannot_halve_are_refused(name: str, refused: int, allowed: str) -> None:
    with torch.device("meta"):
        network = build(name, 2, 1)
        with pytest.raises(ValueError, match=allowed) as caught:
            network(torch.empty(1, 1, refused, refused))
    assert f"{refused} x {refused}" in str(caught.value)


def test_initial_spread_is_the_papers() -> None:
    torch.manual_seed(0)
    network = build("unet", 2, 1, width=32, depth=2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.in_channels > 1:
            assert module.weight.std().item() == pytest.approx((2 / (9 * module.in_channels)) ** 0.5, rel=0.05)
        elif isinstance(module, nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx((2 / module.in_channels) ** 0.5, rel=0.05)
