"""The claims on trial: every script of this folder, what it claims, and the verdicts that were published.

    python -m ablations                      # for reading in a terminal
    python -m ablations --markdown           # as a Markdown table
    python -m ablations --write README.md    # that table, between the markers of the file
    python -m ablations remove_layers ...    # a script with its flags, as python ablations/remove_layers.py ...
    python -m ablations --completion bash    # what a shell needs to complete all this; also zsh and tcsh

Installed, `ablations` is the same command. Claims come from the code: a script is a file directly in this folder that
declares ABLATION. Verdicts come from reports/published/<script>/<budget>-<data>/verdicts.json and from nowhere else.
"""

from __future__ import annotations

import argparse
import difflib
import json
import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ablations.harness.command.invocation import CONSOLE, ROOT, program, version
from ablations.harness.declare.ablation import Ablation
from ablations.harness.declare.scale import scale_order
from ablations.harness.declare.scripts import declared, names, scripts
from ablations.harness.store.files import atomic_write_text

SHELLS = ("bash", "zsh", "tcsh")
BEGIN, END = "<!-- claims:begin -->", "<!-- claims:end -->"


class Published(NamedTuple):
    """One published verdict on a claim; scale: data, budget and seeds in words; folder: relative to the root."""

    verdict: str
    scale: str
    folder: str

    def __str__(self) -> str:
        return f"{self.verdict} ({self.scale})"


Verdicts = Mapping[tuple[str, str], Sequence[Published]]


def published(ablations: Iterable[Ablation], root: Path = ROOT) -> Verdicts:
    """(script, claim) -> its verdicts below `root`, in the order of `scale_order`.

    Raises ValueError for a file that is damaged, lies elsewhere than in <script>/<budget>-<data>, or judges a claim
    that its script does not declare.
    """
    found: dict[tuple[str, str], list[tuple[tuple[int, bool, str], Published]]] = {
        (ablation.name, claim.id): [] for ablation in ablations for claim in ablation.claims
    }
    base = root / "reports" / "published"
    for file in base.rglob("verdicts.json"):
        script, *rest = file.relative_to(base).parts
        if len(rest) != 2:
            raise ValueError(f"{file}: expected {base}/<script>/<budget>-<data>/verdicts.json")
        try:
            for entry in json.loads(file.read_text(encoding="utf-8")):
                order = scale_order(entry["budget"], entry["data"])
                verdict = Published(entry["verdict"], entry["scale"], file.parent.relative_to(root).as_posix())
                found[script, entry["claim"]].append((order, verdict))
        except KeyError as error:
            raise ValueError(f"{file}: {error.args[0]!r} is missing, or known to no script") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: no list of verdicts ({error})") from error
    return {key: [verdict for _, verdict in sorted(verdicts)] for key, verdicts in found.items()}


def as_text(ablations: Iterable[Ablation], verdicts: Verdicts, width: int = 100) -> str:
    """The claims for a terminal of `width` columns, grouped by script."""
    lines = []
    for ablation in ablations:
        lines += ["", shlex.join(program(f"ablations.{ablation.name}")), f"  {ablation.question}"]
        for claim in ablation.claims:
            told = [claim.says, claim.source, *map(str, verdicts[ablation.name, claim.id])]
            for first, text in zip([f"  {claim.id:<5} ", *[" " * 8] * len(told)], told, strict=False):
                lines += textwrap.wrap(text, max(40, width), initial_indent=first, subsequent_indent=" " * 8)
    return "\n".join(lines[1:]) + "\n"


def as_markdown(ablations: Iterable[Ablation], verdicts: Verdicts) -> str:
    """The claims as one Markdown table, with links that hold in a file of the root folder."""
    lines = ["| claim | what it says | script | source | published verdicts |", "|---|---|---|---|---|"]
    for ablation in ablations:
        script = f"[{ablation.name}](ablations/{ablation.name}.py)"
        for claim in ablation.claims:
            links = "; ".join(f"[{verdict}]({verdict.folder})" for verdict in verdicts[ablation.name, claim.id])
            cells = (claim.id, claim.says, script, claim.source, links)
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def with_table(text: str, table: str) -> str:
    """The text with everything between its markers replaced; raises ValueError unless it has one pair, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) + text.count(END) != 2:
        raise ValueError(f"expected {BEGIN} and then {END}, each once")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the claims on trial, write them into a file, or run a script with its flags; 2 if something is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and not argv[0].startswith("-"):
        return _hand_over(argv[0], argv[1:])
    parser = argparse.ArgumentParser(
        prog=shlex.join(program("ablations")),
        usage="%(prog)s [--markdown | --write FILE | --completion SHELL | --version | SCRIPT ...]",
        description=main.__doc__,
        epilog=f"SCRIPT is one of {', '.join(names())}; SCRIPT --help says what it takes.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print a Markdown table")
    form.add_argument("--completion", choices=SHELLS, help=f"print the completion of `{CONSOLE}` for this shell")
    form.add_argument("--version", action="store_true", help="print the version")
    form.add_argument("--write", type=Path, metavar="FILE", help="replace the table between the markers of this file")
    options = parser.parse_args(argv)
    if options.version:
        print(f"cnn-ablations {version()}")
        return 0
    try:
        ablations = scripts()
        if options.completion is not None:
            from ablations.harness.command.shell_completion import script

            print(script(options.completion, ablations, parser))
            return 0
        verdicts = published(ablations)
        table = as_markdown(ablations, verdicts)
        if options.write is None:
            print(table if options.markdown else as_text(ablations, verdicts), end="")
        else:
            try:
                atomic_write_text(options.write, with_table(options.write.read_text(encoding="utf-8"), table))
            except ValueError as error:
                raise ValueError(f"{options.write}: {error}") from error
    except (ValueError, OSError) as error:
        print(f"ablations: {error}", file=sys.stderr)
        return 2
    return 0


def _hand_over(name: str, argv: Sequence[str]) -> int:
    """To the script of that name, which exits by itself; 2 if there is none."""
    ablation = declared(name)
    if ablation is None:
        close = difflib.get_close_matches(name.replace("-", "_"), names(), n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names())}"
        print(f"ablations: no script {name!r}; {hint}", file=sys.stderr)
        return 2
    from ablations.harness.launch import main as launch

    return launch(ablation, argv)


if __name__ == "__main__":
    sys.exit(main())
