"""The watch of spatial transformers: what whole runs log, exactness of training and resume, shares of two processes."""

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ablations.harness.training import train as training
from ablations.harness.training.callbacks import Diverged
from ablations.harness.training.train import train
from ablations.harness.training.transformer_watch import SHARES, Seen, TransformerWatch, counts, watches
from ablations.harness.training.units import unit
from modules import Network, build
from modules.blocks.spatial_transformer import SpatialTransformer

SMALL = {"image_size": 16, "num_parameters": 100_000}


def network(name: str = "st_fcn", theta: list[float] | None = None, **arguments: Any) -> Network:
    """A small network, all of whose transformers give `theta`."""
    torch.manual_seed(0)
    found = build(name, 10, 1, **{**SMALL, **arguments})
    for module in found.modules():
        if isinstance(module, SpatialTransformer) and theta is not None:
            with torch.no_grad():
                module.localisation.get_parameter("theta.bias").copy_(torch.tensor(theta))
    return found


class Logged(lightning.LightningModule):
    """Stands for the module, and its trainer, whose epoch the watch logs."""

    def __init__(self, other: torch.Tensor | float = 0.0) -> None:
        super().__init__()
        self.values: dict[str, float] = {}
        self.strategy, self.root_device, self.other = self, torch.device("cpu"), other

    def reduce(self, sums: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "sum"
        return sums + self.other

    def log_dict(self, values: Any) -> None:
        self.values = {name.removeprefix("train/"): value.item() for name, value in values.items()}


def epoch(watched: nn.Module, watch: TransformerWatch, sizes: tuple[int, ...], other: Any = 0.0) -> dict[str, float]:
    """What an epoch of batches of these sizes logs."""
    logged = Logged(other)
    watch.on_train_epoch_start(logged)
    torch.manual_seed(1)
    for size in sizes:
        watch.on_train_batch_start()
        watched(torch.rand(size, 1, 16, 16))
        watch.on_train_batch_end()
    watch.on_train_epoch_end(logged, logged)
    return logged.values


@pytest.mark.parametrize(("theta", "expected"), [
    ([1.0, 0, 0, 0, 1, 0], (0, 0, 0, 0)),
    ([1.0, 0, 5, 0, 1, 0], (100, 100, 0, 100)),
    ([0.0, 0, 0, 0, 0, 0], (0, 100, 100, 0)),
    ([1.0, 0, 1, 0, 1, 0], (0, 0, 0, 50)),
], ids=["identity", "outside", "no size", "half outside"])  # fmt: skip
def test_shares_of_an_epoch(theta: list[float], expected: tuple[float, ...]) -> None:
    watched = network(theta=theta)
    watch = TransformerWatch(watched)
    values = epoch(watched, watch, (5, 3))
    assert values == dict(zip(SHARES, expected, strict=True))
    assert epoch(watched, watch, (2,)) == values, "an epoch begins at zero"


def test_only_the_first_call_of_a_step_and_only_training_counts() -> None:
    watched = network()
    watch = TransformerWatch(watched)
    seen = watch.seen[0]
    watched.eval()(torch.rand(2, 1, 16, 16))
    assert seen.found == ()
    watched.train()(torch.rand(3, 1, 16, 16))
    first = seen.found
    watched(torch.rand(4, 1, 16, 16))
    assert seen.found is first
    assert [len(each) for each in first] == [3, 3, 3, 3]
    assert not any(each.requires_grad for each in first)


def test_a_blank_image_is_no_failure_of_the_transformer() -> None:
    watched = network(theta=[1.0, 0, 5, 0, 1, 0])
    found = TransformerWatch(watched).seen[0]
    watched.train()(torch.cat([torch.rand(3, 1, 16, 16), torch.zeros(2, 1, 16, 16)]))
    samples, outside, blank, *_ = counts(found.transformer, *found.found).tolist()
    assert (samples, outside, blank) == (5, 5, 3)


def test_every_transformer_counts_and_two_processes_add_up() -> None:
    watched = network(num_transformers=2, transform="translation")
    last = [module for module in watched.modules() if isinstance(module, SpatialTransformer)][1]
    nn.init.constant_(last.localisation.get_parameter("theta.bias"), 3.0)
    watch = TransformerWatch(watched)
    assert len(watch.seen) == 2
    assert epoch(watched, watch, (4, 4))["transformers_outside"] == 50
    # Another process with 24 samples more, all of them blank: not the mean of the two shares.
    values = epoch(watched, watch, (4, 4), torch.tensor([24.0, 0, 24, 0, 0]).double())
    assert values["transformers_outside"] == 100 * 8 / 40
    assert values["transformers_blank"] == 100 * (8 + 24) / 40


def test_other_networks_are_not_watched() -> None:
    assert watches(network("fcn")) == []
    assert len(watches(network("st_cnn_tps"))) == 1


@pytest.mark.parametrize("name", ["st_fcn_affine", "st_cnn_projective", "st_fcn_tps"])
def test_a_compiled_network_stays_whole_and_is_seen(name: str) -> None:
    watched, images = network(name).train(), torch.rand(4, 1, 16, 16)
    for module in watched.modules():
        if isinstance(module, SpatialTransformer):
            nn.init.normal_(module.localisation.get_parameter("theta.weight"), std=0.2)
    (seen,) = TransformerWatch(watched).seen
    expected_logits = watched(images)
    expected, seen.found = seen.found, ()
    torch.compiler.reset()
    watched.compile(backend="aot_eager", fullgraph=True)
    for _ in range(2):
        logits = watched(images)
        logits.sum().backward()
        assert torch.equal(logits, expected_logits)
        assert len(seen.found) == 4
        assert all(torch.equal(one, other) for one, other in zip(seen.found, expected, strict=True))
        assert counts(seen.transformer, *seen.found)[0] == 4
        seen.found = ()
    torch.compiler.reset()


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return [
            {name: value for name, value in row.items() if not name.endswith(("seconds", "per_second"))}
            for row in csv.DictReader(stream)
        ]


def test_runs_are_watched_without_a_change_and_resume_exactly(
    tiny: Any, digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = digits.image_size
    arguments = {"image_size": size, "num_parameters": 60_000, "scale": 1.5}
    run = tiny("st_fcn", arguments, epochs=2, learning_rate=0.01)
    folders = {name: run.folder(tmp_path / name) for name in ("whole", "resumed", "unwatched")}

    def go(name: str) -> None:
        train(run, digits, tmp_path / name, show_progress=False)

    go("whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "watches", lambda _: [])
        go("unwatched")

    def stop(*_: Any) -> None:
        raise Diverged(0, 0)

    with monkeypatch.context() as patch:
        keep = Seen._moved
        patch.setattr(Seen, "_moved", lambda self, *call: keep(self, *call) if not table_is_there() else stop())
        table_is_there = (folders["resumed"] / "metrics.csv").exists
        with pytest.raises(Diverged):
            go("resumed")
    assert len(table(folders["resumed"])) == 1
    go("resumed")

    weights = {name: load_file(folder / "weights.safetensors") for name, folder in folders.items()}
    for name in ("resumed", "unwatched"):
        assert all(torch.equal(weights[name][key], tensor) for key, tensor in weights["whole"].items()), name
    rows = table(folders["whole"])
    assert table(folders["resumed"]) == rows
    columns = {f"train/{name}" for name in SHARES}
    assert table(folders["unwatched"]) == [{k: v for k, v in row.items() if k not in columns} for row in rows]
    assert all(0 < float(row["train/positions_outside"]) < 100 for row in rows), "one and a half images wide"
    assert {unit(column, "st_cnn") for column in columns} == {"%"}
