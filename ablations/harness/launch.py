"""What a script's `main(ABLATION)` does: understand the command, carry it out, and leave with an honest exit code."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ablations.harness.command.command_line import WrongInput, parse
from ablations.harness.command.invocation import program
from ablations.harness.declare.ablation import Ablation

if TYPE_CHECKING:
    from ablations.harness.execution.execute import Engine

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(ablation: Ablation, argv: Sequence[str] | None = None, engine: Engine | None = None) -> NoReturn:
    """Runs the ablation as the command line says and exits; engine: who performs its runs, see `carry_out`.

    0: done, whatever the verdict. 1: a run failed (which, why, how to resume). 2: the command or the data is wrong,
    told in one line before anything is trained. 130: Ctrl-C, with the command that resumes.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        options = parse(ablation, argv)
        command = shlex.join([*program(f"ablations.{ablation.name}"), *_resuming(argv, options.fresh)])
        from ablations.harness.execution.execute import carry_out
        from ablations.harness.prepare import prepare

        trial = prepare(ablation, options)
    except (WrongInput, ValueError, PermissionError) as error:
        print(f"{ablation.name}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(WRONG) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    try:
        raise SystemExit(FAILED if carry_out(trial, report, engine) else DONE)
    except KeyboardInterrupt:
        print(f"\nInterrupted; finished epochs and runs are kept. Resume with:\n  {command}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:  # no space, no permission: told, not traced; what was written is whole
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        print(f"{ablation.name}: {error}{where}. What is written is kept; resume with:\n  {command}", file=sys.stderr)
        raise SystemExit(FAILED) from None
    except Exception:  # a defect, or what no check can foresee: the trace says which run, and nothing is lost
        traceback.print_exc()
        print(f"{ablation.name}: failed. What is written is kept; resume with:\n  {command}", file=sys.stderr)
        raise SystemExit(FAILED) from None


def report(folder: Path) -> bool:
    """Draws the charts and writes the page from the files of a finished ablation; True if one of them failed.

    The only door from here to `reports`: whatever fails behind it, records and verdicts stand.
    """
    from ablations.harness.store.records import read_records
    from reports.charts.declared import redraw
    from reports.pages.page import write_page
    from reports.pages.run_warnings import run_warnings

    def page() -> None:
        for warning in run_warnings(read_records(folder)):
            print(f"warning: {warning}", flush=True)
        print(f"report: {write_page(folder)}", flush=True)

    failed = False
    for what, make in (("figures", lambda: redraw(folder)), ("page", page)):
        try:
            make()
        except Exception:  # whatever a plot or a template raises
            failed = True
            traceback.print_exc()
            print(f"the {what} failed; records and verdicts are in {folder}", file=sys.stderr)
    return failed


def _resuming(argv: Sequence[str], fresh: bool) -> list[str]:
    """The words without --fresh, which would begin again, wherever it was said."""
    kept = [
        word
        for before, word in pairwise(["", *argv])
        if word.partition("=")[0] != "--fresh" and (before != "--fresh" or word.startswith("-"))
    ]
    in_file = fresh and any(word.partition("=")[0] == "--config" for word in kept)
    return [*kept, "--fresh", "no"] if in_file else kept
