"""Shell completion for the console script `ablations`: a script for the shell, which then starts nothing at a TAB."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from ablations.harness.command.command_line import parser_for
from ablations.harness.command.invocation import CONSOLE
from ablations.harness.declare.ablation import Ablation

FILES, FOLDERS = ("config", "weights"), ("data_root", "out")


def script(shell: str, ablations: Sequence[Ablation], options: ArgumentParser) -> str:
    """The completion of the command's own options, the names of scripts, their flags, arms excepted, and claims.

    --trainer.OPTION is not completed: to know those takes seconds. Raises ValueError where shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise ValueError("completion needs shtab: pip install shtab") from None
    parser = ArgumentParser(prog=CONSOLE, parents=[options], add_help=False)
    names = parser.add_subparsers(metavar="SCRIPT")
    for ablation in ablations:
        flags = parser_for(ablation, with_trainer=False)
        added = names.add_parser(ablation.name, parents=[flags], add_help=False, help=ablation.title)
        for action in added._actions:
            if action.dest == "claims":
                action.choices = [claim.id for claim in ablation.claims]
            if action.dest in FILES + FOLDERS:
                action.complete = shtab.FILE if action.dest in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))
