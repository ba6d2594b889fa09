"""The Classifier as users of Lightning use it: validate, fit and test in any order, auxiliary heads, sequences."""

import pytest
import torch
from test_lightning import trainer

from datamodules import ImageData
from modules.training.classifier import Classifier
from modules.training.epoch_sums import EpochSums


def classifier(name: str, classes: int = 10, **arguments: object) -> Classifier:
    return Classifier(name, arguments, {"learning_rate": 0.01}, classes, 1)


def test_validate_fit_and_test_in_any_order(digits: ImageData) -> None:
    module, loop = classifier("resnet20", width=2), trainer(limit_train_batches=3)
    loop.validate(module, digits, verbose=False)
    loop.fit(module, digits)
    tested = loop.test(module, digits, verbose=False)[0]
    assert loop.test(module, digits, verbose=False)[0] == tested, "nothing is left over from the first time"
    loop.fit_loop.max_epochs = 2
    loop.fit(module, digits)
    assert loop.test(module, digits, verbose=False)[0] != tested


def test_auxiliary_heads_take_part_in_training_alone(digits: ImageData) -> None:
    module = classifier("googlenet_cifar", width=4, auxiliary=True)
    before = {name: p.clone() for name, p in module.network.named_parameters() if name.startswith("auxiliary.")}
    assert before
    loop = trainer(limit_train_batches=3)
    loop.fit(module, digits)
    after = dict(module.network.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert 0 <= loop.test(module, digits, verbose=False)[0]["test/top1_error"] <= 100


def test_counts_are_exact_beyond_single_precision() -> None:
    sums = EpochSums(("pixels",))
    sums.add("val", {"pixels": 2**24})
    sums.add("val", {"pixels": 1})
    assert sums.totals("val") == {"pixels": 2**24 + 1}


def test_a_sequence_is_wrong_if_any_of_its_places_is() -> None:
    module = classifier("resnet20", classes=3, width=2)
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 1], [2, 2], [1, 0]]), 3).float().transpose(1, 2)
    labels = torch.tensor([[0, 1], [2, 1], [0, 1]])
    module._update("val", torch.tensor(0.5), logits, labels)
    totals = module.sums.totals("val")
    assert (totals["images"], totals["top1_error"]) == (3, 2)
    assert totals["loss"] == pytest.approx(1.5)
