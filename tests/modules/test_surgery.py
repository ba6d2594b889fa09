"""Surgery is undone on exit and after an error, and changes neither parameters nor, where nothing is cut, a bit."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from modules import Network, build, removed, reordered, routed, set_survival

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def make(name: str) -> Network:
    torch.manual_seed(0)
    arguments = {"width": 2, "hidden": 8, "num_pools": 3} if name.startswith("vgg") else {"width": 2}
    return build(name, **arguments).eval()


@pytest.fixture(params=["resnet20", "preact_resnet20", "vgg15_bn"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """A small network; the test must leave it as it was, to the last bit."""
    made = make(request.param)
    before, logits = {key: tensor.clone() for key, tensor in made.state_dict().items()}, run(made)
    names = tuple(made.blocks)
    yield made
    after = made.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {block.route for _, block in made.named_blocks()} == {"both"}
    assert made.order == names
    assert torch.equal(run(made), logits)


def run(network: Network) -> Tensor:
    with torch.no_grad():
        return network(IMAGES)


def by_hand(network: Network, visits: list[tuple[str, str]]) -> Tensor:
    """The logits of an explicit list of (block, route)."""
    with torch.no_grad():
        x = network.stem(IMAGES)
        for name, route in visits:
            block = network.block(name)
            u = block.pre(x)
            if route == "both":
                merged = block.branch(u) if block.merge == "replace" else block.shortcut(u) + block.branch(u)
            else:
                merged = getattr(block, route)(u)
            x = block.post(merged)
        return network.head(x)


def test_nothing_cut_changes_nothing(network: Network) -> None:
    logits = run(network)
    with removed(network, []), routed(network, {}), reordered(network, list(network.blocks)):
        assert torch.equal(run(network), logits)
    with routed(network, dict.fromkeys(network.blocks, "both")):
        assert torch.equal(run(network), logits)


def test_removed_equals_the_shortcut_by_hand(network: Network) -> None:
    logits = run(network)
    names = list(network.blocks)
    for gone in ([names[0]], [names[3], names[5]], names):
        with removed(network, gone) as cut:
            assert cut is network
            found = run(network)
        assert torch.equal(found, by_hand(network, [(n, "shortcut" if n in gone else "both") for n in names]))
        assert not torch.equal(found, logits)


def test_routed_takes_the_branch_alone(network: Network) -> None:
    names = list(network.blocks)
    with routed(network, {names[1]: "branch", names[2]: "shortcut"}):
        found = run(network)
    routes = {names[1]: "branch", names[2]: "shortcut"}
    assert torch.equal(found, by_hand(network, [(n, routes.get(n, "both")) for n in names]))


def test_reordered_visits_in_the_given_order() -> None:
    network = make("resnet20")
    logits = run(network)
    names = list(network.blocks)
    order = [*names[:1], names[2], names[1], *names[3:]]
    with reordered(network, order):
        assert network.order == tuple(order)
        found = run(network)
    assert torch.equal(found, by_hand(network, [(n, "both") for n in order]))
    assert not torch.equal(found, logits)
    assert torch.equal(run(network), logits)


def test_undone_after_an_error(network: Network) -> None:
    names = list(network.blocks)
    for surgery in (
        removed(network, names[:2]),
        routed(network, {names[0]: "branch"}),
        reordered(network, names[::-1]),
    ):
        with pytest.raises(RuntimeError, match="stop"), surgery:
            raise RuntimeError("stop")


def test_nested_surgery_restores_the_outer_one(network: Network) -> None:
    name = next(iter(network.blocks))
    with removed(network, [name]):
        with routed(network, {name: "branch"}):
            assert network.block(name).route == "branch"
        assert network.block(name).route == "shortcut"


def test_unknown_blocks_and_routes_change_nothing(network: Network) -> None:
    name = next(iter(network.blocks))
    with pytest.raises(ValueError, match=f"'nonsense'; blocks are {name}"), removed(network, [name, "nonsense"]):
        pass
    with pytest.raises(ValueError, match="both, shortcut, branch"), routed(network, {name: "left"}):
        pass


def test_reordered_rejects_what_is_no_permutation(network: Network) -> None:
    names = list(network.blocks)
    for order in (names[1:], [*names, names[0]], [names[0], *names[:-1]], [*names[:-1], "nonsense"]):
        with pytest.raises(ValueError, match=f"each of the {len(names)} blocks once"), reordered(network, order):
            pass


def test_removed_blocks_get_no_gradient_and_the_others_do() -> None:
    network = make("resnet20").train()
    gone = "stage1_block2"
    with removed(network, [gone]):
        network(IMAGES).sum().backward()
    assert {p.grad for p in network.block(gone).branch.parameters()} == {None}
    assert all(p.grad is not None for p in network.block("stage1_block3").branch.parameters())


def test_survival_is_no_parameter_and_surgery_wins_over_it() -> None:
    network = make("resnet20")
    keys = list(network.state_dict())
    assert set_survival(network, 0.5) is network
    assert list(network.state_dict()) == keys
    with removed(network, network.blocks):
        everything = run(network)
    set_survival(network, 1.0)
    with removed(network, network.blocks):
        assert torch.equal(run(network), everything)
