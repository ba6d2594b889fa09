"""Under a Trainer built without a thought, in one process and in two: each image as often as it should come."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

import datamodules
from datamodules import ImageData
from datamodules import images as image_data
from modules import build

ROOT = Path(__file__).parents[2]

# A network of one layer that writes down which images its process sees; run by this file, and by two processes at once.
# The test split has an odd number of images, and ranks have different numbers of evaluation batches.
RECORDER = """
import sys
from pathlib import Path
import lightning, torch
import datamodules
from datamodules import images as image_data
from modules.training.classifier import Classifier

def loaded(kind):
    data = datamodules.load("digits", cache=False, batch_size=200)
    data.test = data.test[torch.arange(449)]
    return data if kind == "digits" else datamodules.make(data, "distorted_digits", kind="RTS")

class Recorder(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 10)
        self.seen = {"train": [], "val": [], "test": []}
    def training_step(self, batch, index):
        images, labels = batch
        self.seen["train"].append(images.clone())
        return torch.nn.functional.cross_entropy(self.layer(images.mean((2, 3))), labels)
    def validation_step(self, batch, index):
        self.seen["val"].append(batch[0].clone())
    def test_step(self, batch, index):
        self.seen["test"].append(batch[0].clone())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def plain(**options):
    image_data.EVALUATION_BATCH_SIZE = 32
    return lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, check_val_every_n_epoch=2, **options,
    )

def record(kind, file, **options):
    module, trainer, data = Recorder(), plain(**options), loaded(kind)
    trainer.fit(module, data)
    module.seen["fit val"], module.seen["val"] = module.seen["val"], []
    trainer.validate(module, data, verbose=False)
    trainer.test(module, data, verbose=False)
    torch.save({**module.seen, "weight": module.layer.weight.detach()}, f"{file}-{trainer.global_rank}.pt")

def classify(file, **options):
    module, trainer, data = Classifier("resnet20", {"width": 2}), plain(**options), loaded("digits")
    trainer.fit(module, data)
    tested = trainer.test(module, data, verbose=False)[0]
    images = {split: module.sums.totals(split)["images"] for split in ("train", "val", "test")}
    if trainer.is_global_zero:
        weights = module.network.state_dict()
        torch.save({"steps": trainer.global_step, "images": images, "weights": weights, **tested}, file)

if __name__ == "__main__":
    folder, two = Path(sys.argv[1]), {"devices": 2, "strategy": "ddp"}
    for kind in ("digits", "made"):
        record(kind, folder / f"two-{kind}", **two)
    classify(folder / "classifier.pt", **two)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder with what one process saw, and each of two."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "recorder.py").write_text(RECORDER)
    command = [sys.executable, folder / "recorder.py", folder]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    space: dict[str, Any] = {"__name__": "recorder"}
    exec(RECORDER, space)
    before = image_data.EVALUATION_BATCH_SIZE
    for kind in ("digits", "made"):
        space["record"](kind, folder / f"one-{kind}", devices=1)
    image_data.EVALUATION_BATCH_SIZE = before
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


def trainer(**options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["digits", "made"])
def test_overfitting_shows_the_same_batches_in_every_epoch(kind: str) -> None:
    space: dict[str, Any] = {"__name__": "recorder"}
    exec(RECORDER, space)
    module, data = space["Recorder"](), space["loaded"](kind)
    trainer(max_epochs=2, overfit_batches=3).fit(module, data)
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
    data.trainer = Parallel()  # type: ignore[assignment]
    assert len(next(iter(data.train_dataloader()))[0]) == 32
    assert sum(len(labels) for _, labels in data.test_dataloader()) in (112, 113)
