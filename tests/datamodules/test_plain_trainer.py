"""Under a Trainer built without a thought, in one process and in two: each image as often as it should come."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recorder import Recorder, loaded, plain, record
from torch import Tensor

import datamodules
from datamodules import ImageData
from datamodules import images as image_data
from modules import build

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, python: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    """A folder with what one process saw, and each of two."""
    folder = tmp_path_factory.mktemp("recorded")
    ended = python(HERE / "recorder.py", folder)
    assert ended.returncode == 0, ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_data, "EVALUATION_BATCH_SIZE", image_data.EVALUATION_BATCH_SIZE)  # put back
        for kind in ("digits", "made"):
            record(kind, folder / f"one-{kind}", devices=1)
    return folder


def images_of(batches: list[Tensor]) -> list[bytes]:
    return sorted(image.numpy().tobytes() for batch in batches for image in batch)


@pytest.mark.parametrize("kind", ["digits", "made"])
def test_two_processes_of_a_plain_trainer_see_what_one_sees(recorded: Path, kind: str) -> None:
    one, *two = (
        torch.load(recorded / f"{name}-{kind}-{rank}.pt", weights_only=True)
        for name, rank in (("one", 0), ("two", 0), ("two", 1))
    )
    assert len(one["train"]) == 12
    joined = [torch.cat(shares) for shares in zip(two[0]["train"], two[1]["train"], strict=True)]
    assert all(torch.equal(whole, shares) for whole, shares in zip(one["train"], joined, strict=True))
    assert not torch.equal(one["train"][0], one["train"][6]), "Lightning must announce the epoch to the sampler"
    torch.testing.assert_close(two[0]["weight"], one["weight"], rtol=1e-4, atol=1e-6)
    for stage, num_images in (("fit val", 136), ("val", 136), ("test", 449)):
        assert images_of(one[stage]) == images_of(two[0][stage] + two[1][stage])
        assert sum(map(len, one[stage])) == num_images
    assert len(two[0]["test"]) != len(two[1]["test"])


def test_a_classifier_of_two_processes_trains_on_all_and_counts_every_image_once(recorded: Path) -> None:
    found = torch.load(recorded / "classifier.pt", weights_only=True)
    data = datamodules.load("digits", cache=False)
    assert found["steps"] == 2 * (len(data.train) // 200)
    assert found["images"] == {"train": 200 * (len(data.train) // 200), "val": 136, "test": 449}
    network = build("resnet20", 10, 1, width=2).to(memory_format=torch.channels_last).eval()
    network.load_state_dict(found["weights"])
    with torch.no_grad():
        wrong = [(network(images).argmax(1) != labels) for images, labels in data.test_dataloader()]
    assert found["test/top1_error"] == 100 * int(torch.cat(wrong)[:449].sum()) / 449


@pytest.mark.parametrize("kind", ["digits", "made"])
def test_overfitting_shows_the_same_batches_in_every_epoch(kind: str) -> None:
    module = Recorder()
    plain(max_epochs=2, overfit_batches=3).fit(module, loaded(kind))
    seen = module.seen["train"]
    assert [len(images) for images in seen] == [200] * 6
    assert all(torch.equal(seen[index], seen[index + 3]) for index in range(3))
    assert not torch.equal(seen[0], seen[1])


def test_shares_belong_to_the_data_processes_of_the_trainer() -> None:
    class Parallel:
        """Eight processes, of which each two hold parts of one network and need the same images."""

        world_size, global_rank = 8, 5
        distributed_sampler_kwargs = {"num_replicas": 4, "rank": 2}  # noqa: RUF012

    data: ImageData = datamodules.load("digits", cache=False)
    data.trainer = Parallel()
    assert len(next(iter(data.train_dataloader()))[0]) == 32
    assert sum(len(labels) for _, labels in data.test_dataloader()) in (112, 113)
