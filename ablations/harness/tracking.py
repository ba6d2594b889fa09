"""Weights & Biases beside the files: offline by default, and never a reason to lose a run or to wait for long.

A failure is told in one line. A server that fails or is slow ends the online part of a command: what is left is kept
offline. All processes of a command together wait `PATIENCE` seconds for a server, beyond the `USUAL` seconds that any
one answer may take.
"""

from __future__ import annotations

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
from ablations.harness.records import Record, Records
from ablations.harness.runtime import say
from ablations.harness.wandb_names import PROJECT, means

if TYPE_CHECKING:
    from ablations.harness.trial import Trial
    from modules.cost import Cost

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

    group: the ablation; job_type: the arm, or `summary`; config: what W&B shall filter by.
    run_id: of a W&B run that is to be replaced; by default a new one, <group>-<8 digits>, so that a folder of
    W&B says what it belongs to.
    """

    def __init__(
        self, out: Path, mode: str, *, group: str, job_type: str, name: str, tags: list[str],
        run_id: str | None = None, **config: Any,
    ) -> None:  # fmt: skip
        self._failed = False
        self._patience = Patience(out)
        # Its reports of its own errors wait at exit, 20 s and more, for a server that hangs.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        super().__init__(
            name=name, save_dir=str(out), project=PROJECT, id=run_id or f"{group}-{secrets.token_hex(4)}",
            group=group, job_type=job_type, tags=tags, config=config, mode=mode,
        )  # fmt: skip
        self._wandb_init.pop("anonymous", None)  # Lightning passes it, wandb warns of it
        self._wandb_init["resume"] = "allow" if run_id else None  # a new run has nothing to ask the server for
        # The list of installed packages is the same for all runs, and takes 0.2 s to make: the summary alone has it.
        self._settings = {"x_save_requirements": job_type == "summary"}
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
            action(*arguments)
        except Exception as error:  # whatever a tracker raises: the files hold the run
            self._failed = True
            _tell(f"  W&B stopped ({_in_words(error)}); the run goes on in its files")
            if self._experiment is None:
                _restart()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.attempt(super().log_metrics, dict(metrics), step)

    def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
        """The config is given at the start; Lightning's own copy of the network's arguments is not repeated."""

    def finish(self) -> bool:
        """Ends the W&B run, also after a failure, so that the next one in this process is a run of its own.

        False if anything of the run failed; what was logged before then lies in its folder.
        """
        if self._experiment is None:
            return not self._failed
        folder = Path(self._experiment.dir).parent
        try:
            if self.mode == "online":
                with self._patience.spent():
                    self._experiment.finish()
            else:
                self._experiment.finish()
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

    with suppress(Exception):
        wandb.teardown()
    wandb.run = None  # a run that could not be ended would swallow the next one


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"


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


def description(trial: Trial, kind: str, arm: str, seed: int, run: str, cost: Cost) -> dict[str, Any]:
    """What a tracker is told of an arm with a seed, all of it plain and flat, because W&B filters by such names.

    kind: `training`, `candidate` or `probe`; run: its name, by which ablations that share a run find it.
    """
    claims = [claim.id for claim in trial.ablation.claims]
    environment = runtime.environment(trial.device.type)
    return {
        "group": trial.ablation.name,
        "job_type": arm,
        "name": f"{arm}/seed={seed}" + ("" if kind == "training" else f"/{kind}"),
        "tags": [trial.data.name, trial.options.budget, kind, *claims],
        "kind": kind,
        "ablation": trial.ablation.name,
        "arm": arm,
        "seed": seed,
        "claims": claims,
        "data": trial.data.name,
        "budget": trial.options.budget,
        "run": run,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "commit": environment.get("commit", ""),
        "environment": environment,
    }


def log_answers(tracked: Tracker | None, rows: Sequence[Record], step: int) -> None:
    """Logs what a probe answered as a W&B run: a table for each kind of point, and the means over points as metrics."""
    if tracked is None:
        return
    records = Records(rows)
    tracked.log_metrics(means(records), step)
    tracked.attempt(_log_tables, tracked, records)
    tracked.finish()


def _log_tables(tracked: Tracker, records: Records) -> None:
    probes = dict.fromkeys(row.probe for row in records)
    tracked.experiment.log({f"tables/{probe}": _table(records.where(probe=probe)) for probe in probes})


def _table(records: Records) -> Any:
    """The records of one kind of point, with a column for each of its fields."""
    import wandb

    fields = list(dict.fromkeys(field for row in records for field in row.fields))
    rows = [[*(row.fields.get(field, "") for field in fields), row.metric, row.value, row.unit] for row in records]
    return wandb.Table(columns=[*fields, "metric", "value", "unit"], data=rows)
