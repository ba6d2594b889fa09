"""Orders of blocks: which may change places, and how they are shuffled."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import BATCHES, make, naive, same_state, state_of

from ablations.probes.lesions import lesions


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
