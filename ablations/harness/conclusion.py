"""What a trial leaves: records.csv, verdicts.json, ablation.json, figures and the page, in the order of their worth."""

from __future__ import annotations

import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

from ablations.harness.estimate import Estimate
from ablations.harness.probing import kept_folder
from ablations.harness.runtime import environment, say
from ablations.harness.store.files import PAGE, sweep, write_json
from ablations.harness.store.folders import make_way, make_way_for_files, remove
from ablations.harness.store.records import Records, write_csv
from ablations.harness.store.runs import locked, outcome
from ablations.harness.tracking.summary_run import log_summary
from ablations.harness.trial import Trial
from ablations.harness.verdict import judge

EVALUATION = "test set read once, at the end of training, with the last weights, in fp32"


def conclude(
    trial: Trial, records: Records, estimates: dict[str, Estimate], outside: dict[str, Any] | None = None
) -> bool:
    """Writes everything below the trial's folder and says where the page is; True if a picture or the page failed.

    One process at a time: another that has the same to write waits. outside: what is told of a network from outside,
    which puts no claim on trial (see `external.describe`).
    """
    with locked(f"the page of {trial.folder.name}", page_lock(trial), wait=True):
        failed = _write(trial, records, estimates, outside)
    log_summary(trial.folder, trial.options.out, trial.options.wandb, trial.options.wandb_weights)
    return failed


def page_lock(trial: Trial) -> Path:
    """What a process holds while it writes what all commands of the ablation at this budget and data write."""
    return trial.options.out / ".locks" / f"{trial.ablation.name}-{trial.folder.name}"


def _write(trial: Trial, records: Records, estimates: dict[str, Estimate], outside: dict[str, Any] | None) -> bool:
    """Records and verdicts come first: a failure of a plot or of the page loses neither."""
    folder = trial.folder
    make_way(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_way(folder / "figures")
    sweep(folder, below=False)  # there may lie answers of a network from outside, which have a lock of their own
    sweep(folder / "figures")
    make_way_for_files(folder / "figures", [path.name for path in (folder / "figures").glob("*")])  # it holds files
    make_way_for_files(folder, ("records.csv", "verdicts.json", "ablation.json", PAGE))
    write_csv(folder / "records.csv", records)
    options = trial.options
    verdicts = judge(
        trial.claims, records, list(range(trial.plan.seeds)), options.budget, str(trial.data.name),
        num_claims=len(trial.ablation.claims),
    )  # fmt: skip
    write_json(folder / "verdicts.json", verdicts)
    summary = _summary(trial, estimates)
    if outside is not None:
        summary["outside"] = outside
        _tell_outside(outside)
    write_json(folder / "ablation.json", summary)
    for verdict in verdicts:
        say(f"{verdict['claim']}: {verdict['verdict']} - {verdict['says']}")
        say(f"     {verdict['why']}")
    _gather(trial)
    failed = False
    try:
        drawn = trial.ablation.figures(records, folder)
        summary["figures"] = [{**figure._asdict(), "file": f"figures/{Path(figure.file).name}"} for figure in drawn]
        write_json(folder / "ablation.json", summary)
    except Exception:  # whatever a plot raises: the records stand
        failed = True
        traceback.print_exc()
        print(f"the figures failed; records and verdicts are in {folder}", file=sys.stderr)
        summary["not_done"].append("The figures: drawing them failed; the records are complete.")
        write_json(folder / "ablation.json", summary)
    try:
        from reports.pages.page import write_page
        from reports.pages.run_warnings import run_warnings

        for warning in run_warnings(records):
            say(f"warning: {warning}")
        say(f"report: {write_page(folder)}")
    except Exception:
        failed = True
        traceback.print_exc()
        print(f"the page failed; records and verdicts are in {folder}", file=sys.stderr)
    return failed


def _tell_outside(outside: dict[str, Any]) -> None:
    """Prints what is told of a network from outside."""
    if outside["test_error"] is not None:
        error, guessing = outside["test_error"], outside["guessing"]
        say(f"{outside['run']}: test error {error:.2f} % intact ({guessing:.3g} % is guessing)")
    for sentence in outside["summary"]:
        say(f"     {sentence}")
    if outside["warning"]:
        say(f"warning: {outside['warning']}")
    say("no claim is on trial: a network from outside has no arms and no seeds")


def _gather(trial: Trial) -> None:
    """Copies the files that probes keep beside their answers to files/<arm>-s<seed>/, where figures find them."""
    asked = {
        f"{job.arm.name}-s{job.run.seed}": kept_folder(
            trial.ablation, trial.plan.settings, job.arm.name, job.run.folder(trial.options.out)
        )
        for job in trial.jobs
    }
    if trial.stranger is not None:
        settings = {**trial.plan.settings, **trial.stranger.settings}
        asked[f"{trial.stranger.arm}-s0"] = kept_folder(trial.ablation, settings, trial.stranger.arm, trial.folder)
    gathered = trial.folder / "files"
    remove(gathered)
    for name, kept in asked.items():
        if kept.is_dir():
            shutil.copytree(kept, gathered / name)


def _summary(trial: Trial, estimates: dict[str, Estimate]) -> dict[str, Any]:
    """What the page needs beside records and verdicts, as plain values."""
    first = {job.arm.name: job.run for job in reversed(trial.jobs)}
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
        found = outcome(job.run.folder(trial.options.out)) or {"state": "missing"}
        runs.append(
            {
                "arm": job.arm.name,
                "seed": job.run.seed,
                "run": job.run.name,
                "state": found["state"],
                "why": found.get("why", ""),
                "train_seconds": found.get("seconds"),
                "images_per_second": found.get("images_per_second"),
                "test_top1_error": found.get("test/top1_error"),
            }
        )
    ablation, options = trial.ablation, trial.options
    return {
        "name": ablation.name,
        "title": ablation.title,
        "question": ablation.question,
        "budget": options.budget,
        "data": trial.data.name,
        "seeds": list(range(trial.plan.seeds)),
        "command": options.command,
        "settings": dict(trial.plan.settings),
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
    if trial.stranger is not None:
        found.append(f"No training: {trial.stranger.run} was brought from outside, so no claim is on trial.")
    return [*found, *trial.remarks]
