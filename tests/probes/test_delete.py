"""Probes of deleted and shuffled blocks: what they ask of which images, and that the seed decides what is drawn."""

import pytest
import torch
from answers import asked

from ablations.probes.lesions.delete import DeleteEach, LesionsAtRandom
from modules import build, removed


def resnet():
    torch.manual_seed(0)
    return build("resnet_cifar", 10, 1, depth=14, width=2).eval()


@torch.no_grad()
def test_each_block_is_deleted_and_each_that_adds_loses_its_shortcut_too(digits):
    network = resnet()
    found = asked(DeleteEach(limit=60, shortcuts=True), network, digits)
    ((images, labels),) = digits.evaluation_batches("test", limit=60)
    assert [row.probe for row in found] == ["intact", *["delete", "delete_shortcut"] * 6]
    deleted = found.where(probe="delete", metric="test/top1_error")
    for position, (name, row) in enumerate(zip(network.blocks, deleted, strict=True), start=1):
        with removed(network, [name]):
            wrong = int((network(images).argmax(1) != labels).sum())
            assert row.value == 100 * wrong / 60
        reshapes = "yes" if position in (3, 5) else "no"
        assert dict(row.fields) == {"block": name, "position": str(position), "changes_shape": reshapes}
    torch.manual_seed(0)
    vgg = build("vgg_cifar", 10, 1, width=2, hidden=8, num_pools=3)
    assert not asked(DeleteEach(limit=60, shortcuts=True), vgg, digits).where(probe="delete_shortcut")


def test_training_images_and_layers_behind_a_stem(digits):
    found = asked(DeleteEach(split="train", limit=60, stem_layers=1), resnet(), digits)
    assert {row.metric for row in found} == {"train/top1_error"}
    assert [row.fields["layer"] for row in found.where(probe="delete")] == list("234567")
    assert not found.where(probe="delete_shortcut")
    with pytest.raises(ValueError, match=r"--probe\.split must be one of train, test, got 'val'"):
        DeleteEach(split="val")
    with pytest.raises(ValueError, match=r"--probe\.limit 0: give 1 or more"):
        DeleteEach(limit=0)


def test_the_seed_draws_blocks_and_orders(digits):
    probe, network = LesionsAtRandom(most_deleted=9, draws=4, reorderings=5, most_swaps=3, limit=60), resnet()
    found, again, other = (asked(probe, network, digits, seed) for seed in (1, 1, 2))
    assert found == again
    assert found.values() != other.values()
    deleted, shuffled = found.where(probe="delete_random"), found.where(probe="reorder")
    assert [(row.fields["k"], row.fields["draw"]) for row in deleted] == [
        (k, draw) for k in "123456" for draw in "0123"
    ]
    assert [row.fields["swaps"] for row in shuffled] == list("12312")
    # Two blocks that are neighbours change places: one of 15 pairs is in the other order.
    assert {float(row.fields["tau"]) for row in shuffled.where(swaps=1)} <= {round(1 - 2 / 15, 6)}
    assert all(-1 <= float(row.fields["tau"]) <= 1 for row in shuffled)
    assert len(set(deleted.where(k=6).values())) == 1, "all of them"


def test_blocks_of_which_no_two_have_a_shape_keep_their_order(digits):
    torch.manual_seed(0)
    network = build("resnet_cifar", 10, 1, depth=8, width=2)
    assert {row.probe for row in asked(LesionsAtRandom(draws=1, limit=60), network, digits)} == {"delete_random"}
