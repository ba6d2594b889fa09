"""One command line for every ablation; parsed before anything heavy is imported, so that --help answers at once."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from ablations.harness.command import config_file
from ablations.harness.command.invocation import program, version
from ablations.harness.declare.ablation import Ablation
from ablations.harness.declare.scale import BUDGETS
from ablations.harness.explain import KNOWN, explanation
from ablations.harness.foreign import normalisation
from ablations.harness.foreign.normalisation import Normalisation
from ablations.harness.store.records import as_text
from ablations.harness.training import trainer_options
from datamodules import NAMES

PROBE = "--probe."
REFUSED = {f"trainer.{name}": why for name, why in trainer_options.REFUSED.items()}
LARGEST_IMAGE = 8192  # pixels of a side
LAST_FIRST_SEED = 1_000_000
MOST_CANDIDATES = 1000  # of a search; each is a training
LONGEST = 500  # characters of an error
TYPES = r"(?:Expected a .*?|Does not validate .*? Subtypes: (\[.*\]) Errors: .*?)(?:\. Got|Given) value: (.*)"
KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "yes or no"}


class WrongInput(ValueError):
    """The command or the data is wrong; its one line says what, where and what is allowed. Exit code 2."""


@dataclass(frozen=True)
class Options:
    """What the user asked for. trainer, probe: of the options of Trainer and the probe, those that were given."""

    budget: str
    data: str
    data_root: Path
    out: Path
    workers: int | None = None
    seeds: int | None = None
    first_seed: int | None = None
    arms: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    search: int = 0
    network: str | None = None
    weights: str | None = None
    normalisation: Normalisation | None = None
    image_size: int | None = None
    train_images: int | None = None
    download: bool = False
    wandb: str = "offline"
    wandb_weights: bool = False
    dry_run: bool = False
    fresh: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, str] = field(default_factory=dict)
    command: str = ""


def _in_words(found: re.Match[str]) -> str:
    """What jsonargparse says of a type, in a reader's words."""
    types = re.findall(r"<class '(\w+)'>|Literal\[([^]]*)\]", found[1] or found[0])
    kinds = dict.fromkeys(KINDS.get(kind, words) for kind, words in types if kind != "NoneType")
    return f"{found[2]} is not {' or '.join(kinds)}"


class Parser(ArgumentParser):
    """A parser whose errors are one line, with the nearest flag where one was misspelt."""

    words: Sequence[str] = ()  # what is parsed
    refused: Mapping[str, str] = {}  # option -> why there is no such flag
    files: Mapping[str, str] = {}  # option -> the file that sets it

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in self.words:
            name = word.partition("=")[0]
            if name.removeprefix("--") in self.refused:
                raise WrongInput(f"{name}: {self.refused[name.removeprefix('--')]}")
            if name.startswith("--") and name not in flags:
                close = difflib.get_close_matches(name, flags, n=1)
                raise WrongInput(f"unknown flag {name}" + (f"; did you mean {close[0]}?" if close else "; see --help"))
        told = " ".join(str(message).split())
        typed = re.match(r'Parser key "([\w.]+)":? (.*)', told)
        if typed is not None:
            named = [flag for action in self._actions if action.dest == typed[1] for flag in action.option_strings]
            where = f"{self.files[typed[1]]}: {typed[1]}" if typed[1] in self.files else (named or [typed[1]])[-1]
            told = f"{where}: {re.sub(TYPES, _in_words, typed[2])}"
        raise WrongInput(told if len(told) <= LONGEST else f"{told[:LONGEST]} ...")


def parser_for(ablation: Ablation, with_trainer: bool) -> Parser:
    """The parser of a script; with_trainer adds every option of lightning.Trainer, which takes seconds to import."""
    claims = "\n".join(f"  {claim.id}  {claim.says}" for claim in ablation.claims)
    parser = Parser(
        prog=shlex.join(program(f"ablations.{ablation.name}")),
        description=f"{ablation.title}\n\n{ablation.question}\n\nClaims on trial:\n{claims}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="--trainer.OPTION sets an option of lightning.Trainer, e.g. --trainer.devices 2 --trainer.strategy ddp "
        "(one device unless you say more); --trainer.help lists them. --probe.SETTING VALUE sets what the "
        "probe is asked; a report lists the settings at its end, and a wrong one names those there are.",
    )
    add = parser.add_argument
    add("--config", action="config", help="read options from this YAML file")
    add("--budget", choices=list(BUDGETS), default="laptop",
        help="smoke: seconds, proves the machinery; laptop: minutes on 2 CPU cores; hour: one to two hours on two "
        "cores; short: one GPU, an hour; paper: the paper's own schedule")  # fmt: skip
    add("--data", choices=list(NAMES), default="digits", help="what to train on; digits is embedded")
    add("--data-root", type=str, default="data",
        help="where the data lies: torchvision's layout, a folder of parquet files, or class folders")  # fmt: skip
    add("--image-size", type=int, default=None, help="resize and crop images to this square, in pixels")
    add("--train-images", type=int, default=None,
        help="train on so many images, drawn by the seed and of every class in proportion (default: all)")  # fmt: skip
    switch: dict[str, Any] = {"type": bool, "nargs": "?", "const": True, "default": False, "metavar": "yes|no"}
    add("--download", **switch, help="let torchvision download missing data")
    add("--seeds", type=int, default=None, help="seeds per arm (default: the budget's)")
    add("--first-seed", type=int, default=None,
        help="seeds are counted from this one on, so that pilots and evidence share none (default: 0)")  # fmt: skip
    add("--arms", nargs="+", type=str, default=[], help="only these arms (default: all)")
    add("--claims", nargs="+", type=str, default=[], help="only these claims (default: all)")
    add("--search", type=int, default=0,
        help="try N random candidates of every arm that may be searched, and take each arm's lowest training loss "
        "(default: 0, the script's own values)")  # fmt: skip
    add("--network", type=str, default=None,
        help="probe this network, do not train: a name from `modules`, timm:NAME or torchvision:NAME")  # fmt: skip
    add("--weights", type=str, default=None,
        help="weights of --network: safetensors or a state dict, `pretrained` (the library's) or `random`")  # fmt: skip
    normalisation.add_flags(add)
    add("--out", type=str, default="runs", help="root of everything written")
    add("--workers", type=int, default=None,
        help="runs at once, each in a process of one thread (default: one per core of a CPU if there is much to "
        "do)")  # fmt: skip
    add("--wandb", choices=["offline", "online", "disabled"], default="offline",
        help="Weights & Biases; a server that fails or is slow turns online into offline")  # fmt: skip
    add("--wandb-weights", **switch, help="send the trained weights there too, as artifacts")
    add("--dry-run", **switch, help="show arms, runs, costs and expected time; train nothing")
    add("--fresh", **switch, help="ignore finished runs")
    add("--explain", action="store_true", help="print claims, rules, arms of every budget and probes; train nothing")
    add("--version", action="store_true", help="print the version")
    if with_trainer:
        trainer_options.add(parser)
    parser.refused = REFUSED
    return parser


def parse(ablation: Ablation, argv: Sequence[str]) -> Options:
    """The options in `argv`; prints help and exits 0 where asked to. Raises WrongInput for anything not understood."""
    whole = argv
    argv, probe = _probe_settings(argv)
    names = [word.partition("=")[0] for word in argv]
    if "--version" in names:
        print(f"cnn-ablations {version()}")
        raise SystemExit(0)
    if "--trainer.help" in names:
        parser_for(ablation, with_trainer=True).print_help()
        raise SystemExit(0)
    files = {file: config_file.read(file) for file in _config_files(argv)}
    from_files = {name: value for options in files.values() for name, value in options.items()}
    with_trainer = any(name.startswith(("--trainer", "trainer.")) for name in (*names, *from_files))
    parser = parser_for(ablation, with_trainer)
    for file, options in files.items():
        config_file.check(file, options, parser, parser.refused)
    in_files = {name.removeprefix("probe."): value for name, value in from_files.items() if name.startswith("probe.")}
    if in_files:
        parser.add_argument("--probe", type=dict)  # which the parser then takes from a file
    parser.words = argv
    parser.files = {name: file for file, options in files.items() for name in options if f"--{name}" not in names}
    found = parser.parse_args(list(argv))
    if found.explain:
        if found.data not in KNOWN:
            raise WrongInput(f"--explain knows the sizes of {', '.join(KNOWN)}; --dry-run looks at {found.data}")
        print(explanation(ablation, found.data, found.image_size, found.train_images), end="")
        raise SystemExit(0)
    given = {}
    if with_trainer:
        default = parser.get_defaults().trainer
        given = {key: value for key, value in vars(found.trainer).items() if value != default[key]}
        asked = "--trainer.devices" in names or "trainer.devices" in from_files  # "auto", the Trainer's default, too
        given["devices"] = trainer_options.devices(found.trainer.devices if asked else 1)
    cores = os.cpu_count() or 1
    for flag, value, least, most, why in (
        ("--seeds", found.seeds, 1, sys.maxsize, ""),
        ("--first-seed", found.first_seed, 0, LAST_FIRST_SEED, ""),
        ("--image-size", found.image_size, 1, LARGEST_IMAGE, " pixels"),
        ("--train-images", found.train_images, 1, sys.maxsize, ""),
        ("--workers", found.workers, 1, max(16, 4 * cores), f", as this machine has {cores} cores"),
        ("--search", found.search, 0, MOST_CANDIDATES, ", as each candidate is trained"),
    ):
        if value is not None and value < least:
            raise WrongInput(f"{flag} {value}: give {least} or more")
        if value is not None and value > most:
            raise WrongInput(f"{flag} {value}: give at most {most}{why}")
    known = [claim.id for claim in ablation.claims]
    for claim in found.claims:
        if claim not in known:
            raise WrongInput(f"unknown claim {claim!r}; {ablation.name} has {', '.join(known)}")
    if found.network is None and found.weights is not None:
        raise WrongInput("--weights needs --network NAME, which says what network they belong to")
    if found.network is not None and found.claims:
        raise WrongInput("--claims goes with training; a network from outside puts no claim on trial")
    if found.network is not None and found.weights is None:
        raise WrongInput("--network needs --weights: FILE, `pretrained` (timm:, torchvision:) or `random`")
    flags = {each.name: getattr(found, each.name) for each in fields(Options) if hasattr(found, each.name)}
    changed = {
        "data_root": Path(found.data_root),
        "out": Path(found.out),
        "arms": tuple(found.arms),
        "claims": tuple(found.claims),
        "normalisation": normalised(found.network, found.mean, found.std),
        "trainer": given,
        "probe": {**{name: as_text(value) for name, value in in_files.items()}, **probe},
        "command": shlex.join([*program(f"ablations.{ablation.name}"), *whole]),
    }
    return Options(**{**flags, **changed})


def normalised(network: str | None, mean: Sequence[str | float], std: Sequence[str | float]) -> Normalisation | None:
    """What --mean and --std say of a network from outside; raises WrongInput for what cannot be, or without one."""
    if network is None and (mean or std):
        raise WrongInput("--mean and --std go with --network; what is trained here has the statistics of its own data")
    try:
        return normalisation.asked(mean, std)
    except ValueError as error:
        raise WrongInput(str(error)) from None


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


def _config_files(argv: Sequence[str]) -> list[str]:
    """The files that --config FILE and --config=FILE name."""
    named = [word.partition("=")[2] for word in argv if word.startswith("--config=")]
    return named + [value for word, value in pairwise(argv) if word == "--config" and value[:2] != "--"]
