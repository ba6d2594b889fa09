"""The report page: one report.html from nothing but the files of a finished ablation's folder."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablations.harness.store.files import PAGE, atomic_write_bytes
from ablations.harness.store.records import Records, as_text, records_file
from reports.pages.claim_cards import claim_card, counts
from reports.pages.embedding import figure
from reports.pages.page_scripts import chart_scripts
from reports.pages.reading import Json, environment, one_of, read_ablation, read_each, read_json, read_records
from reports.pages.run_warnings import run_warnings

STATES = ("done", "diverged", "missing")


def write_page(folder: str | Path) -> Path:
    """Write `folder`/report.html from the folder's files and return its path; the same files give the same bytes.

    What is missing or damaged is named on the page. Raises OSError if the page cannot be written.
    """
    folder = Path(folder)
    problems: list[str] = []
    ablation = read_ablation(folder, problems)
    verdicts = read_json(folder / "verdicts.json", list, problems)
    cards = read_each(verdicts or [], claim_card, "verdicts.json, claim", problems)
    arms = read_each(ablation["arms"], _arm, "ablation.json, arm", problems)
    runs = read_each(ablation["runs"], _run, "ablation.json, run", problems)
    figures = read_each(ablation["figures"], lambda entry: figure(folder, entry), "figure", problems)
    charts = [each for each in figures if each["kind"] == "chart"]
    records = read_records(folder, problems)
    page = environment().get_template("page.html.j2").render(
        **{key: ablation[key] for key in ("title", "question", "budget", "data", "evaluation", "command")},
        name=ablation["name"] or folder.resolve().name,
        seeds=len(ablation["seeds"]),
        probes=read_each(ablation["probes"], _probe, "ablation.json, probe", problems),
        environment={key: _plain(value) for key, value in ablation["environment"].items()},
        cards=cards,
        counts=counts(cards),
        figures=[each for each in figures if each["kind"] != "chart"],
        charts=charts,
        scripts=chart_scripts(folder) if charts else None,
        arms=arms,
        differences=_differences(arms),
        foreign=next(iter(read_each(ablation["foreign"], _foreign, "ablation.json, network", problems)), None),
        searches=read_each(ablation["search"], _search, "ablation.json, search", problems),
        runs=runs,
        summaries=_summaries(runs),
        records=records,
        records_file=records_file(folder).name,
        broken=sum(not math.isfinite(row.value) for row in records or ()),
        not_done=_not_done(ablation, arms, runs, records),
        warnings=run_warnings(records or Records()),
        problems=problems,
    )  # fmt: skip
    path = folder / PAGE
    atomic_write_bytes(path, page.encode("utf-8", "backslashreplace"))  # JSON can hold lone surrogates
    return path


def _foreign(foreign: Json) -> Json:
    """A foreign network: what was read, how its images were normalised, its error, what the probe found."""
    normalisation = foreign["normalisation"]
    return {
        **{key: _plain(foreign[key]) for key in ("run", "weights", "taken", "warning")},
        "whole": _plain(foreign["whole"]),
        "source": _plain(normalisation["source"]),
        **{key: ", ".join(f"{value:.4g}" for value in normalisation[key]) for key in ("mean", "std")},
        "test_error": _optional(foreign["test_error"]),
        "guessing": float(foreign["guessing"]),
        "summary": [_plain(sentence) for sentence in foreign["summary"]],
    }


def _arm(arm: Json) -> Json:
    """One arm with the texts of its arguments and recipe fields, keyed by (group, name)."""
    fields = {("", "network"): _plain(arm["network"])}
    groups = {"data": arm.get("data", {})}  # of reports from before arms had data of their own there is none
    for group, values in (groups | {name: arm[name] for name in ("arguments", "recipe")}).items():
        fields |= {(group, key): _plain(value) for key, value in values.items()}
    counts = {key: int(arm[key]) for key in ("parameters", "multiply_adds", "blocks")}
    return {"name": _plain(arm["name"]), "note": _plain(arm["note"]), "fields": fields, **counts}


def _probe(probe: Json) -> Json:
    """What was asked, of whom, with which settings."""
    settings = "" if not probe["settings"] else _plain(probe["settings"])
    return {"name": _plain(probe["name"]), "settings": settings, "arms": _plain(list(probe["arms"]))}


def _search(search: Json) -> Json:
    """What `--search` tried for one arm, the candidates from the best to those that diverged."""
    candidates = [
        {"values": _plain(each["values"]), "run": _plain(each["run"]), "loss": _optional(each["train_loss"])}
        for each in search["candidates"]
    ]
    ranges = {
        name: (" or " if any(isinstance(end, str) for end in ends) else " to ").join(map(_plain, ends))
        for name, ends in search["ranges"].items()
    }
    return {
        "arm": _plain(search["arm"]),
        "criterion": _plain(search["criterion"]),
        "ranges": _plain(ranges),
        "chosen": None if search["chosen"] is None else _plain(search["chosen"]),
        "loss": _optional(search["train_loss"]),
        "candidates": sorted(candidates, key=lambda each: math.inf if each["loss"] is None else each["loss"]),
        "diverged": sum(each["loss"] is None for each in candidates),
    }


def _differences(arms: Sequence[Json]) -> list[tuple[str, str]]:
    """The (group, name) of the fields in which the arms differ; not to set a field is a difference too."""
    keys = sorted(dict.fromkeys(key for arm in arms for key in arm["fields"]), key=lambda key: key[0])  # by group
    return [key for key in keys if len({arm["fields"].get(key) for arm in arms}) > 1]


def _run(run: Json) -> Json:
    """One run, its state and numbers checked."""
    one_of(run["state"], STATES)
    numbers = {key: _optional(run[key]) for key in ("train_seconds", "images_per_second", "test_error")}
    texts = {key: _plain(run[key]) for key in ("arm", "run", "state", "why")}
    metric = _plain(run["test_metric"]).rpartition("/")[2]
    texts["metric"] = "" if metric == "top1_error" else metric.replace("_", " ")
    return {**texts, "seed": int(run["seed"]), **numbers}


def _summaries(runs: Sequence[Json]) -> list[Json]:
    """Per arm: how many of its runs are done, and mean and sample deviation of their numbers over seeds."""
    summaries = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        mine = [run for run in runs if run["arm"] == arm]
        done = [run for run in mine if run["state"] == "done"]
        summary: Json = {"arm": arm, "runs": len(mine), "done": len(done)}
        for key in ("test_error", "train_seconds", "images_per_second"):
            values = [run[key] for run in done if run[key] is not None]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summary[key] = (statistics.fmean(values), deviation) if values else None
        summaries.append(summary)
    return summaries


def _not_done(ablation: Json, arms: Sequence[Json], runs: Sequence[Json], records: Records | None) -> list[str]:
    """What a reader might believe was done but was not, one sentence each."""
    entries = []
    for run in runs:
        if run["state"] != "done":
            why = f": {run['why']}" if run["why"] else ""
            entries.append(f"Arm {run['arm']}, seed {run['seed']} is {run['state']}{why}.")
    explained = [(run["arm"], run["seed"]) for run in runs if run["state"] != "done"]
    for arm in arms:
        present = ablation["seeds"] if records is None else records.seeds(arm["name"])
        absent = [s for s in ablation["seeds"] if s not in present and (arm["name"], s) not in explained]
        if absent:
            entries.append(f"Arm {arm['name']} has no records of seed {', '.join(map(_plain, absent))}.")
    return entries + [_plain(entry) for entry in ablation["not_done"]]


def _optional(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]


def _plain(value: object) -> str:
    """A setting in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return "none" if value is None else as_text(value)
