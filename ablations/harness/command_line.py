"""One command line for every ablation; parsed before anything heavy is imported, so that --help answers at once."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from ablations.harness.ablation import BUDGETS, Ablation
from datamodules import NAMES

PROBE = "--probe."


class WrongInput(ValueError):
    """The command or the data is wrong; its one line says what, where and what is allowed. Exit code 2."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. trainer, probe: of the options of Trainer and the probe, those that were given.

    bf16_is_fast: what the wishes of plans come to (see `precision`); None until it is asked, once for a command.
    """

    budget: str
    data: str
    data_root: Path
    out: Path
    workers: int | None = None
    seeds: int | None = None
    arms: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    search: int = 0
    network: str | None = None
    weights: str | None = None
    image_size: int | None = None
    download: bool = False
    wandb: str = "offline"
    wandb_weights: bool = False
    dry_run: bool = False
    fresh: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, str] = field(default_factory=dict)
    command: str = ""
    bf16_is_fast: bool | None = None


class Parser(ArgumentParser):
    """A parser whose errors are one line, with the nearest flag where one was misspelt."""

    words: Sequence[str] = ()  # what is parsed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        first = " ".join(str(message).split())
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in self.words:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                close = difflib.get_close_matches(name, flags, n=1)
                first = f"unknown flag {name}" + (f"; did you mean {close[0]}?" if close else "; see --help")
                break
        raise WrongInput(first)


def parser_for(ablation: Ablation, with_trainer: bool) -> Parser:
    """The parser of a script; with_trainer adds every option of lightning.Trainer, which takes seconds to import."""
    claims = "\n".join(f"  {claim.id}  {claim.says}" for claim in ablation.claims)
    parser = Parser(
        prog=f"python ablations/{ablation.name}.py",
        description=f"{ablation.title}\n\n{ablation.question}\n\nClaims on trial:\n{claims}",
        formatter_class=_formatter(),
        allow_abbrev=False,
        epilog="--trainer.OPTION sets any option of lightning.Trainer, e.g. --trainer.devices 2 --trainer.strategy ddp "
        "(one device unless you say more); --trainer.help lists them. --probe.SETTING sets what the probe "
        "is asked, e.g. --probe.limit 500; a report lists the settings at its end.",
    )
    add = parser.add_argument
    add("--config", action="config", help="read options from this YAML file")
    add("--budget", choices=list(BUDGETS), default="laptop",
        help="smoke: seconds, proves the machinery; laptop: minutes on 2 CPU cores; short: one GPU, an hour; "
        "paper: the paper's own schedule")  # fmt: skip
    add("--data", choices=list(NAMES), default="digits", help="what to train on; digits is embedded")
    add("--data-root", type=str, default="data",
        help="where the data lies: torchvision's layout, a folder of parquet files, or class folders")  # fmt: skip
    add("--image-size", type=int, default=None, help="resize and crop images to this square, in pixels")
    add("--download", action="store_true", help="let torchvision download missing data")
    add("--seeds", type=int, default=None, help="seeds per arm (default: the budget's)")
    add("--arms", nargs="+", type=str, default=[], help="only these arms (default: all)")
    add("--claims", nargs="+", type=str, default=[], help="only these claims (default: all)")
    add("--search", type=int, default=0,
        help="try N random candidates of every arm that may be searched, and take each arm's lowest training loss "
        "(default: 0, the script's own values)")  # fmt: skip
    add("--network", type=str, default=None,
        help="probe this network instead of training arms: a name from `modules`, or timm:NAME")  # fmt: skip
    add("--weights", type=str, default=None,
        help="weights of --network: safetensors or a state dict, `pretrained` (from timm) or `random`")  # fmt: skip
    add("--out", type=str, default="runs", help="root of everything written")
    add(
        "--workers",
        type=int,
        default=None,
        help="runs at once, each in a process of one thread (default: one per core of a CPU if there is much to do)",
    )
    add("--wandb", choices=["offline", "online", "disabled"], default="offline",
        help="Weights & Biases; a server that fails or is slow turns online into offline")  # fmt: skip
    add("--wandb-weights", action="store_true", help="send the trained weights there too, as artifacts")
    add("--dry-run", action="store_true", help="show arms, runs, costs and expected time; train nothing")
    add("--fresh", action="store_true", help="ignore finished runs")
    if with_trainer:
        from lightning import Trainer

        taken = {"logger", "callbacks", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"}
        parser.add_class_arguments(Trainer, "trainer", skip=taken)
    return parser


def parse(ablation: Ablation, argv: Sequence[str]) -> Options:
    """The options in `argv`; prints help and exits 0 where asked to. Raises WrongInput for anything not understood."""
    whole = argv
    argv, probe = _probe_settings(argv)
    names = [word.partition("=")[0] for word in argv]
    if "--trainer.help" in names:
        parser_for(ablation, with_trainer=True).print_help()
        raise SystemExit(0)
    with_trainer = "--config" in names or any(name.startswith("--trainer") for name in names)
    parser = parser_for(ablation, with_trainer)
    parser.words = argv
    found = parser.parse_args(list(argv))
    given = {}
    if with_trainer:
        default = parser.get_defaults().trainer
        given = {key: value for key, value in vars(found.trainer).items() if value != default[key]}
        given["devices"] = _devices(given.get("devices", 1))
    for what, count in (("--seeds", found.seeds), ("--image-size", found.image_size), ("--workers", found.workers)):
        if count is not None and count < 1:
            raise WrongInput(f"{what} {count}: give 1 or more")
    if found.search < 0:
        raise WrongInput(f"--search {found.search}: give 0 (the script's own values) or more")
    known = [claim.id for claim in ablation.claims]
    for claim in found.claims:
        if claim not in known:
            raise WrongInput(f"unknown claim {claim!r}; {ablation.name} has {', '.join(known)}")
    if found.network is None and found.weights is not None:
        raise WrongInput("--weights needs --network NAME, which says what network they belong to")
    if found.network is not None and found.weights is None:
        raise WrongInput("--network needs --weights: FILE, `pretrained` (timm: networks) or `random`")
    return Options(
        budget=found.budget,
        data=found.data,
        data_root=Path(found.data_root),
        out=Path(found.out),
        workers=found.workers,
        seeds=found.seeds,
        arms=tuple(found.arms),
        claims=tuple(found.claims),
        search=found.search,
        network=found.network,
        weights=found.weights,
        image_size=found.image_size,
        download=found.download,
        wandb=found.wandb,
        wandb_weights=found.wandb_weights,
        dry_run=found.dry_run,
        fresh=found.fresh,
        trainer=given,
        probe=probe,
        command=" ".join(["python", os.path.relpath(sys.argv[0]), *whole]),
    )


def _probe_settings(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words without --probe.NAME VALUE and --probe.NAME=VALUE, and those by name."""
    rest, found = [], {}
    words = iter(argv)
    for word in words:
        if not word.startswith(PROBE):
            rest.append(word)
            continue
        name, equals, value = word.removeprefix(PROBE).partition("=")
        given = value if equals else next(words, None)
        if not name or given is None or (not equals and given.startswith("--")):
            raise WrongInput(f"{word}: give a setting and its value, such as {PROBE}limit 500")
        found[name] = given
    return rest, found


def _devices(value: Any) -> Any:
    """A number of devices as a number, a list or "auto" as it is; raises WrongInput for another word."""
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if value == 0 or (isinstance(value, str) and value != "auto" and not value.replace(",", "").isdigit()):
        raise WrongInput(f"--trainer.devices {value}: give a number of devices, a list of indices, -1 or auto")
    return value


def _formatter() -> Any:
    import argparse

    class Formatter(argparse.RawDescriptionHelpFormatter):
        pass

    return Formatter
