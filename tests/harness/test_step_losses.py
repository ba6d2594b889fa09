"""The loss between epochs: every step counts once, also over a resume, and a run that diverges shows how."""

import math
from unittest.mock import Mock

import pytest
import torch

from ablations.harness.store.wandb_names import DIVERGED_KEY, STEP_LOSS_KEY
from ablations.harness.training import step_losses
from ablations.harness.training import train as training
from ablations.harness.training.callbacks import Diverged
from modules.training.classifier import Classifier

USUAL = (step_losses.EVERY, step_losses.BEYOND)
PER_EPOCH = 18  # steps, of the digits in batches of 64


class Log:
    """A logger that keeps what it is given: (step, row)."""

    def __init__(self):
        self.kept = []

    def log_metrics(self, metrics, step=None):
        self.kept.append((step, dict(metrics)))

    def of(self, key):
        return {step: row[key] for step, row in self.kept if key in row}

    def count(self, key):
        return sum(key in row for _, row in self.kept)


@pytest.fixture
def losses(monkeypatch):
    """What every call of training_step returns, in this test's runs; the call numbered `poison` gives NaN."""
    seen, step = [], Classifier.training_step

    def keep(self, batch, index):
        loss = step(self, batch, index)
        if len(seen) == keep.poison:
            loss = loss * math.nan
        seen.append(loss.item())
        return loss

    keep.poison = None
    monkeypatch.setattr(Classifier, "training_step", keep)
    return seen, keep


@pytest.fixture(autouse=True)
def _sooner(monkeypatch):
    """In place of 50 and 200, so that a run of three epochs is a long one."""
    monkeypatch.setattr(step_losses, "EVERY", 8)
    monkeypatch.setattr(step_losses, "BEYOND", 3 * PER_EPOCH - 1)


def train(run, data, out, log=None):
    return training.train(run, data, out, log, show_progress=False)


def test_the_usual_distance_is_fifty_steps_beyond_two_hundred():
    assert USUAL == (50, 200)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_row_is_the_mean_over_the_steps_since_the_one_before(tiny, digits, losses, tmp_path, accumulated):
    log, (seen, _) = Log(), losses
    epochs = 3 * accumulated
    train(tiny(epochs=epochs, trainer={"accumulate_grad_batches": accumulated}), digits, tmp_path, log)
    found = log.of(STEP_LOSS_KEY)
    steps = [math.fsum(seen[k : k + accumulated]) / accumulated for k in range(0, len(seen), accumulated)]
    assert list(found) == list(range(8, len(steps) + 1, 8))
    assert log.count(STEP_LOSS_KEY) == len(found)
    for step, value in found.items():
        assert value == pytest.approx(math.fsum(steps[step - 8 : step]) / 8, rel=1e-6)
    assert len(log.of("train/loss")) == epochs, "the table's rows are logged as before"
    (folder,) = (tmp_path / "trained").iterdir()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 1 + epochs


def test_a_short_run_has_the_rows_of_its_table_alone(tiny, digits, tmp_path):
    log = Log()
    train(tiny(epochs=2), digits, tmp_path, log)
    assert log.count(STEP_LOSS_KEY) == 0
    assert log.count("train/loss") == 2


def test_a_resumed_run_logs_every_row_once_and_the_same(tiny, digits, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch, after a row that is made again."""
    whole, before, after = Log(), Log(), Log()
    train(tiny(epochs=3), digits, tmp_path / "whole", whole)
    log_row = step_losses.StepLosses._log

    def stop(self, row):
        log_row(self, row)
        if self.logger is before and row["step"] == 32:
            raise KeyboardInterrupt

    monkeypatch.setattr(step_losses.StepLosses, "_log", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(epochs=3), digits, tmp_path / "cut", before)
    assert list(before.of(STEP_LOSS_KEY)) == [8, 16, 24, 32]
    train(tiny(epochs=3), digits, tmp_path / "cut", after)
    assert after.of(STEP_LOSS_KEY) == whole.of(STEP_LOSS_KEY)
    assert after.count(STEP_LOSS_KEY) == whole.count(STEP_LOSS_KEY) == 6
    assert [step for step, row in after.kept if "train/loss" in row] == [PER_EPOCH, 2 * PER_EPOCH, 3 * PER_EPOCH]


def test_a_run_that_had_only_its_test_left_logs_its_whole_history(tiny, digits, tmp_path, monkeypatch):
    before, after = Log(), Log()
    with monkeypatch.context() as patch:
        patch.setattr(training.lightning.Trainer, "test", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tiny(epochs=3), digits, tmp_path, before)
    train(tiny(epochs=3), digits, tmp_path, after)
    for key in (STEP_LOSS_KEY, "train/loss", "val/top1_error"):
        assert after.of(key) == before.of(key) != {}
        assert after.count(key) == before.count(key)
    assert list(after.of("test/loss")) == [3 * PER_EPOCH]


def test_rows_do_not_depend_on_being_logged(tiny, digits, tmp_path):
    """So that weights and checkpoint are the same with and without W&B."""
    files = []
    for name, log in (("with", Log()), ("without", None)):
        train(tiny(epochs=3), digits, tmp_path / name, log)
        (folder,) = (tmp_path / name / "trained").iterdir()
        files.append(torch.load(folder / "last.ckpt", weights_only=True)["callbacks"]["StepLosses"])
    assert files[0] == files[1]
    assert len(files[0]["rows"]) == 6


def test_a_run_that_diverges_shows_its_last_losses(tiny, digits, losses, tmp_path):
    log, (seen, keep) = Log(), losses
    keep.poison = 29
    with pytest.raises(Diverged):
        train(tiny(epochs=3), digits, tmp_path, log)
    found = log.of(STEP_LOSS_KEY)
    assert list(found) == [8, 16, 24, 25, 26, 27, 28, 29, 30]
    assert [found[step] for step in range(25, 30)] == pytest.approx(seen[24:29], rel=1e-6)
    assert math.isnan(found[30])
    assert log.of(DIVERGED_KEY) == {30: 30}


def test_a_window_that_ends_with_no_number_shows_each_of_its_losses(tiny, digits, losses, tmp_path):
    log, (_, keep) = Log(), losses
    keep.poison = 31
    with pytest.raises(Diverged):
        train(tiny(epochs=3), digits, tmp_path, log)
    assert list(log.of(STEP_LOSS_KEY)) == [8, 16, 24, *range(25, 33)]
    assert [math.isfinite(loss) for loss in log.of(STEP_LOSS_KEY).values()] == [True] * 10 + [False]


def test_a_short_run_that_diverges_at_once_shows_it(tiny, digits, losses, tmp_path):
    log, (_, keep) = Log(), losses
    keep.poison = 2
    with pytest.raises(Diverged):
        train(tiny(epochs=1), digits, tmp_path, log)
    assert list(log.of(STEP_LOSS_KEY)) == [1, 2, 3]
    assert log.of(DIVERGED_KEY) == {3: 3}
