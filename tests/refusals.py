"""Commands carried out in this process as far as training: what a user would have seen of them, one line if refused.

ABLATIONS_FUZZ=10 tries ten times as many inputs of `examples`; the inputs of a number are always the same ones.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, settings

from ablations.harness.declare.ablation import Ablation, Arm, Plan
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.remove_layers import ABLATION


def _plan(at: Scale) -> Plan:
    arm = Arm("preact_resnet", "resnet_cifar", {"depth": 8, "width": 4}, {"epochs": 1, "batch_size": 4})
    return replace(ABLATION.plan(at), arms=[arm], seeds=1)


FEW: Ablation = replace(ABLATION, plan=_plan, claims=())
"""One small arm, for which a dozen images are enough."""


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
    with TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as stream:
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


def prepared(words: list[object], ablation: Ablation) -> Seen:
    """The command `words` as far as training: everything is checked, nothing is trained, exit code 0 is good input."""
    code: object = None
    with (
        TemporaryDirectory() as folder,
        patch("ablations.harness.execution.execute.carry_out", lambda *given: False),
        warnings.catch_warnings(record=True) as warned,
        _standard_error() as err,
        TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as stdout,
    ):
        with redirect_stdout(stdout):
            try:
                main(ablation, ["--out", f"{folder}/runs", *map(str, words), "--wandb", "disabled"])
            except SystemExit as left:
                code = left.code
        stdout.seek(0)
        told = stdout.read()
        assert not (Path(folder) / "runs" / "trained").exists()
    return Seen(code, told, err[0], [str(each.message) for each in warned])


def assert_refused(words: list[object], *parts: str, may_be_good: bool = False, ablation: Ablation = FEW) -> None:
    """Asserts that a command is refused in one line before training, or, if it may be good, is taken without a word.

    parts: of the line, in any order.
    """
    seen = prepared(words, ablation)
    if may_be_good and seen.code == 0:
        assert (seen.out, seen.err, seen.warned) == ("", "", []), (words, seen)
        return
    assert seen.code == 2, (words, seen)
    assert seen.err.startswith(f"{ablation.name}: "), (words, seen)
    assert seen.err.count("\n") == 1, (words, seen)
    assert seen.err.endswith("\n"), (words, seen)
    assert len(seen.err) < 10_000, (words, seen)
    assert not seen.out, (words, seen)
    assert not seen.warned, (words, seen)
    assert [part for part in parts if part not in seen.err] == [], (words, seen)


def assert_taken(words: list[object]) -> None:
    """Asserts that a command is taken: what differs from it in one thing then is refused for that alone."""
    seen = prepared(words, FEW)
    assert (seen.code, seen.out, seen.err, seen.warned) == (0, "", "", []), (words, seen)
