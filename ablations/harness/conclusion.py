"""What a trial leaves: records.csv, verdicts.json, ablation.json, figures and the page, in the order of their worth."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ablations.harness.declare import chart
from ablations.harness.estimate import Estimate
from ablations.harness.judging.rules import fixed
from ablations.harness.judging.verdict import judge
from ablations.harness.runtime import environment, say
from ablations.harness.store.answers import kept_beside
from ablations.harness.store.files import PAGE, sweep, write_json
from ablations.harness.store.folders import make_way, make_way_for_files, remove
from ablations.harness.store.records import Records, write_csv
from ablations.harness.store.runs import locked, outcome
from ablations.harness.tracking.summary_run import log_summary
from ablations.harness.trial import Trial

EVALUATION = "test set read once, at the end of training, with the last weights, in fp32"


def conclude(
    trial: Trial,
    records: Records,
    estimates: dict[str, Estimate],
    report: Callable[[Path], bool],
    foreign: dict[str, Any] | None = None,
) -> bool:
    """Writes everything below the trial's folder; True if the report failed.

    One process at a time: another that has the same to write waits. report: draws charts and page from the folder's
    files, says where the page is, and gives True if it failed. foreign: what is told of a foreign network, which puts
    no claim on trial (see `foreign.network.describe`).
    """
    lock = trial.options.out / ".locks" / f"{trial.ablation.name}-{trial.folder.name}"
    with locked(f"the page of {trial.folder.name}", lock, wait=True):
        _write(trial, records, estimates, foreign)
        failed = report(trial.folder)
    log_summary(trial.folder, trial.options.out, trial.options.wandb, trial.options.wandb_weights)
    return failed


def _write(trial: Trial, records: Records, estimates: dict[str, Estimate], foreign: dict[str, Any] | None) -> None:
    """Records and verdicts come first: nothing that fails later loses them."""
    folder = trial.folder
    make_way(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_way(folder / "figures")
    sweep(folder, below=False)  # there may lie answers of a foreign network, which have a lock of their own
    sweep(folder / "figures")
    make_way_for_files(folder / "figures", [path.name for path in (folder / "figures").glob("*")])  # it holds files
    make_way_for_files(folder, ("records.csv", "verdicts.json", "ablation.json", PAGE))
    write_csv(folder / "records.csv", records)
    options = trial.options
    verdicts = judge(
        trial.claims, records, list(trial.seeds), options.budget, str(trial.data.name),
        num_claims=sum(claim.kind == "experiment" for claim in trial.ablation.claims),
    )  # fmt: skip
    summary = _summary(trial, estimates)
    commits = {run["commit"] for run in summary["runs"] if run["commit"]}
    rules = fixed(Path(inspect.getfile(trial.ablation.plan)), commits)
    verdicts = [{**verdict, "rules": rules} for verdict in verdicts]
    if foreign is not None:
        summary["foreign"] = foreign
        _tell_foreign(foreign)
    write_json(folder / "verdicts.json", verdicts)
    write_json(folder / "ablation.json", summary)
    for verdict in verdicts:
        say(f"{verdict['claim']}: {verdict['verdict']} - {verdict['says']}")
        say(f"     {verdict['why']}")
    _gather(trial)


def _tell_foreign(foreign: dict[str, Any]) -> None:
    """Prints what is told of a foreign network."""
    if foreign["test_error"] is not None:
        error, guessing = foreign["test_error"], foreign["guessing"]
        say(f"{foreign['run']}: test error {error:.2f} % intact ({guessing:.3g} % is guessing)")
    for sentence in foreign["summary"]:
        say(f"     {sentence}")
    if foreign["warning"]:
        say(f"warning: {foreign['warning']}")
    say("no claim is on trial: a foreign network has no arms and no seeds")


def _gather(trial: Trial) -> None:
    """Copies the files that probes keep beside their answers to files/<arm>-s<seed>/, where charts find them."""
    asked = [(job.asked, job.probes) for job in trial.jobs]
    if trial.foreign is not None:
        asked.append((trial.foreign.asked(trial.ablation.name, trial.folder), trial.probes))
    gathered = trial.folder / "files"
    remove(gathered)
    for of, probes in asked:
        for kept in (kept_beside(of.file(probe)) for probe in probes):
            if kept.is_dir():
                shutil.copytree(kept, gathered / f"{of.arm}-s{of.seed}", dirs_exist_ok=True)


def _summary(trial: Trial, estimates: dict[str, Estimate]) -> dict[str, Any]:
    """What the page needs beside records and verdicts, as plain values."""
    first = {job.arm: job.run for job in reversed(trial.jobs)}
    arms = [
        {
            "name": arm.name,
            "network": arm.network,
            "arguments": {k: v for k, v in first[arm.name].identity()["network"].items() if k != "builder"},
            "recipe": first[arm.name].identity()["recipe"],
            "data": dict(arm.data),
            "note": arm.note,
            "parameters": estimates[arm.name].cost.parameters,
            "multiply_adds": estimates[arm.name].cost.multiply_adds,
            "blocks": estimates[arm.name].blocks,
        }
        for arm in trial.arms
    ]
    runs = []
    for job in trial.jobs:
        found = outcome(job.folder) or {"state": "missing"}
        metric = next((name for name in found if name.startswith("test/") and name.endswith("_error")), "")
        runs.append(
            {
                "arm": job.arm,
                "seed": job.run.seed,
                "run": job.run.name,
                "state": found["state"],
                "why": found.get("why", ""),
                "train_seconds": found.get("seconds"),
                "images_per_second": found.get("images_per_second"),
                "test_error": found.get(metric),
                "test_metric": metric,
                "commit": found.get("commit", ""),
            }
        )
    ablation, options = trial.ablation, trial.options
    return {
        "name": ablation.name,
        "title": ablation.title,
        "question": ablation.question,
        "budget": options.budget,
        "data": trial.data.name,
        "seeds": list(trial.seeds),
        "command": options.command,
        "charts": [chart.written(each) for each in ablation.charts],
        "probes": [
            {
                "name": probe.name,
                "version": probe.version,
                "settings": probe.settings,
                "units": dict(probe.units),
                "arms": [arm.name for arm in trial.arms if probe.asks(arm.name)],
            }
            for probe in (trial.plan.probes if trial.foreign is None else trial.probes)
            if trial.foreign is not None or any(probe.asks(arm.name) for arm in trial.arms)
        ],
        "arms": arms,
        "runs": runs,
        "search": [found.summary() for found in trial.searches],
        "environment": environment(trial.device.type),
        "figures": [],
        "not_done": _not_done(trial),
        "evaluation": EVALUATION,
    }


def _not_done(trial: Trial) -> list[str]:
    """What a reader might take for granted and was not done, one sentence each."""
    options = trial.options
    found = []
    if options.budget != "paper":
        found.append(
            f"The paper's own networks and schedule: this is the {options.budget} budget on {trial.data.name}."
        )
    left_out = [arm.name for arm in trial.plan.arms if arm not in trial.arms]
    if left_out:
        found.append(f"Arms left out by --arms: {', '.join(left_out)}.")
    if trial.options.claims and len(trial.claims) < len(trial.ablation.claims):
        found.append("Claims left out by --claims still count in Holm's correction.")
    if trial.foreign is not None:
        found.append(f"No training: {trial.foreign.run} was not trained here, so no claim is on trial.")
    return [*found, *trial.remarks]
