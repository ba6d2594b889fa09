"""Images made on the fly: a function of seed, epoch and row, for any batches, ranks, processes and resumption."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recorder import Recorder, fit
from torch import Tensor
from written_files import random_images, write_parquet_folder

import datamodules
from datamodules import DataError, ImageData
from datamodules.augment import normalise
from datamodules.images import channel_statistics
from datamodules.made.made_data import MadeData, chosen

ALL = {"distorted_digits": {"kind": "RTS"}, "digit_addition": {}, "same_digits": {"patches": 3}}
ALL |= {"digit_sequences": {}, "two_parts": {"patches": 2}}


def made(source: ImageData, name: str = "distorted_digits", **arguments: Any) -> MadeData:
    return datamodules.make(source, name, **{**ALL[name], **arguments})


class Place:
    def __init__(self, rank: int, world_size: int) -> None:
        self.distributed_sampler_kwargs = {"rank": rank, "num_replicas": world_size}


def by_row(data: MadeData, epoch: int, batch_size: int, world_size: int = 1) -> dict[int, Tensor]:
    """Row of the training split -> the image that training saw in an epoch."""
    seen: dict[int, Tensor] = {}
    for rank in range(world_size):
        data.batch_size, data.trainer = batch_size, Place(rank, world_size)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            images, _ = data.on_after_batch_transfer(batch, 0)
            rows = batch["rows"] if batch["rows"].ndim == 1 else batch["rows"][:, 0]
            seen |= dict(zip(rows.tolist(), images, strict=True))
    data.trainer = None
    return seen


def test_a_split_of_a_seed_is_that_of_the_source(source: ImageData) -> None:
    usual, own = made(source), made(datamodules.load("digits", split_seed=3, train_images=50, cache=False))
    assert (len(own.train), own.whole_train) == (50, len(usual.train))
    assert not torch.equal(own.test.images, usual.test.images)
    assert own.identity == made(datamodules.load("digits", train_images=50, cache=False)).identity_of(3)
    assert (
        made(datamodules.load("digits", split_seed=3, cache=False)).identity == usual.identity_of(3) != usual.identity
    )


@pytest.mark.parametrize("name", ["distorted_digits", "digit_addition", "same_digits", "digit_sequences"])
def test_a_sample_depends_on_seed_epoch_and_row_alone(source: ImageData, name: str) -> None:
    data = made(source, name)
    data.seed = 5
    seen = by_row(data, epoch=3, batch_size=100)
    for batch_size, world_size in ((64, 1), (100, 2), (96, 3)):
        others = by_row(made_like(data), 3, batch_size, world_size)
        shared = seen.keys() & others.keys()
        assert len(shared) > 1000
        assert all(torch.equal(seen[row], others[row]) for row in shared)
    rows = torch.tensor([7, 300])
    told = data.described(3, rows)
    again = normalise(data.maker.paint(data._digits.images[..., 0], told), data.mean, data.std)
    assert all(torch.equal(image, seen[row]) for row, image in zip(rows.tolist(), again, strict=True) if row in seen)
    shared = seen.keys() & by_row(data, 4, 100).keys()
    other_seed = made_like(data)
    other_seed.seed = 6
    for others in (by_row(data, 4, 100), by_row(other_seed, 3, 100)):
        same = [torch.equal(seen[row], others[row]) for row in seen.keys() & others.keys()]
        assert sum(same) < 0.2 * len(same), "another epoch or seed is another image (but empty numbers stay empty)"


def made_like(data: MadeData) -> MadeData:
    other = MadeData(datamodules.load("digits", cache=False), data.maker)
    other.seed = data.seed
    return other


@pytest.mark.parametrize("name", ALL)
def test_fixed_images_belong_to_no_run(source: ImageData, name: str) -> None:
    one, other = made(source, name), made(datamodules.load("digits", seed=9, batch_size=7, cache=False), name)
    assert one.identity == other.identity
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(one, split).images, getattr(other, split).images)
        assert torch.equal(one.truth[split]["labels"], getattr(one, split).labels)
        assert len(getattr(one, split)) == len(getattr(source, split))
        assert all(len(values) == len(getattr(one, split)) for values in one.truth[split].values())
    assert (one.mean, one.std) == channel_statistics(one.train.images)
    images = torch.cat([images for images, _ in one.evaluation_batches("test", batch_size=77)])
    assert torch.equal(images, normalise(one.test.images, one.mean, one.std))
    assert one.test.labels.min() >= 0
    assert one.test.labels.max() < one.num_classes


def test_training_images_may_be_fixed(source: ImageData) -> None:
    data = made(source, fresh=False, angle=180)
    batch = next(iter(data.train_dataloader()))
    images, labels = data.on_after_batch_transfer(batch, 0)
    rows = next(iter(data.train_dataloader().sampler)).indices
    assert torch.equal(images, normalise(data.train.images[rows], data.mean, data.std))
    assert torch.equal(labels, source.train.labels[rows])


def test_identity_tells_what_was_made_of_what(source: ImageData) -> None:
    changes = ({}, {"fresh": False}, {"kind": "R"}, {"angle": 44}, {"size": 42})
    identities = [*(made(source, **each).identity for each in changes), source.identity]
    identities.append(made(datamodules.load("digits", validation=0.2, cache=False)).identity)
    texts = {json.dumps(identity, sort_keys=True) for identity in identities}
    assert len(texts) == len(identities)
    assert len({identity["digest"] for identity in identities}) == 5, "fresh and validation change no digest"
    assert json.loads(json.dumps(identities[0])) == identities[0]
    assert (identities[0]["name"], identities[0]["image_size"]) == ("digits-RTS24", 24)
    plain = datamodules.make(source, "distorted_digits", kind="RTS", scale=[0.7, 1.2])
    assert plain.identity == identities[0], "lists, as JSON has them, are the same"


def test_no_validation_split() -> None:
    data = made(datamodules.load("digits", validation=0, cache=False))
    assert (len(data.val), data.val_dataloader(), set(data.truth)) == (0, [], {"train", "test"})


def test_parquet_digits(tmp_path: Path) -> None:
    labels = torch.arange(80) % 10
    root = write_parquet_folder(tmp_path / "few", random_images(80, 28, 1), labels.numpy())
    data = made(datamodules.load("parquet", root), kind="TC")
    assert (data.name, data.image_size, len(data.test)) == ("few-TC60", 60, 20)


def test_refusals(source: ImageData, tmp_path: Path) -> None:
    root = write_parquet_folder(tmp_path / "colours", random_images(80, 8, 3), (torch.arange(80) % 10).numpy())
    colours = datamodules.load("parquet", root)
    with pytest.raises(DataError, match="colours: RTS12 is made of single digits in grey, which these images are not"):
        made(colours)
    with pytest.raises(DataError, match="digits-sequences32: RTS48 is made of single digits"):
        made(made(source, "digit_sequences"))
    with pytest.raises(ValueError, match="unknown maker 'distorted'; allowed: distorted_digits, digit_addition"):
        datamodules.make(source, "distorted")
    with pytest.raises(ValueError, match=r"two_parts: got an unexpected keyword argument 'kind'; it takes size, room"):
        datamodules.make(source, "two_parts", kind="R")
    with pytest.raises(ValueError, match="batch size 9 does not divide among 2 processes"):
        by_row(made(source), 0, 9, 2)


def test_chosen_rows_have_the_label_and_are_others() -> None:
    labels = torch.tensor([2, 0, 2, 1, 2, 0])
    rows = torch.arange(6).repeat(200)
    draws = torch.rand(1200, generator=torch.Generator().manual_seed(0))
    found = chosen(labels, labels[rows], draws, but=rows)
    assert torch.equal(labels[found], labels[rows])
    partners = {row: set(found[rows == row].tolist()) for row in range(6)}
    assert partners == {0: {2, 4}, 1: {5}, 2: {0, 4}, 3: {3}, 4: {0, 2}, 5: {1}}
    anyone = chosen(labels, torch.full((1200,), 2), draws)
    assert set(anyone.tolist()) == {0, 2, 4}


def test_a_resumed_run_sees_the_same(source: ImageData, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: Path | None = None) -> Recorder:
        data = made(source)
        data.batch_size = 200
        return fit(data, epochs, tmp_path, checkpoint, limit_val_batches=0)

    whole, half = run(2), run(1)
    torch.rand(3)
    rest = run(2, tmp_path / "last.ckpt")
    assert len(whole.seen["train"]) == 12
    resumed = half.seen["train"] + rest.seen["train"]
    assert all(torch.equal(one, other) for one, other in zip(whole.seen["train"], resumed, strict=True))
    assert torch.equal(rest.layer.weight, whole.layer.weight)
