"""Bad input in bulk: commands carried out in this process as far as training, and what a user would have seen of them.

ABLATIONS_FUZZ=10 tries ten times as many inputs; the inputs of a number are always the same ones.
"""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings

from ablations.harness.declare.ablation import Ablation, Arm, Plan
from ablations.harness.declare.chart import ArmTable
from ablations.harness.declare.measure import top1_error
from ablations.harness.declare.probe import Measurement, Probe, Subject
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.harness.store.files import write_npz
from ablations.probes.lesions.delete import DeleteEach, LesionsAtRandom
from ablations.remove_layers import ABLATION

ARM = "preact_resnet"


@dataclass(frozen=True, kw_only=True)
class Kept(Probe):
    """Keeps a file too, as some probes do."""

    limit: int = 8

    def ask(self, subject: Subject) -> Iterator[Measurement]:
        write_npz(subject.folder / "kept.npz", seed=subject.seed)
        yield from ()


def _plan(at: Scale) -> Plan:
    arm = Arm(ARM, "resnet_cifar", {"depth": 8, "width": 4}, {"epochs": 1, "batch_size": 4, "schedule": "linear"})
    return Plan(
        [arm],
        1,
        [Kept(), DeleteEach(limit=8), LesionsAtRandom(limit=8, draws=1, most_deleted=1, reorderings=1, most_swaps=1)],
    )


TINY: Ablation = replace(
    ABLATION,
    plan=_plan,
    charts=(ArmTable("arms", "Arms", {"test error": top1_error}, "All of them."),),
    claims=tuple(
        replace(c, tests=tuple(replace(test, measure=replace(test.measure, arms=(ARM,))) for test in c.tests))
        for c in ABLATION.claims
    ),
)
"""One arm that is trained within a second."""


def examples(number: int) -> settings:
    """So many inputs, or as ABLATIONS_FUZZ multiplies them; the same in every process."""
    count = max(1, round(number * float(os.environ.get("ABLATIONS_FUZZ", "1"))))
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # a failing input is short already; each try takes a second
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@dataclass(frozen=True)
class Seen:
    """What a user sees of a command: exit code, both streams, and the warnings of libraries on the terminal."""

    code: object
    out: str
    err: str
    warned: list[str]


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """Fills a list with the text that Python and libraries in C write to the second stream."""
    text: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as stream:
        before = os.dup(2)
        os.dup2(stream.fileno(), 2)
        try:
            with redirect_stderr(stream):
                yield text
        finally:
            stream.flush()
            os.dup2(before, 2)
            os.close(before)
            stream.seek(0)
            text.append(stream.read())


def carry_out(words: list[str], out: Path) -> Seen:
    """The command `words`, carried out with `out` to write to."""
    words = [*words, "--out", str(out), "--wandb", "disabled"]
    with (
        warnings.catch_warnings(record=True) as warned,
        _standard_error() as err,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as stdout,
    ):
        code: object = None
        with redirect_stdout(stdout):
            try:
                main(TINY, words)
            except SystemExit as left:
                code = left.code
        stdout.seek(0)
        told = stdout.read()
    return Seen(code, told, err[0], [str(each.message) for each in warned])


def prepared(words: list[str]) -> Seen:
    """The command `words` as far as training: everything is checked, nothing is trained, exit code 0 is good input."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("ablations.harness.execution.execute.carry_out", lambda *given: False),
    ):
        seen = carry_out(words, Path(folder) / "runs")
        assert not (Path(folder) / "runs" / "trained").exists()
        return seen


def is_refused(words: list[str], *parts: str, may_be_good: bool = False) -> None:
    """Asserts that a command is refused in one line before training, or, if it may be good, is taken without a word.

    parts: of the line, in any order.
    """
    seen = prepared(words)
    if may_be_good and seen.code == 0:
        assert (seen.out, seen.err, seen.warned) == ("", "", []), (words, seen)
        return
    assert seen.code == 2, (words, seen)
    assert seen.err.startswith(f"{TINY.name}: "), (words, seen)
    assert seen.err.count("\n") == 1, (words, seen)
    assert seen.err.endswith("\n"), (words, seen)
    assert len(seen.err) < 10_000, (words, seen)
    assert not seen.out, (words, seen)
    assert not seen.warned, (words, seen)
    assert [part for part in parts if part not in seen.err] == [], (words, seen)


def is_taken(words: list[str]) -> None:
    """Asserts that a command is taken: what differs from it in one thing then is refused for that alone."""
    seen = prepared(words)
    assert (seen.code, seen.out, seen.err, seen.warned) == (0, "", "", []), (words, seen)
