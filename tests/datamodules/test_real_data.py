"""The real thing, where it lies beside the checkout: skipped elsewhere."""

from pathlib import Path

import pytest

import datamodules

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not (DATA / "cifar10").is_dir(), reason="no CIFAR-10 beside the checkout")
def test_cifar10_as_jpeg() -> None:
    data = datamodules.load("cifar10", DATA / "cifar10")
    assert data.name == "cifar10-jpeg75"
    assert (len(data.train), len(data.val), len(data.test)) == (45_000, 5_000, 10_000)
    assert data.train.labels.bincount().tolist() == [4_500] * 10
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.001)  # as usually quoted
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.003), "JPEG takes a little contrast away"


@pytest.mark.skipif(not (DATA / "mnist10k").is_dir(), reason="no MNIST beside the checkout")
def test_mnist_of_10k_images_is_not_called_mnist() -> None:
    data = datamodules.load("mnist", DATA / "mnist10k")
    assert data.name == "mnist10k"
    assert (len(data.train) + len(data.val), len(data.test)) == (8_000, 2_000)
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, 28)
