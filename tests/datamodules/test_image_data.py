"""ImageData: splits, statistics, what a network gets, and exact resumption under Lightning."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recorder import fit

from datamodules import Augment, ImageData
from datamodules.augment import normalise
from datamodules.images import channel_statistics
from datamodules.sources.pixels import Decoded, Pixels
from datamodules.splits import stratified_part, stratified_split


def invented(train: int = 110, test: int = 33, size: int = 6) -> Decoded:
    """Two splits of noise in four classes."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Pixels:
        images = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
        return Pixels(images, torch.arange(count) % 4)

    return Decoded(split(train), split(test), num_classes=4)


def image_data(**changes: Any) -> ImageData:
    arguments = {"name": "invented", "digest": "d", "augment": Augment(), "batch_size": 16, **changes}
    return ImageData(invented(), **arguments)


def test_split_is_disjoint_stratified_and_shared_by_all_seeds() -> None:
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 1)
    train, val = stratified_split(labels, 3, 0.1, 0)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(151))
    assert labels[val].bincount(minlength=3).tolist() == [10, 5, 0]
    assert not torch.equal(val, stratified_split(labels, 3, 0.1, 1)[1])
    one, other = image_data(seed=0), image_data(seed=1)
    assert torch.equal(one.val.images, other.val.images)
    assert one.identity == other.identity


@pytest.mark.parametrize("validation", [-0.1, 1.0, 0.99])
def test_split_that_leaves_nothing_is_refused(validation: float) -> None:
    with pytest.raises(ValueError, match=f"validation is {validation}; "):
        stratified_split(torch.tensor([0, 1, 1]), 2, validation, 0)


@pytest.mark.parametrize(
    ("number", "counts"), [(3, [1, 0, 1, 1]), (4, [2, 0, 1, 1]), (15, [9, 0, 5, 1]), (151, [100, 0, 50, 1])]
)
def test_a_part_has_every_class_in_proportion_and_one_image_at_least(number: int, counts: list[int]) -> None:
    labels = torch.tensor([0, 2] * 50 + [0] * 50 + [3])
    for seed in (0, 1):
        rows = stratified_part(labels, number, seed)
        assert labels[rows].bincount(minlength=4).tolist() == counts
        assert rows.tolist() == sorted(set(rows.tolist()))
    assert number == 151 or not torch.equal(rows, stratified_part(labels, number, 0))
    assert torch.equal(stratified_part(torch.stack([labels, labels], 1), number, 1), rows), "of sequences the first"


@pytest.mark.parametrize("number", [-1, 0, 3, 100])
def test_more_images_than_there_are_or_fewer_than_classes_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=rf"train_images is {number}; allowed: 4 \(one of each class\) to 98"):
        image_data(train_images=number)


def test_a_part_of_the_training_images_leaves_the_other_splits_whole() -> None:
    whole, part, other = image_data(), image_data(train_images=20), image_data(train_images=20, split_seed=7)
    assert (len(part.train), part.whole_train, len(whole.train)) == (20, len(whole.train), whole.whole_train)
    seen = {tuple(image.flatten().tolist()) for image in whole.train.images}
    for data in (part, other):
        assert {tuple(image.flatten().tolist()) for image in data.train.images} < seen
        assert torch.equal(data.val.images, whole.val.images)
        assert torch.equal(data.test.images, whole.test.images)
        assert data.mean != whole.mean
        assert data.identity["num_train"] == data.identity["train_images"] == 20
    assert not torch.equal(part.train.images, other.train.images)
    assert other.identity == part.identity_of(7) == part.identity | {"drawn_by": 7}
    assert "train_images" not in whole.identity
    assert whole.identity_of(7) == whole.identity == image_data(split_seed=7).identity, "no split depends on it"


def test_images_without_a_test_split_of_their_own_are_split_anew_by_each_seed() -> None:
    usual, *seeds = (image_data(drawn_test=True, split_seed=seed) for seed in (None, 0, 1))
    for data in seeds:
        sizes = [len(split.labels) for split in (data.train, data.val, data.test)]
        assert sizes == [len(split.labels) for split in (usual.train, usual.val, usual.test)]
        assert data.test.labels.bincount().tolist() == usual.test.labels.bincount().tolist()
        pooled = [torch.cat([each.train.images, each.val.images, each.test.images]) for each in (data, usual)]
        assert len({bytes(image.flatten().tolist()) for image in torch.cat(pooled)}) == 110 + 33, "no image is in two"
        assert data.identity == usual.identity_of(data.split_seed) != usual.identity
    images = [{bytes(image.flatten().tolist()) for image in data.test.images} for data in (usual, *seeds)]
    assert images[0] != images[1] != images[2] != images[0]
    assert torch.equal(usual.test.images, image_data().test.images), "as they come"
    part = image_data(drawn_test=True, split_seed=1, train_images=20)
    assert torch.equal(part.test.images, seeds[1].test.images)
    assert part.identity == image_data(drawn_test=True, train_images=20).identity_of(1)


def test_statistics_are_those_of_the_training_split() -> None:
    data = image_data(validation=0.5, train_images=21)
    values = data.train.images.double() / 255
    torch.testing.assert_close(torch.tensor(data.mean).double(), values.mean((0, 1, 2)), rtol=0, atol=1e-7)
    torch.testing.assert_close(torch.tensor(data.std).double(), values.std((0, 1, 2), correction=0), rtol=0, atol=1e-7)
    assert channel_statistics(torch.zeros(2, 3, 3, 1, dtype=torch.uint8)) == ((0.0,), (1.0,))


def test_identity_can_be_written_and_names_what_matters() -> None:
    data = image_data(augment=Augment(4, True), validation=0.2)
    identity = json.loads(json.dumps(data.identity))
    assert identity == data.identity
    assert identity["augment"] == {"pad": 4, "flip": True}
    assert identity != image_data(augment=Augment(4)).identity
    assert identity != image_data(augment=Augment(4, True)).identity


def test_training_batch_is_augmented_by_its_draws_and_normalised() -> None:
    data = image_data(augment=Augment(2, True))
    images, labels, draws = next(iter(data.train_dataloader()))
    assert (images.dtype, images.shape, draws.shape) == (torch.uint8, (16, 3, 6, 6), (16, 3))
    assert images.is_contiguous(memory_format=torch.channels_last)
    result, same_labels = data.on_after_batch_transfer((images, labels, draws), 0)
    fill = (torch.tensor(data.mean) * 255).round().to(torch.uint8)
    assert torch.equal(result, normalise(data.augment(images.permute(0, 2, 3, 1), draws, fill), data.mean, data.std))
    assert torch.equal(labels, same_labels)


def test_evaluation_batches() -> None:
    data = image_data(augment=Augment(2, True))
    batches = list(data.evaluation_batches("test", batch_size=10))
    assert [len(labels) for _, labels in batches] == [10, 10, 10, 3]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal(images, normalise(data.test.images, data.mean, data.std))
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        from_loader = [images for images, _ in loader]
        assert torch.equal(torch.cat(from_loader), images), "what a network takes, without a Trainer and its hook"
        assert [data.on_after_batch_transfer((batch, None), 0)[0] is batch for batch in from_loader] == [True]


def test_evaluation_batches_of_a_limited_number() -> None:
    data = image_data()
    some = torch.cat([labels for _, labels in data.evaluation_batches("train", limit=20)])
    again = torch.cat([labels for _, labels in data.evaluation_batches("train", batch_size=7, limit=20)])
    assert torch.equal(some, again)
    assert len(some) == 20
    assert len(list(data.evaluation_batches("test", batch_size=33, limit=1000))) == 1
    for arguments, message in (
        ({"split": "dev"}, "split 'dev'; allowed: train, val, test"),
        ({"split": "val", "limit": 0}, "limit is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            data.evaluation_batches(**arguments)
    with pytest.raises(ValueError, match="the val split of invented is empty"):
        image_data(validation=0).evaluation_batches("val")


def test_interrupted_training_sees_the_same_batches(tmp_path: Path) -> None:
    augment = Augment(1, True)
    whole = fit(image_data(augment=augment), 4, tmp_path)
    first = fit(image_data(augment=augment), 2, tmp_path)
    torch.rand(7)  # a resumed process has another random state
    second = fit(image_data(augment=augment), 4, tmp_path, tmp_path / "last.ckpt")
    assert second.epochs == [2] * 6 + [3] * 6
    assert first.epochs + second.epochs == whole.epochs
    resumed = first.seen["train"] + second.seen["train"]
    assert all(torch.equal(one, other) for one, other in zip(whole.seen["train"], resumed, strict=True))
    assert not torch.equal(whole.seen["train"][0], whole.seen["train"][6]), "the sampler must be told the epoch"
    assert torch.equal(whole.layer.weight, second.layer.weight)
    assert sum(map(len, whole.seen["val"])) == 4 * len(image_data().val)


def test_training_without_a_validation_split(tmp_path: Path) -> None:
    model = fit(image_data(validation=0), 1, tmp_path)
    assert (len(model.seen["train"]), model.seen["val"]) == (6, [])


def test_ranks_of_a_trainer_share_the_batch() -> None:
    class Place:
        distributed_sampler_kwargs = {"num_replicas": 3, "rank": 1}  # noqa: RUF012

    data = image_data(batch_size=16)
    data.trainer = Place()
    with pytest.raises(ValueError, match="batch size 16 does not divide among 3 processes"):
        data.train_dataloader()
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 11
    data.batch_size = 15
    share = next(iter(data.train_dataloader()))
    data.trainer = None
    everything = next(iter(data.train_dataloader()))
    assert all(torch.equal(part, whole[5:10]) for part, whole in zip(share, everything, strict=True))
