"""Lesions: answers equal those of naive full passes to the last bit, and a probe leaves the network as it was."""

import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import BATCHES, make, naive, same_state, state_of

from ablations.probes.lesions import lesions
from modules import Block, Network, removed, reordered, routed
from modules.blocks.fold import folded
from modules.blocks.parallel import parallel

ROUTES = st.sampled_from(["both", "shortcut", "branch"])


@torch.no_grad()
def clever(network, chains, images):
    found = dict(lesions.logits_of_chains(network, chains, images))
    assert sorted(found) == list(range(len(chains))), "every chain is answered once"
    return [found[index] for index in range(len(chains))]


@torch.no_grad()
def test_deleting_nothing_changes_nothing(network):
    images, _ = BATCHES[0]
    expected = network(images)
    chains = [lesions.chain(network), lesions.chain(network, {}), lesions.chain(network, order=network.order)]
    assert all(torch.equal(found, expected) for found in clever(network, chains, images))


def single_deletions(network):
    return [lesions.chain(network, {name: "shortcut"}) for name in network.blocks]


def test_single_deletions_equal_a_loop_over_removed(network):
    images, _ = BATCHES[0]
    found = clever(network, single_deletions(network), images)
    with torch.no_grad():
        intact = network(images)
        for name, logits in zip(network.blocks, found, strict=True):
            with removed(network, [name]):
                assert torch.equal(logits, network(images)), name
            assert not torch.equal(logits, intact), f"deleting {name} has no effect, so this test shows nothing"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_set_of_chains_equals_full_passes(network, data):
    names, images = list(network.blocks), BATCHES[0][0][:3]
    groups = lesions.interchangeable(network, images)
    seeds, routes = st.integers(0, 1000), st.dictionaries(st.sampled_from(names), ROUTES, max_size=6)
    # A plain block may change the shape of what an order needs, so only blocks of one shape change places.
    orders = st.tuples(seeds, st.integers(0, 4)).map(
        lambda drawn: lesions.swapped(names, groups, drawn[1] if groups else 0, torch.Generator().manual_seed(drawn[0]))
    )
    drawn = data.draw(st.lists(st.tuples(routes, orders), max_size=8))
    chains = [lesions.chain(network, routes, order) for routes, order in drawn]
    for chain, logits in zip(chains, clever(network, chains, images), strict=True):
        assert torch.equal(logits, naive(network, chain, images)), chain


def probe_chains(network, draws=6):
    """What the ablation asks: intact, deleted blocks, deleted shortcuts, k deleted at random, shuffled, and twice."""
    names, generator = list(network.blocks), torch.Generator().manual_seed(3)
    chains = [lesions.chain(network), *single_deletions(network)]
    chains += [lesions.chain(network, {name: "branch"}) for name in names]
    for k in (2, 4):
        for _ in range(draws):
            chosen = [names[i] for i in torch.randperm(len(names), generator=generator)[:k].tolist()]
            chains.append(lesions.chain(network, dict.fromkeys(chosen, "shortcut")))
    groups = lesions.interchangeable(network, BATCHES[0][0])
    for swaps in range(1, draws if groups else 1):
        chains.append(lesions.chain(network, order=lesions.swapped(names, groups, swaps, generator)))
    return chains + chains[:2]


def test_error_rates_are_those_of_full_passes(network):
    chains = probe_chains(network)
    passes = []
    found = lesions.error_rates(network, chains, iter(BATCHES), lambda: passes.append(1))
    assert len(passes) == len(chains) * len(BATCHES)
    for chain, rate in zip(chains, found, strict=True):
        wrong = sum(int((naive(network, chain, images).argmax(1) != labels).sum()) for images, labels in BATCHES)
        assert rate == 100.0 * wrong / 12
    assert len(set(found)) > 1, "all chains err alike, so this test shows nothing"


def test_error_rates_evaluate_a_network_in_training(network):
    chains = single_deletions(network)
    expected = lesions.error_rates(network, chains, BATCHES)
    network.train()
    network.head.eval()
    before = state_of(network)
    try:
        assert lesions.error_rates(network, chains, BATCHES) == expected
        assert same_state(state_of(network), before), "mixed modes and running statistics are as they were"
    finally:
        network.eval()


def test_routes_of_the_network_are_part_of_its_chain():
    network = make("resnet")
    with routed(network, {"stage1_block2": "shortcut"}), reordered(network, list(network.blocks)[::-1]):
        chain = lesions.chain(network)
    assert [step.route for step in chain if step.name == "stage1_block2"] == ["shortcut"]
    assert [step.name for step in chain] == list(network.blocks)[::-1]


@pytest.mark.parametrize("training", [False, True])
def test_a_probe_that_fails_midway_leaves_no_trace(training):
    network = make("preact").train(training)
    before = state_of(network)
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lesions.error_rates(network, probe_chains(make("preact")), BATCHES, stop)
    assert len(calls) == 5
    assert same_state(state_of(network), before)

    def batches():
        yield BATCHES[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        lesions.error_rates(network, single_deletions(network), batches())
    assert same_state(state_of(network), before)
    broken = [*single_deletions(network), (("no_such_block", "both"),)]
    with pytest.raises((ValueError, KeyError)):
        lesions.error_rates(network, broken, BATCHES)
    assert same_state(state_of(network), before)


@pytest.mark.parametrize("shuffled", [False, True])
def test_few_activations_are_kept(monkeypatch, shuffled):
    """One activation that the next deletion starts from, beside the one at work: not one per depth."""
    network = make("resnet")
    chains = [lesions.chain(network), *single_deletions(network)]
    if shuffled:
        chains = [chains[i] for i in torch.randperm(len(chains), generator=torch.Generator().manual_seed(0)).tolist()]
    images, alive, most = BATCHES[0][0], {}, [0]
    visits = [0]
    forward = lesions.Network.block

    def counting(self, name):
        block = forward(self, name)

        def run(x, route):
            visits[0] += 1
            y = block(x, route)
            key = id(y)
            alive[key] = weakref.ref(y, lambda _: alive.pop(key, None))
            most[0] = max(most[0], len(alive))
            return y

        return run

    monkeypatch.setattr(lesions.Network, "block", counting)
    with torch.no_grad():
        for _ in lesions.logits_of_chains(network, chains, images):
            pass
    depth = len(network.blocks)
    # x and y of the block at work, and at most two kept ones.
    assert most[0] <= 4 < depth
    assert visits[0] < 0.7 * depth * len(chains), "prefixes are shared"


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 3, 16, 16), torch.zeros(0, dtype=torch.long))]])
def test_no_samples_are_an_error(batches):
    network = make("resnet")
    with pytest.raises(ValueError, match="no samples"):
        lesions.error_rates(network, [lesions.chain(network)], batches)
    assert not network.training


def test_no_chains_have_no_errors():
    assert lesions.error_rates(make("vgg"), [], BATCHES) == []


@pytest.mark.parametrize(("arguments", "message"), [
    ({"routes": {"stage9_block9": "shortcut"}}, "stage9_block9"),
    ({"order": ["stage1_block1"]}, "order must name each"),
    ({"order": ["stage1_block1"] * 9}, "order must name each"),
])  # fmt: skip
def test_a_chain_refuses_what_the_network_lacks(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesions.chain(make("resnet"), **arguments)


def test_shared_prefixes_are_counted():
    chain = lesions.chain(make("resnet"))
    other = lesions.chain(make("resnet"), {chain[3][0]: "shortcut"})
    assert lesions.shared_prefix(chain, chain) == 9
    assert lesions.shared_prefix(chain, other) == lesions.shared_prefix(other, chain) == 3
    assert lesions.shared_prefix(chain, chain[:4]) == 4
    assert lesions.shared_prefix((), chain) == 0


# --- folding ---


def folded_logits(network, images, dtype):
    with torch.no_grad():
        copy = folded(network, dtype)
        assert not copy.training
        return copy, copy(images.to(dtype)).float()


def norms(network):
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_folding_changes_rounding_alone_and_not_the_original(network):
    images, before = BATCHES[0][0], state_of(network)
    with torch.no_grad():
        expected = network(images)
        copy, found = folded_logits(network, images, torch.float32)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        _, coarse = folded_logits(network, images, torch.bfloat16)
        torch.testing.assert_close(coarse, expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))
        assert torch.equal(network(images), expected)
    assert same_state(state_of(network), before)
    if norms(network):
        assert norms(copy) < norms(network), "nothing was folded, so this test shows nothing"
    mine = {tensor.data_ptr() for tensor in network.parameters()}
    assert not any(tensor.data_ptr() in mine for tensor in copy.parameters())


def test_a_folded_network_takes_lesions():
    network = make("resnet")
    chains = single_deletions(network)
    found = clever(folded(network), chains, BATCHES[0][0])
    for one, other in zip(found, clever(network, chains, BATCHES[0][0]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_folding_a_network_in_training_leaves_it_there():
    network = make("resnet").train()
    assert not folded(network).training
    assert network.training


@torch.no_grad()
def test_blocks_inside_blocks_are_lesioned_by_their_dotted_names():
    """A chain whose second block has two paths: as full passes with the same routes set."""
    torch.manual_seed(0)
    paths = parallel({"a": (torch.nn.Conv2d(4, 2, 1), 2), "b": (torch.nn.Conv2d(4, 2, 3, padding=1), 2)})
    blocks = {
        "first": Block(torch.nn.Conv2d(4, 4, 3, padding=1)),
        "mixed": Block(paths, merge="replace"),
        "last": Block(torch.nn.Conv2d(4, 4, 1)),
    }
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    network = Network(torch.nn.Conv2d(3, 4, 1), blocks, head).eval()
    images = torch.randn(3, 3, 5, 5)
    lesions_ = [
        {},
        {"mixed.branch.a": "shortcut"},
        {"mixed.branch.b": "shortcut", "last": "shortcut"},
        {"mixed.branch.a": "shortcut", "mixed.branch.b": "shortcut", "first": "branch"},
        {"mixed": "shortcut", "mixed.branch.a": "shortcut"},
    ]
    chains = [lesions.chain(network, routes) for routes in lesions_]
    for routes, found in zip(lesions_, clever(network, chains, images), strict=True):
        with routed(network, routes):
            assert torch.equal(found, network(images)), routes
    assert [block.route for _, block in network.every_block()] == ["both"] * 5
    with pytest.raises(ValueError, match=r"no block 'mixed.branch.c'"):
        lesions.chain(network, {"mixed.branch.c": "shortcut"})


# --- orders: which blocks may change places, and how they are shuffled ---


def test_interchangeable_blocks_of_a_residual_network_share_their_stage():
    network = make("resnet")
    assert lesions.interchangeable(network, BATCHES[0][0]) == [
        ["stage1_block1", "stage1_block2", "stage1_block3"],
        ["stage2_block2", "stage2_block3"],
        ["stage3_block2", "stage3_block3"],
    ]


def test_interchangeable_blocks_of_a_plain_network_pool_nothing():
    # conv1_2, conv2_2 and conv3_3 end in pooling, conv1_1, conv2_1, conv3_1 and conv4_1 widen, the last one flattens.
    found = lesions.interchangeable(make("vgg"), BATCHES[0][0])
    assert found == [["conv4_2", "conv4_3", "conv5_1", "conv5_2"]]


def test_looking_for_interchangeable_blocks_writes_nothing(network):
    expected = lesions.interchangeable(network, BATCHES[0][0])
    network.train()
    before = state_of(network)
    try:
        assert lesions.interchangeable(network, BATCHES[0][0]) == expected
        assert same_state(state_of(network), before), "running statistics are as they were"
    finally:
        network.eval()


def test_any_order_of_interchangeable_blocks_fits(network):
    images, generator = BATCHES[0][0], torch.Generator().manual_seed(0)
    names, groups = list(network.blocks), lesions.interchangeable(network, images)
    for _ in range(5):
        order = lesions.swapped(names, groups, 20, generator) if groups else names
        assert naive(network, lesions.chain(network, order=order), images).shape == (7, 10)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 10_000))
def test_swaps_stay_within_their_group(swaps, seed):
    names = list("abcdefgh")
    groups = [["b", "c", "d"], ["f", "h"]]
    before = list(names)
    order = lesions.swapped(names, groups, swaps, torch.Generator().manual_seed(seed))
    assert names == before
    assert sorted(order) == names
    for group in (*groups, ["a"], ["e"], ["g"]):
        places = [names.index(name) for name in group]
        assert sorted(order[place] for place in places) == sorted(group)
    if swaps == 0:
        assert order == names
    if swaps == 1:
        assert sum(a != b for a, b in zip(order, names, strict=True)) == 2, "one exchange moves exactly two"
    assert order == lesions.swapped(names, groups, swaps, torch.Generator().manual_seed(seed))
