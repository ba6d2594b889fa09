"""Weights & Biases beside the files: offline by default, and never a reason to lose a run or to wait for long.

A failure is told in one line. A server that fails or is slow ends the online part of a command: what is left is kept
offline. All processes of a command together wait `PATIENCE` seconds for a server, beyond the `USUAL` seconds that any
one answer may take.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from ablations.harness import runtime
from ablations.harness.command.within import within
from ablations.harness.runtime import say
from ablations.harness.store.files import write_json
from ablations.harness.store.records import Record, Records
from ablations.harness.store.wandb_names import PROJECT, STEP, SUMMARY, means
from ablations.harness.tracking import lineage

if TYPE_CHECKING:
    from modules.blocks.cost import Cost

PATIENCE, USUAL = 10.0, 2.0  # seconds
# The processes that a command starts inherit its name, and with it what is left of its patience.
COMMAND = os.environ.setdefault("ABLATIONS_COMMAND", f"{os.getpid()}-{time.time_ns()}")


class Patience:
    """The seconds that a command may still wait for a server, in a file that its processes share."""

    def __init__(self, out: Path) -> None:
        self._file = out / "wandb" / f".waited-{COMMAND}"

    @property
    def left(self) -> float:
        """From 0 to PATIENCE."""
        try:
            return max(0.0, PATIENCE - sum(map(float, self._file.read_text().split())))
        except FileNotFoundError:
            return PATIENCE

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Counts the block's seconds beyond the usual ones; one that raises spends all that is left."""
        started, seconds = time.perf_counter(), PATIENCE
        try:
            yield
            seconds = time.perf_counter() - started - USUAL
        finally:
            if seconds > 0:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("a") as stream:
                    stream.write(f"{seconds}\n")


class Tracker(WandbLogger):
    """One W&B run; the first failure is told in one line and ends tracking, not training.

    group: the ablation; job_type: of `wandb_names`; config: what W&B shall filter by. run_id: what W&B calls the run,
    see `new_id`; replaces: whether it may be there already. inputs: artifacts that it uses, see `lineage`.
    Where a process is one of several, only rank 0 has a W&B run.
    """

    def __init__(
        self, out: Path, mode: str, *, group: str, job_type: str, name: str, tags: list[str],
        run_id: str | None = None, replaces: bool = False, inputs: Sequence[Mapping[str, Any]] = (), **config: Any,
    ) -> None:  # fmt: skip
        self._failed = False
        self._patience = Patience(out)
        self._inputs, self._with_minimum = inputs, set[str]()
        # Its reports of its own errors wait at exit, 20 s and more, for a server that hangs.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        super().__init__(
            name=name, save_dir=str(out), project=PROJECT, id=run_id or new_id(group),
            group=group, job_type=job_type, tags=tags, config=config, mode=mode,
        )  # fmt: skip
        self._wandb_init.pop("anonymous", None)  # Lightning passes it, wandb warns of it
        self._wandb_init["resume"] = "allow" if replaces else None  # a new run has nothing to ask the server for
        # The list of installed packages is the same for all runs, and takes 0.2 s to make: the summary alone has it.
        self._settings = {"x_save_requirements": job_type == SUMMARY}
        self._wandb_init["settings"] = self._settings

    @property
    def run_id(self) -> str:
        """What W&B calls the run."""
        return str(self._wandb_init["id"])

    @property
    def mode(self) -> str:
        """online or offline; what it was told to be until it starts."""
        return str(self._wandb_init["mode"])

    def _start(self) -> None:
        """Starts the W&B run, online while there is patience, else offline; raises whatever wandb raises offline."""
        if self._experiment is not None:
            return
        self._start_somewhere()
        for described in self._inputs:
            self._record(described, used=True)

    def _start_somewhere(self) -> None:
        if self.mode == "online":
            if (patience := self._patience.left) > 0:
                try:
                    self._start_online(patience)
                    return
                except Exception as error:  # whatever a tracker raises: the run can be sent later
                    _tell(f"  W&B is not reached ({_in_words(error)}); kept offline from now on, for `wandb sync`")
                    _restart()  # it holds the run to have begun
                    self._experiment = None
            os.environ["WANDB_MODE"] = "offline"  # else wandb asks the server whose key it is
            self._wandb_init |= {"mode": "offline", "settings": self._settings}
        _ = self.experiment

    def _start_online(self, patience: float) -> None:
        import wandb

        seconds = {"init_timeout": patience, "finish_timeout": patience, "finish_timeout_raises": True}
        with self._patience.spent():
            if not wandb.login(prompt=False, verify=False):
                raise PermissionError("there is no API key; `wandb login` stores one")
            self._wandb_init["settings"] = wandb.Settings(**self._settings, **seconds)
            _ = self.experiment

    def attempt(self, action: Callable[..., object], *arguments: Any) -> None:
        """Starts the W&B run if it has not, and carries out the action; after a failure nothing is tried any more."""
        if self._failed:
            return
        try:
            self._start()
            self._within_patience(action, *arguments)
        except Exception as error:  # whatever a tracker raises: the files hold the run
            self._failed = True
            _tell(f"  W&B stopped ({_in_words(error)}); the run goes on in its files")
            if self._experiment is None:
                _restart()

    def _within_patience(self, action: Callable[..., object], *arguments: Any) -> None:
        """Carries out the action; online, raises TimeoutError when the patience is at its end.

        wandb itself would wait for ever: at a table it asks the server what has that name, at the end of a run it waits
        for every artifact.
        """
        if self.mode != "online":
            action(*arguments)
            return
        with self._patience.spent():
            within(USUAL + self._patience.left, action, *arguments)

    def _record(self, described: Mapping[str, Any], *, used: bool) -> None:
        """An artifact that cannot be noted is told of, and the metrics go on."""
        try:
            lineage.record(self.experiment, described, used=used)
        except Exception as error:  # whatever wandb raises: what it does here is not its public face
            _tell(f"  W&B has no artifact of the {described['type']} ({_in_words(error)})")

    @rank_zero_only
    def log_output(self, described: Mapping[str, Any]) -> None:
        """Notes an artifact that the run made, see `lineage`."""
        self.attempt(lambda: self._record(described, used=False))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs at an optimiser step; W&B's table shows the last value, of validation errors the smallest too."""
        self.attempt(self._log_metrics, dict(metrics), step)

    def _log_metrics(self, metrics: dict[str, float], step: int | None) -> None:
        for name in metrics:
            if name.startswith("val/") and name.endswith("_error") and name not in self._with_minimum:
                self._with_minimum.add(name)
                self.experiment.define_metric(name, step_metric=STEP, summary="min,last")
        super().log_metrics(metrics, step)

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """The config is given at the start; Lightning's own copy of the network's arguments is not repeated."""

    def finish(self, exit_code: int = 0) -> bool:
        """Ends the W&B run, also after a failure, so that the next one in this process is a run of its own.

        exit_code: other than 0 for a run that was interrupted, which W&B then calls failed.
        False if anything of the run failed; what was logged before then lies in its folder.
        """
        if self._experiment is None:
            return not self._failed
        folder = Path(self._experiment.dir).parent
        try:
            self._within_patience(self._experiment.finish, exit_code)
        except Exception as error:
            if not self._failed:
                later = f"; later: wandb sync {folder}" if self.mode == "online" else ""
                _tell(f"  W&B stopped ({_in_words(error)}); the run is complete in its files{later}")
            self._failed = True
            _restart()
        return not self._failed


@cache
def _tell(line: str) -> None:
    """Says it once in a process: forty runs need not say the same."""
    say(line)


def _restart() -> None:
    """Ends wandb's own process, which may have died or hang; the next run starts a new one."""
    import wandb

    process = None
    with suppress(Exception):
        process = wandb.setup()._connection._proc._process  # none, if it belongs to another process of ours
    with suppress(Exception, SystemExit):
        try:
            within(USUAL, wandb.teardown)  # writes what is left to be written, and may wait for the server for ever
        except TimeoutError:
            if process is not None:
                process.kill()
    wandb.run = None  # a run that could not be ended would swallow the next one


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"


def new_id(group: str) -> str:
    """What a W&B run is called, <group>-<8 digits>, so that its folder says what it belongs to."""
    return f"{group}-{secrets.token_hex(4)}"


def tracker(out: Path, mode: str, **description: Any) -> Tracker | None:
    """A tracker, or None where W&B is disabled or not installed (said in one line)."""
    if mode == "disabled":
        return None
    try:
        import wandb  # noqa: F401

        return Tracker(out, mode, **description)
    except ImportError:
        _tell("  W&B is not installed; the run is recorded in its files alone")
    except Exception as error:  # a broken installation must not cost a run either
        _tell(f"  W&B does not start ({type(error).__name__}); the run is recorded in its files alone")
    return None


def description(
    job_type: str, ablation: str, budget: str, claims: Sequence[str], data: str, arm: str, seed: int, run: str,
    cost: Cost, device: str,
) -> dict[str, Any]:  # fmt: skip
    """What a tracker is told of an arm with a seed, all of it plain and flat, because W&B filters by such names.

    run: the name of the trained network, by which ablations that share it find it.
    """
    environment = runtime.environment(device)
    return {
        "group": ablation,
        "job_type": job_type,
        "name": f"{arm}/seed={seed}",
        "tags": [data, budget, job_type, *claims],
        "ablation": ablation,
        "arm": arm,
        "seed": seed,
        "claims": list(claims),
        "data": data,
        "budget": budget,
        "run": run,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "commit": environment.get("commit", ""),
        "environment": environment,
    }


def remember_training(out: Path, run: str, run_id: str) -> None:
    """Keeps which W&B run trained a network, if that run is there: later commands link to it."""
    if any((out / "wandb").glob(f"*run-*-{run_id}")):
        write_json(_memory(out, run), {"run_id": run_id})


def trained_by(out: Path, run: str) -> str:
    """The id of the W&B run that trained a network below `out`; "" if there is none or it is not known."""
    return str(remembered(_memory(out, run)).get("run_id", ""))


def _memory(out: Path, run: str) -> Path:
    return out / "wandb" / f"trained-{run}.json"


def remembered(file: Path) -> dict[str, Any]:
    """What a file says of a W&B run; empty if it was never said or the file is damaged."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def log_answers(tracked: Tracker, rows: Sequence[Record], step: int) -> None:
    """Logs what a probe answered: a table for each kind of point, and the means over points as metrics."""
    records = Records(rows)
    probes = dict.fromkeys(row.probe for row in records)
    tracked.log_metrics(means(records), step)
    tracked.attempt(
        lambda: tracked.experiment.log({f"tables/{probe}": _table(records.where(probe=probe)) for probe in probes})
    )


def _table(records: Records) -> Any:
    """The records of one kind of point, with a column for each of its fields."""
    import wandb

    fields = list(dict.fromkeys(field for row in records for field in row.fields))
    rows = [[*(row.fields.get(field, "") for field in fields), row.metric, row.value, row.unit] for row in records]
    return wandb.Table(columns=[*fields, "metric", "value", "unit"], data=rows)
