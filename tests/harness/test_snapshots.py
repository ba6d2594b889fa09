"""Weights kept during training: what probes find, and runs that scripts with other wishes share."""

from dataclasses import dataclass, replace
from typing import ClassVar
from unittest.mock import Mock

import pytest
import torch
from tiny_trial import carried_out

from ablations.harness.command.command_line import Options
from ablations.harness.declare.probe import Measurement, Probe
from ablations.harness.execution.execute import carry_out
from ablations.harness.launch import report
from ablations.harness.prepare import prepare
from ablations.harness.store.runs import held, snapshot_files
from modules.weights import read_weights


@pytest.mark.parametrize(
    ("epochs", "snapshots", "kept"),
    [(4, 0, []), (4, 2, [0, 4]), (4, 3, [0, 2, 4]), (4, 5, [0, 1, 2, 3, 4]), (2, 9, [0, 1, 2]), (10, 4, [0, 3, 7, 10])],
)
def test_epochs_are_spread_evenly(tmp_path, epochs, snapshots, kept):
    assert list(snapshot_files(tmp_path, epochs, [snapshots])) == kept


def test_all_who_want_snapshots_get_theirs(tmp_path):
    assert list(snapshot_files(tmp_path, 4, [2, 3, 0])) == [0, 2, 4]
    assert list(snapshot_files(tmp_path, 6, [3, 4])) == [0, 2, 3, 4, 6]


@dataclass(frozen=True, kw_only=True)
class Look(Probe):
    """The weights at every snapshot."""

    snapshots: int = 0
    units: ClassVar = {"x": ""}
    norms: ClassVar = {}

    def ask(self, subject):
        for epoch in subject.snapshots:
            self.norms[epoch] = torch.cat([p.flatten() for p in subject.at(epoch).parameters()]).clone()
        self.norms["now"] = torch.cat([p.flatten() for p in subject.network.parameters()]).clone()
        yield Measurement("asked", "x", 1.0)


def of_one_arm(small_ablation, *snapshots, **recipe):
    """A trial of one tiny arm with probes that want so many snapshots each."""
    ablation = small_ablation(**recipe)
    looks = tuple(Look(snapshots=number) for number in snapshots)
    return replace(ablation, plan=lambda at: replace(ablation.plan(at), probes=looks))


def run_of(out):
    (folder,) = (out / "trained").iterdir()
    return folder


def test_a_probe_sees_the_network_as_it_was(small_ablation, tmp_path):
    assert carried_out(of_one_arm(small_ablation, 3, epochs=3), tmp_path) is False
    norms = Look.norms
    assert list(norms) == [0, 2, 3, "now"]
    assert torch.equal(norms[3], norms["now"])
    assert not torch.equal(norms[0], norms[2])
    assert not torch.equal(norms[2], norms[3])


def test_a_finished_run_without_snapshots_is_replaced_by_its_like(small_ablation, tmp_path, monkeypatch):
    assert carried_out(of_one_arm(small_ablation, 0, epochs=2), tmp_path) is False
    folder = run_of(tmp_path)
    weights = (folder / "weights.safetensors").read_bytes()
    answers = {file.name for file in (folder / "probes").iterdir()}
    # Interrupted while it is trained again: what stood, stands.
    monkeypatch.setattr("ablations.harness.training.train.save_weights", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        carried_out(of_one_arm(small_ablation, 2, epochs=2), tmp_path)
    monkeypatch.undo()
    assert (folder / "done").exists()
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert carried_out(of_one_arm(small_ablation, 2, epochs=2), tmp_path) is False
    assert run_of(tmp_path) == folder
    assert (folder / "weights.safetensors").read_bytes() == weights, "the same run"
    assert answers <= {file.name for file in (folder / "probes").iterdir()}, "answers of the same network are kept"
    assert len(list((folder / "snapshots").iterdir())) == 2
    assert not list((tmp_path / ".again").rglob("done"))


def test_an_unfinished_run_past_wanted_snapshots_begins_again(small_ablation, tmp_path, monkeypatch):
    def stop(self, trainer, *_):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("ablations.harness.training.train.History.on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        carried_out(of_one_arm(small_ablation, 0, epochs=3), tmp_path)
    monkeypatch.undo()
    folder = run_of(tmp_path)
    assert (folder / "last.ckpt").exists()
    assert carried_out(of_one_arm(small_ablation, 2, epochs=3), tmp_path) is False
    untrained = read_weights(folder / "snapshots" / "epoch0000.safetensors")
    trained = read_weights(folder / "snapshots" / "epoch0003.safetensors")
    assert any(not torch.equal(untrained[name], trained[name]) for name in trained)


def test_a_run_has_one_process_at_a_time(small_ablation, tmp_path):
    ablation = of_one_arm(small_ablation, 0)
    options = Options("smoke", "digits", tmp_path, tmp_path, arms=("preact_resnet",), wandb="disabled")
    trial = prepare(ablation, options)
    with held(trial.jobs[0].run, tmp_path), pytest.raises(OSError, match="another process is at run resnet_cifar"):
        carry_out(trial, report)
    assert carry_out(trial, report) is False
    with held(trial.jobs[0].run, tmp_path):
        assert carry_out(trial, report) is False, "what is finished may be read by all"
