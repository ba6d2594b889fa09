"""A comparison report in Weights & Biases from the files of a finished ablation's folder.

    python -m reports.wandb_report remove_layers --entity my-team --sync --online

Without --online the report's specification is written as JSON beside the ablation's other files, and nothing is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.harness.command.command_line import WrongInput
from ablations.harness.command.invocation import program
from ablations.harness.command.within import within
from ablations.harness.declare.scale import BUDGETS
from ablations.harness.declare.scripts import names
from ablations.harness.store import wandb_names
from ablations.harness.store.files import write_json
from ablations.harness.store.records import Records, read_records, records_file

DONE, FAILED, WRONG = 0, 1, 2
SPECIFICATION = "wandb_report.json"
NOT_PROBED = ("epoch", "test", "train", "diverged")  # what a run's own training says
SECONDS = 60  # that the server has to save a report; to take the runs, as many again for each ten
UNNAMED = "entity"  # stands for the entity in a specification that is not to be saved

Json = dict[str, Any]


# -- what is shown ----------------------------------------------------------------------------------------------------


def build_report(folder: Path, project: str, entity: str) -> Any:
    """The report on an ablation's folder, as `wandb_workspaces` models it; the same files give the same report.

    Raises WrongInput if the folder lacks a file, OSError or ValueError if one is damaged.
    """
    import wandb_workspaces.reports.v2 as wr

    ablation, verdicts, records = _read(folder)
    arms: dict[str, list[str]] = {}  # -> its runs
    for row in records:
        if row.run not in arms.setdefault(row.arm, []):
            arms[row.arm].append(row.run)
    scale = f"{ablation['data']}, {ablation['budget']} budget, {len(ablation['seeds'])} seeds"
    blocks: list[Any] = [wr.P(f"{ablation['question']} Put on trial on {scale}. Tested: {ablation['evaluation']}.")]
    blocks += [wr.H2("Claims and verdicts"), *(block for verdict in verdicts for block in _prose(verdict))]
    blocks += _grids(ablation, records, arms)
    blocks += [wr.H2("How to repeat it"), wr.MarkdownBlock(text=f"```sh\n{ablation['command']}\n```")]
    if ablation["not_done"]:
        blocks += [wr.H2("What was not done"), wr.UnorderedList(items=list(ablation["not_done"]))]
    title = f"{ablation['title']} ({scale})"
    report = wr.Report(project=project, entity=entity, title=title[:128], description=ablation["question"])
    report.blocks = _numbered(blocks)
    return report


def _read(folder: Path) -> tuple[Json, list[Json], Records]:
    for name in ("ablation.json", "verdicts.json", records_file(folder).name):
        if not (folder / name).is_file():
            raise WrongInput(f"{folder} holds no {name}; give the folder of a finished ablation")
    ablation, verdicts = (json.loads((folder / name).read_text()) for name in ("ablation.json", "verdicts.json"))
    return ablation, verdicts, read_records(folder)


def _prose(verdict: Json) -> list[Any]:
    """A claim and what became of it, in sentences."""
    import wandb_workspaces.reports.v2 as wr

    found = "There is no estimate."
    if verdict["estimate"] is not None:
        found = f"Measured: {verdict['estimate']:.4g} {verdict['unit']}".rstrip()
        if None not in verdict["interval"]:
            low, high = verdict["interval"]
            found += f", 95 % interval {low:.4g} to {high:.4g}"
        found += f" ({verdict['scale']})."
    sentences = [found, f"{verdict['why'].rstrip('.')}.", f"Rule: {verdict['rule'].rstrip('.')}."]
    sentences.append(f"Source: {verdict['source'].rstrip('.')}." if verdict["source"] else "")
    sentences.append(f"Published: {verdict['published'].rstrip('.')}." if verdict["published"] else "")
    heading = wr.H3(f"{verdict['claim']}: {verdict['verdict']}")
    return [heading, wr.P(verdict["says"]), wr.P(" ".join(filter(None, sentences)))]


def _grids(ablation: Json, records: Records, arms: Mapping[str, list[str]]) -> Iterator[Any]:
    """Headings and panels: training, results and probe by arm, all runs side by side, figures and tables."""
    import wandb_workspaces.reports.v2 as wr

    def by_arm(job_types: list[str], **wanted: str) -> list[Any]:
        # By run, because a network that several ablations share was trained by one of them, whose name of the arm it
        # bears; grouped by what all have in common, so that the seeds of an arm are one line or bar. A training that
        # was interrupted is a run too, which W&B calls failed.
        return [
            wr.Runset(name=arm, filters=f"State = 'finished' and {_where(job_types, run=runs, **wanted)}",
                      groupby=["config.data"])
            for arm, runs in arms.items()
        ]  # fmt: skip

    def bars(metrics: Sequence[str]) -> list[Any]:
        spread: Json = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
        return [wr.BarPlot(title=metric, metrics=[metric], orientation="h", **spread) for metric in metrics]

    def metrics(*probes: str) -> list[str]:
        return list(dict.fromkeys(row.metric for probe in probes for row in records.where(probe=probe)))

    curves = [metric for metric in metrics("epoch") if metric.startswith(("train/", "val/"))]
    if curves:
        yield wr.H2("Training")
        panels = [
            wr.LinePlot(
                title=metric, x=wandb_names.STEP, y=[metric], groupby_aggfunc="mean", groupby_rangefunc="minmax"
            )
            for metric in curves
        ]
        yield wr.PanelGrid(runsets=by_arm([wandb_names.TRAIN]), panels=panels)
    if tested := metrics("test"):
        yield wr.H2("Test results by arm")
        yield wr.PanelGrid(runsets=by_arm([wandb_names.TRAIN]), panels=bars(tested))
        yield wr.H2("All runs compared")
        every = [run for runs in arms.values() for run in runs]
        runset = wr.Runset(name="all runs", filters=f"State = 'finished' and {_where([wandb_names.TRAIN], run=every)}")
        yield wr.PanelGrid(runsets=[runset], panels=[wr.RunComparer(diff_only="split", layout=wr.Layout(w=24, h=10))])
    if asked := list(wandb_names.means(Records(row for row in records if row.probe not in NOT_PROBED))):
        yield wr.H2("What the probe measured, means over its points")
        # In the run that trained the network, where that was asked too, else in one of its own.
        probes = by_arm([wandb_names.TRAIN, wandb_names.PROBE], ablation=ablation["name"])
        yield wr.PanelGrid(runsets=probes, panels=bars(asked))
    yield wr.H2("Figures and tables")
    keys = [wandb_names.figure_key(figure["file"]) for figure in ablation["figures"]]
    pictures = [key for key in keys if not key.startswith("tables/")]
    tables = [wandb_names.VERDICTS_KEY, *(key for key in keys if key.startswith("tables/")), wandb_names.RUNS_KEY]
    which = {key: ablation[key] for key in ("budget", "data")}
    summary = wr.Runset(name="summary", filters=_where([wandb_names.SUMMARY], ablation=ablation["name"], **which))

    def media(title: str, key: str, width: int) -> Any:
        return wr.MediaBrowser(title=title, media_keys=[key], num_columns=1, layout=wr.Layout(w=width, h=10))

    panels = [media(key, key, 12) for key in pictures]
    panels += [wr.WeavePanelSummaryTable(table_name=key, layout=wr.Layout(w=24, h=10)) for key in tables]
    panels.append(media("the whole page", wandb_names.PAGE_KEY, 24))
    yield wr.PanelGrid(runsets=[summary], panels=panels)


def _where(job_types: list[str], **wanted: str | list[str]) -> str:
    """A filter on job types and configs: equal to a word, or one of several."""
    conditions = (f"Config({key!r}) {'in' if isinstance(is_, list) else '='} {is_!r}" for key, is_ in wanted.items())
    return " and ".join([f"JobType in {job_types!r}", *conditions])


def _numbered(blocks: Sequence[Any]) -> list[Any]:
    """The blocks, with numbers for the random ids of run sets and panels, so that equal files give equal bytes."""
    count = 0
    for block in blocks:
        for part in (*getattr(block, "runsets", ()), *getattr(block, "panels", ())):
            count += 1
            part._id = f"part{count}"
    return list(blocks)


# -- its specification ------------------------------------------------------------------------------------------------


def specification(report: Any) -> str:
    """What the server would be sent, as JSON; raises ValueError if the library does not read back what it wrote."""
    import wandb_workspaces.reports.v2 as wr

    model = report._to_model()  # the library's only way to a report without a server
    text: str = model.model_dump_json(by_alias=True, exclude_none=True)
    again = wr.Report._from_model(type(model).model_validate_json(text))
    if [type(block) for block in again.blocks] != [type(block) for block in report.blocks]:
        raise ValueError("the specification of the report does not survive being read back")
    return text


def _write(report: Any, folder: Path) -> Path:
    path = folder / SPECIFICATION
    write_json(path, json.loads(specification(report)))
    return path


def _known_id(folder: Path, report: Any) -> str:
    """The id of the report that was saved from this folder to the same project; "" for none."""
    path = folder / SPECIFICATION
    known: Json = json.loads(path.read_text()) if path.is_file() else {}
    same = known.get("project") == {"name": report.project, "entityName": report.entity}
    return str(known.get("id", "")) if same else ""


# -- the server -------------------------------------------------------------------------------------------------------


def sync(out: Path, name: str, project: str, entity: str) -> int:
    """Uploads the ablation's offline runs that were not yet; returns how many. Raises OSError if any is left."""
    runs = [run for run in sorted((out / "wandb").glob(f"offline-run-*-{name}-????????")) if not _is_synced(run)]
    if runs:
        seconds = SECONDS * (1 + len(runs) // 10)
        names = ["--project", project, *(["--entity", entity] if entity else [])]
        command = [sys.executable, "-m", "wandb", "sync", *names, *map(str, runs)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    left = [run for run in runs if not _is_synced(run)]
    if left:
        raise OSError(f"{len(left)} of {len(runs)} runs are not uploaded and stay in {out / 'wandb'}")
    return len(runs)


def _is_synced(run: Path) -> bool:
    return any(run.glob("*.wandb.synced"))


def save(report: Any) -> str:
    """Saves the report on the server and returns its address; raises OSError if that fails or takes too long."""
    try:
        within(SECONDS, report.save)
    except Exception as error:  # the library raises whatever its parts raise
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None
    return str(report.url)


def _check_reached() -> None:
    """Raises OSError if there is no account or no server, within 10 seconds."""
    import urllib.error
    import urllib.request

    import wandb

    if not wandb.login(prompt=False, verify=False):
        raise OSError("there is no API key; `wandb login` stores one")
    address = str(wandb.setup().settings.base_url)
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise OSError(f"{address} answers {error.code}") from None
    except Exception as error:
        raise OSError(f"{address} is not reached ({error})") from None


# -- the command ------------------------------------------------------------------------------------------------------


def find_folder(ablation: str, out: Path, budget: str | None, data: str | None) -> Path:
    """The folder of a finished ablation, given itself or by name; raises WrongInput unless there is exactly one."""
    if (Path(ablation) / "ablation.json").is_file() or "/" in ablation:
        if not Path(ablation).is_dir():
            raise WrongInput(f"{ablation} is no folder")
        return Path(ablation)
    if ablation not in names():
        raise WrongInput(f"unknown ablation {ablation!r}; there are {', '.join(names())}")
    root = out / "ablations" / ablation
    found = sorted(file.parent.name for file in root.glob("*/ablation.json"))
    scales = [(name, *name.partition("-")[::2]) for name in found]
    wanted = [name for name, *scale in scales if budget in (None, scale[0]) and data in (None, scale[1])]
    if len(wanted) != 1:
        which = f"{len(wanted)} finished ablations" if wanted else "no finished ablation"
        there = ", ".join(found) or "none"
        raise WrongInput(f"{root} holds {which} for that; there are: {there}; --budget and --data choose")
    return root / wanted[0]


def main(argv: Sequence[str] | None = None) -> int:
    """0: written (and saved). 1: W&B was not reached or refused; the files stand. 2: the command or folder is wrong."""
    parser = argparse.ArgumentParser(
        prog=" ".join(program("reports.wandb_report")), description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("ablation", help="the name of a script in ablations/, or the folder of a finished ablation")
    add("--out", type=Path, default=Path("runs"), help="root of what the ablation wrote (default: runs)")
    add("--budget", choices=BUDGETS, help="which folder, if the ablation has several")
    add("--data", help="which folder, if the ablation has several")
    add("--project", default=wandb_names.PROJECT, help=f"W&B project (default: {wandb_names.PROJECT})")
    add("--entity", default=os.environ.get("WANDB_ENTITY", ""), help="W&B user or team (default: $WANDB_ENTITY)")
    add("--sync", action="store_true", help="upload the ablation's offline runs first")
    add("--online", action="store_true", help="save the report on the server")
    given = parser.parse_args(argv)
    os.environ.setdefault("WANDB_SILENT", "true")  # what is to be said is said here
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # which waits at exit for a server that hangs
    try:
        if given.online and not given.entity:
            raise WrongInput("--online needs --entity, the W&B user or team whose report it will be")
        folder = find_folder(given.ablation, given.out, given.budget, given.data)
        report = build_report(folder, given.project, given.entity or UNNAMED)
        report.id = _known_id(folder, report)
        print(f"specification: {_write(report, folder)}")
    except ImportError as error:
        return _refuse(FAILED, f"{error}; pip install wandb wandb-workspaces")
    except (ValueError, KeyError, OSError) as error:
        return _refuse(WRONG, str(error))
    try:
        if given.sync or given.online:
            _check_reached()
        if given.sync:
            name = json.loads((folder / "ablation.json").read_text())["name"]
            print(f"uploaded: {sync(given.out, name, given.project, given.entity)} runs")
        if given.online:
            address = save(report)
            _write(report, folder)  # again, because it has its id now
            print(f"report: {address}")
    except OSError as error:
        return _refuse(FAILED, f"{error}; nothing is lost: {folder / SPECIFICATION} and the runs are kept")
    return DONE


def _refuse(code: int, why: str) -> int:
    print(f"wandb_report: {' '.join(why.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
