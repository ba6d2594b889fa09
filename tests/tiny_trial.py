"""A whole trial whose training is nearly free: two steps an epoch, snapshots, a probe that keeps a file, a claim."""

import contextlib
import csv
import io
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import ArmTable
from ablations.harness.declare.measure import Quantity
from ablations.harness.declare.probe import Measurement, Probe
from ablations.harness.estimate import Estimate, describe
from ablations.harness.execution.execute import carry_out
from ablations.harness.launch import main, report
from ablations.harness.prepare import prepare
from ablations.harness.store.files import atomic_write_text, write_npz
from ablations.harness.store.folders import remove

RECIPE = {"epochs": 2, "batch_size": 512, "learning_rate": 0.05}
# What a clock measures, or tells how often a run was interrupted, by the names that these values have in files.
VOLATILE = frozenset(["seconds", "wall_seconds", "train_seconds", "images_per_second", "resumed_from_epoch"])


@dataclass(frozen=True, kw_only=True)
class Norm(Probe):
    """The norm of the weights in training."""

    snapshots: int = 2
    units: ClassVar = {"norm": ""}

    def ask(self, subject):
        norms = [sum(p.abs().sum().item() for p in subject.at(epoch).parameters()) for epoch in subject.snapshots]
        write_npz(subject.folder / "norms.npz", norms=np.array(norms))
        for epoch, norm in zip(subject.snapshots, norms, strict=True):
            yield Measurement(f"weights epoch={epoch}", "norm", norm)

    def evaluations(self, blocks, num_test):
        return num_test


def plan(at):
    return Plan([Arm("relu", "mlp", {"depth": 2, "width": 8, "activation": "relu"}, RECIPE)], 1, [Norm()])


grows = Test("grows", Quantity("norm", "", "the norm", "weights")("relu"), at_least=1.0)
CLAIMS = (Claim("T1", "Weights have a norm.", "this suite", "", tests=(grows,)),)
CHARTS = (
    ArmTable("norms", "Norms", {"at the end": Quantity("norm", probe="weights", over="last")}, "Of the weights."),
)
TINY = Ablation("tiny", "Tiny", "Does it hold?", CLAIMS, plan, CHARTS)


def make_cheap(patch):
    """Leaves out what takes longer than the training and has no part in how files are kept."""
    patch.setattr("ablations.harness.forecast.estimate", without_a_clock)
    patch.setattr("reports.pages.page.write_page", page_of_one_line)
    patch.setattr("os.fsync", lambda number: None)  # see test_durable.py


def page_of_one_line(folder):
    atomic_write_text(folder / "report.html", "a page\n")
    return folder / "report.html"


def without_a_clock(run, *_):
    """In the place of `estimate`, which trains for a moment only to tell how long it takes."""
    counted, network = describe(run)
    return Estimate(counted, len(network.blocks), 1.0, 0.001)


def carried_out(ablation, out, **changes):
    """Carries out one small arm of an ablation, unless `changes` say more, on the digits; True if a run failed."""
    given = {"budget": "smoke", "data": "digits", "data_root": out, "out": out, "wandb": "disabled"}
    options = Options(**{**given, "arms": ("preact_resnet",), **changes})
    return carry_out(prepare(ablation, options), report)


def command(out, *more, ablation=TINY):
    """Carries out the tiny ablation below `out` in this process; gives exit code, stdout and stderr."""
    told, errors = io.StringIO(), io.StringIO()
    words = ["--budget", "smoke", "--wandb", "disabled", "--trainer.accelerator", "cpu", "--out", str(out), *more]
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(errors):
        try:
            main(ablation, words)
        except SystemExit as left:
            code = left.code
    return code, told.getvalue(), errors.getvalue()


def carry_on(out, *more):
    """As `command`, which must end well; gives what it printed."""
    code, told, err = command(out, *more)
    assert code == 0, err
    assert "Traceback" not in err
    return told


def left_by(out):
    """Everything below `out` that the same command leaves alike: name -> content without what is volatile."""
    return {file.relative_to(out).as_posix(): _stable(file) for file in sorted(out.rglob("*")) if file.is_file()}


def folder_instead(place):
    remove(place)
    place.mkdir()
    (place / "something").write_text("in the way")


def file_instead(place):
    remove(place)
    place.write_text("in the way")


def loop_instead(place):
    remove(place)
    place.symlink_to(place.name)


def _stable(file):
    if file.suffix == ".csv":
        with file.open(newline="") as stream:
            header, *rows = csv.reader(stream)
        kept = [at for at, name in enumerate(header) if name not in VOLATILE]
        return [header, *([row[at] for at in kept] for row in rows if not VOLATILE & set(row))]
    if file.suffix in (".npz", ".safetensors"):
        return file.read_bytes()
    if file.name in ("done", "diverged", "verdicts.json") or file.parent.name == "probes":
        return _without(VOLATILE, json.loads(file.read_text()))
    return None  # that it is there: a checkpoint, the page and what describes the machine hold times


def _without(names, value):
    if isinstance(value, dict):
        # The notes of a table that holds seconds, and the seal of what says seconds, are volatile themselves.
        dropped = names | {"metrics.csv"} | ({"digest"} if names & value.keys() else set())
        return {key: _without(names, each) for key, each in value.items() if key not in dropped}
    return [_without(names, each) for each in value] if isinstance(value, list) else value
