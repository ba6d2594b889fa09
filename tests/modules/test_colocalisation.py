"""Co-localisation: the triplets, the module around them, and the measure of what is found."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import datamodules
from ablations.harness.estimate import count, estimate
from ablations.harness.store.runs import Run
from ablations.harness.training.train import train
from ablations.probes.transformers.colocalisation import LEAST_OVERLAP, window_overlaps
from datamodules.images import ImageData
from modules import Network, build, removed
from modules.families.colocalisation import (
    JADERBERG2015_PAIRS,
    REACH,
    embedded_crops,
    evaluation_triplets,
    localiser,
    training_triplets,
    triplets,
)

SIZE = 24
RECIPE = replace(JADERBERG2015_PAIRS, epochs=2, batch_size=64, learning_rate=0.02, schedule="linear")


@pytest.fixture(scope="module")
def pairs() -> ImageData:
    return datamodules.make(datamodules.load("digits"), "same_digits", size=SIZE, patches=0)


def made(**arguments: object) -> Network:
    torch.manual_seed(0)
    return build("st_colocalisation", 10, 2, image_size=SIZE, **arguments)


def images_of(data: ImageData, num: int = 8) -> Tensor:
    return next(data.evaluation_batches("test", batch_size=num))[0]


def test_the_loss_is_the_papers_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    windows, crops = torch.rand(5, 3, 2, generator=generator), torch.rand(5, 4, 3, 2, generator=generator)
    crops[0, 0, :, 0] = windows[0, :, 0]  # a crop that is the window: as wrong as can be
    expected, wrong = [], []
    for n in range(5):
        for one, other in ((0, 1), (1, 0)):
            for k in range(4):
                near = sum(float(windows[n, e, one] - windows[n, e, other]) ** 2 for e in range(3))
                far = sum(float(windows[n, e, one] - crops[n, k, e, one]) ** 2 for e in range(3))
                expected.append(max(0.0, near - far + 1))
                wrong.append(far <= near)
    got = triplets(windows, crops)
    assert got.loss().item() == pytest.approx(sum(expected) / len(expected), rel=1e-6)
    assert got.wrong().item() == pytest.approx(sum(wrong) / len(wrong))
    assert 0 < got.wrong().item() < 1


def test_alike_is_not_farther() -> None:
    """An encoder that says the same of everything is wrong in every triplet, and its loss is the margin."""
    got = triplets(torch.ones(3, 4, 2), torch.ones(3, 5, 4, 2))
    assert (got.loss().item(), got.wrong().item()) == (1.0, 1.0)


@pytest.mark.parametrize("encoder", ["thumbnail", "cnn"])
def test_the_gradient_reaches_localiser_and_encoder(encoder: str, pairs: ImageData) -> None:
    network = made(encoder=encoder)
    training_triplets(network, images_of(pairs)).loss().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert gradients["stem.transformer.branch.localisation.theta.weight"].abs().sum() > 0
    encoders = [name for name in gradients if not name.startswith("stem")]
    assert bool(encoders) == (encoder == "cnn")
    assert all(g.abs().sum() > 0 for name, g in gradients.items() if name in encoders and g is not None)


def test_crops_stand_where_draws_say(pairs: ImageData) -> None:
    """Fine thumbnails are the pixels themselves."""
    network, images = made(grid=8, contrast=1.0), images_of(pairs)
    raw = images - images.amin(dim=(2, 3), keepdim=True)
    corner = 0.5 - 0.5 / REACH  # the draw of the upper left edge
    draws = torch.tensor([[[corner, corner], [1 - corner, corner]], [[0.5, 0.5], [0.0, 0.0]]]).expand(8, -1, -1, -1)
    crops = embedded_crops(network, images, draws).unflatten(2, (8, 8))
    torch.testing.assert_close(crops[:, 0, :, :, 0], raw[:, 0, :8, :8])
    torch.testing.assert_close(crops[:, 0, :, :, 1], raw[:, 1, :8, -8:])
    torch.testing.assert_close(crops[:, 1, :, :, 0], raw[:, 0, 8:16, 8:16])
    assert not crops[:, 1, :4, :4, 1].any()  # beyond the image there is background
    # Untrained windows are those in the middle.
    windows = network(images).unflatten(1, (8, 8))
    torch.testing.assert_close(windows[..., 0], raw[:, 0, 8:16, 8:16])
    torch.testing.assert_close(windows[..., 1], raw[:, 1, 8:16, 8:16])


def test_evaluation_is_a_function_of_images_and_weights(pairs: ImageData) -> None:
    network, images = made().eval(), images_of(pairs)
    with torch.no_grad():
        torch.manual_seed(1)
        once = evaluation_triplets(network, images)
        again = evaluation_triplets(network, images)
        apart = [evaluation_triplets(network, part) for part in images.split(3)]
        drawn = [training_triplets(network, images) for _ in range(2)]
    assert torch.equal(once.from_crops, again.from_crops)
    torch.testing.assert_close(torch.cat([part.from_crops for part in apart]), once.from_crops)
    assert not torch.equal(drawn[0].from_crops, drawn[1].from_crops)


class Answers(nn.Module):
    """A localisation network that knows the answers, in the order in which it is asked."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers, self.asked = answers, 0

    def forward(self, features: Tensor) -> Tensor:
        self.asked += len(features)
        return self.answers[self.asked - len(features) : self.asked]


def test_true_boxes_are_found(pairs: ImageData) -> None:
    network = made()
    boxes = pairs.truth["test"]["boxes"]
    middles = (boxes[..., :2] + boxes[..., 2:]).flatten(0, 1) / 2
    localiser(network).localisation.theta = Answers(middles)
    overlaps = window_overlaps(network, pairs)
    assert overlaps.shape == (len(pairs.test), 2)
    torch.testing.assert_close(overlaps, torch.ones_like(overlaps), atol=1e-5, rtol=0)
    # A third of the width beside it, two thirds are in common: of four thirds, half; a little more is a miss.
    localiser(network).localisation.theta = Answers(middles + torch.tensor([1.01 * 2 / 9, 0.0]))
    beside = window_overlaps(network, pairs)
    assert beside.max() < LEAST_OVERLAP
    assert beside.mean() == pytest.approx(0.5, abs=0.01)


def test_an_untrained_network_looks_at_the_middle(pairs: ImageData) -> None:
    before = (window_overlaps(made(), pairs) > LEAST_OVERLAP).double().mean()
    assert 0 < before < 0.2
    with pytest.raises(ValueError, match="does not say where"):
        window_overlaps(made(), datamodules.load("digits"))


def test_the_deleted_transformer_leaves_the_whole_image(pairs: ImageData) -> None:
    network, images = made(grid=2, contrast=1.0), images_of(pairs)
    with torch.no_grad(), removed(network, ["stem.transformer"]):
        whole = network(images)
    shape = (len(images), 4, 2)
    assert whole.shape == shape
    assert (whole.sum(1) > 0).all()  # the digit, wherever it is


def run_of(data: ImageData, epochs: int) -> Run:
    recipe = replace(RECIPE, epochs=epochs)
    return Run("st_colocalisation", {"image_size": SIZE}, recipe, data.identity, 1001, {"accelerator": "cpu"})


@pytest.mark.filterwarnings("ignore")
def test_the_harness_trains_it_and_goes_on_where_it_was_killed(
    pairs: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(pairs, 2)
    timed = estimate(run, pairs, torch.device("cpu"), 1)
    assert timed.training > 0
    done = train(run, pairs, tmp_path / "whole", show_progress=False)
    assert 0 <= done["test/triplet_error"] <= 100
    assert done["test/loss"] > 0

    from ablations.harness.training.callbacks import History

    kept = History.on_train_epoch_end

    def killed(self: History, *arguments: object) -> None:
        kept(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", killed)
        with pytest.raises(KeyboardInterrupt):
            train(run, pairs, tmp_path / "parts", show_progress=False)
    again = train(run, pairs, tmp_path / "parts", show_progress=False)
    assert again["resumed_from_epoch"] == 1
    files = [run.folder(tmp_path / folder) / "weights.safetensors" for folder in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert again["test/triplet_error"] == done["test/triplet_error"]


def test_data_of_single_images_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in_channels is 1; a pair has 2"):
        build("st_colocalisation", 10, 1)
    with pytest.raises(ValueError, match=r"pairs of images.* 2 channels; this data has 3"):
        count(made(), "st_colocalisation", 3, SIZE)
