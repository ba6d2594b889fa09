"""Order and draws: a function of (seed, epoch), the same for any number of processes."""

import pytest
import torch

from datamodules.order import Batches, BatchIndex, EvaluationBatches


def epoch_of(batches: Batches, epoch: int) -> list[BatchIndex]:
    batches.set_epoch(epoch)
    return list(batches)


def same(one: list[BatchIndex], other: list[BatchIndex]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.indices, b.indices) and torch.equal(a.draws, b.draws) for a, b in zip(one, other, strict=True)
    )


def test_order_is_a_function_of_seed_and_epoch() -> None:
    batches = Batches(50, 8, seed=3)
    epochs = [epoch_of(batches, epoch) for epoch in range(3)]
    assert same(epoch_of(Batches(50, 8, seed=3), 1), epochs[1]), "epochs before it must not matter"
    assert not same(epochs[0], epochs[1])
    assert not same(epoch_of(Batches(50, 8, seed=4), 1), epochs[1])
    torch.rand(5)
    assert same(epoch_of(batches, 2), epochs[2]), "torch's own generator must not matter"


def test_one_epoch_is_a_permutation_less_the_rest() -> None:
    batches = list(Batches(50, 8, seed=0))
    indices = torch.cat([batch.indices for batch in batches])
    assert len(batches) == len(Batches(50, 8, seed=0)) == 6
    assert len(set(indices.tolist())) == len(indices) == 48
    draws = torch.cat([batch.draws for batch in batches])
    assert draws.shape == (48, 3)
    assert len(draws.unique()) == draws.numel(), "no draw is used twice"
    assert 0 <= draws.min() <= draws.max() < 1


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_share_the_global_batch(world_size: int) -> None:
    alone = epoch_of(Batches(50, 8, seed=1), 5)
    ranks = [epoch_of(Batches(50, 8, seed=1, rank=rank, world_size=world_size), 5) for rank in range(world_size)]
    joined = [BatchIndex(*map(torch.cat, zip(*shares, strict=True))) for shares in zip(*ranks, strict=True)]
    assert same(joined, alone)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="batch size 9 does not divide among 2 processes"):
        Batches(50, 9, seed=0, world_size=2)
    with pytest.raises(ValueError, match=r"batch size 128 is larger than the training split \(50 images\)"):
        Batches(50, 128, seed=0)
    with pytest.raises(ValueError, match="batch size 0"):
        Batches(50, 0, seed=0)
    with pytest.raises(ValueError, match="batch size 0; allowed: 1 or more"):
        EvaluationBatches(50, 0)


@pytest.mark.parametrize("num_images", [101, 97, 1])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_takes_every_image_once(num_images: int, world_size: int) -> None:
    ranks = [EvaluationBatches(num_images, 10, rank, world_size) for rank in range(world_size)]
    chunks = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(rank) for rank in chunks]
    assert all(len(chunk) <= 10 for rank in chunks for chunk in rank)
    assert sorted(int(row) for rank in chunks for chunk in rank for row in chunk) == list(range(num_images))
