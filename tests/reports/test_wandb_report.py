"""The comparison report in W&B: what would be saved says what the files say, and no server costs more than a line."""

import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
import wandb_workspaces.reports.v2 as wr

from ablations.harness.store.records import read_records
from ablations.harness.store.wandb_names import PROJECT
from reports import wandb_report
from reports.wandb_report import SPECIFICATION, build_report, main, specification

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out(tmp_path, finished):
    """A root with one finished ablation, invented, at ablations/remove_layers/laptop-digits."""
    shutil.copytree(finished, tmp_path / "ablations" / "remove_layers" / "laptop-digits")
    return tmp_path


@pytest.fixture
def folder(out):
    return out / "ablations" / "remove_layers" / "laptop-digits"


def blocks_of(folder):
    """What stands in the report, in the specification as JSON."""
    return json.loads(specification(build_report(folder, "p", "e")))["spec"]["blocks"]


@pytest.fixture
def grids(folder):
    """Heading -> the grid below it."""
    found, heading = {}, ""
    for block in blocks_of(folder):
        if block["type"] == "heading":
            heading = block["children"][0]["text"]
        elif block["type"] == "panel-grid":
            found[heading] = block["metadata"]
    return found


def filters(runset):
    return {each["key"]["name"]: each["value"] for each in runset["filters"]["filters"]}


def panels(grid):
    return grid["panelBankSectionConfig"]["panels"]


# -- what would be saved ----------------------------------------------------------------------------------------------


def test_claims_and_verdicts_are_told_in_prose(folder):
    text = json.dumps(blocks_of(folder), ensure_ascii=False)
    verdicts = json.loads((folder / "verdicts.json").read_text())
    assert len(verdicts) >= 2
    for verdict in verdicts:
        assert f"{verdict['claim']}: {verdict['verdict']}" in text
        for key in ("says", "scale", "source"):
            assert json.dumps(verdict[key], ensure_ascii=False)[1:-1].rstrip(".") in text


def test_each_arm_is_a_set_of_runs_with_its_seeds_in_one_group(folder, grids):
    runs = {}
    for row in read_records(folder):
        runs.setdefault(row.arm, set()).add(row.run)
    probes = grids["What the probe measured, means over its points"]
    assert [runset["name"] for runset in probes["runSets"]] == list(runs)
    for runset in probes["runSets"]:
        assert filters(runset)["jobType"] == ["train", "probe"], "answers are where the network was trained, or apart"
        assert filters(runset)["state"] == "finished"
        assert filters(runset)["ablation"] == "remove_layers"
        assert set(filters(runset)["run"]) == runs[runset["name"]]
        assert runset["grouping"] == [{"section": "config", "name": "data.value"}]
    assert [panel["viewType"] for panel in panels(probes)] == ["Bar Chart"] * len(panels(probes))
    assert "intact/test/top1_error" in [panel["config"]["metrics"][0] for panel in panels(probes)]


def test_training_is_drawn_over_steps_and_results_as_bars_and_runs_are_compared(folder):
    records = folder / "records.csv"
    lines = [f"remove_layers,vgg_bn,0,epoch epoch=1,{metric},1.0,,vgg_bn-s0" for metric in ("train/loss", "seconds")]
    lines.append("remove_layers,vgg_bn,0,test,test/top1_error,9.0,%,vgg_bn-s0")
    records.write_text(records.read_text() + "\n".join(lines) + "\n")
    blocks = build_report(folder, "p", "e").blocks
    training, tests, every, probed = [block for block in blocks if isinstance(block, wr.PanelGrid)][:4]
    (line,) = training.panels
    assert (line.x, line.y) == ("trainer/global_step", ["train/loss"])
    (bar,) = tests.panels
    assert (bar.metrics, bar.groupby_aggfunc, bar.groupby_rangefunc) == (["test/top1_error"], "mean", "stddev")
    assert [type(panel) for panel in every.panels] == [wr.RunComparer]
    assert not every.runsets[0].groupby
    assert {panel.metrics[0].partition("/")[0] for panel in probed.panels}.isdisjoint({"epoch", "test"})


def test_figures_and_tables_are_those_of_the_summary_run(folder, grids):
    grid = grids["Figures and tables"]
    (runset,) = grid["runSets"]
    wanted = {"ablation": "remove_layers", "budget": "laptop", "data": "digits"}
    assert filters(runset) == {"jobType": ["summary"], **wanted}
    text = json.dumps(panels(grid))
    for figure in json.loads((folder / "ablation.json").read_text())["figures"]:
        assert Path(figure["file"]).name.partition(".")[0] in text
    assert "tables/verdicts" in text
    assert '"report"' in text


def test_the_specification_is_written_checked_and_the_same_each_time(out, folder, capsys):
    assert main(["remove_layers", "--out", str(out)]) == 0
    assert str(folder / SPECIFICATION) in capsys.readouterr().out
    first = (folder / SPECIFICATION).read_bytes()
    assert json.loads(first)["project"]["name"] == PROJECT
    assert main([str(folder)]) == 0
    assert (folder / SPECIFICATION).read_bytes() == first
    report = build_report(folder, "p", "e")
    model = type(report._to_model()).model_validate_json(specification(report))
    again = wr.Report._from_model(model)
    assert [type(block) for block in again.blocks] == [type(block) for block in report.blocks]
    for mine, its in zip(report.blocks, again.blocks, strict=True):
        if isinstance(mine, wr.PanelGrid):
            assert [runset.name for runset in its.runsets] == [runset.name for runset in mine.runsets]
            assert len(its.panels) == len(mine.panels) > 0


def test_a_report_that_cannot_be_read_back_is_refused(folder, monkeypatch):
    report = build_report(folder, "p", "e")
    other = build_report(folder, "p", "e")
    other.blocks = other.blocks[1:]
    monkeypatch.setattr(wr.Report, "_from_model", lambda _: other)
    with pytest.raises(ValueError, match="read back"):
        specification(report)


@pytest.mark.parametrize("published", sorted((ROOT / "reports" / "published").glob("*/*")), ids=lambda f: f.parent.name)
def test_every_published_ablation_has_a_report(published):
    ablation = json.loads((published / "ablation.json").read_text())
    text = specification(build_report(published, "p", "e"))
    assert all(json.dumps(arm["name"]) in text for arm in ablation["arms"])
    assert not (published / SPECIFICATION).exists()


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "named"), [
    (["no_such"], "unknown ablation 'no_such'"),
    (["gradient_flow"], "no finished ablation"),
    (["remove_layers", "--budget", "paper"], "--budget and --data choose"),
    (["/no/such/folder"], "/no/such/folder"),
    (["remove_layers", "--online"], "--entity"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_two(out, folder, capsys, monkeypatch, words, named):
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    assert main([*words, "--out", str(out)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert named in told[0]
    assert not (folder / SPECIFICATION).exists()


@pytest.mark.parametrize("name", ["records.csv", "verdicts.json", "ablation.json"])
def test_a_folder_without_its_files_is_wrong_input(folder, capsys, name):
    (folder / name).unlink()
    assert main([str(folder)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert name in told


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture
def account(monkeypatch):
    """An invented key, and a server that answers 200 to the question whether it is there."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    import wandb

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.code = 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    wandb.teardown()
    yield server
    server.shutdown()
    server.server_close()
    wandb.teardown()


@pytest.fixture
def sent(monkeypatch):
    """The variables of what would be sent to the server, which answers with an id."""
    kept = []

    class Api:
        default_entity = "me"

        def projects(self, entity):
            return []

        def create_project(self, project, entity):
            kept.append({"created": [entity, project]})

    def execute(_, query, variables):
        kept.append(variables)
        project = {"name": variables["projectName"], "entityName": variables["entityName"]}
        given = {key: variables[key] for key in ("name", "displayName", "description")}
        spec = json.loads(variables["spec"])
        return {"upsertView": {"view": {**given, "id": "Vmlldzox", "project": project, "spec": spec}, "inserted": True}}

    monkeypatch.setattr("wandb_workspaces.reports.v2.interface._get_api", Api)
    monkeypatch.setattr("wandb_workspaces.reports.v2.interface.execute_graphql", execute)
    monkeypatch.setattr("wandb_workspaces.reports.v2.interface.get_app_url", lambda _: "https://wandb.example")
    return kept


def test_online_saves_what_is_written_and_replaces_it_the_next_time(folder, sent, account, capsys):
    words = [str(folder), "--online", "--entity", "me", "--project", "mine"]
    assert main(words) == 0
    assert "https://wandb.example/me/mine/reports/" in capsys.readouterr().out
    created, saved = sent
    assert created == {"created": ["me", "mine"]}
    written = json.loads((folder / SPECIFICATION).read_text())
    assert json.loads(saved["spec"]) == written["spec"]
    assert (saved["entityName"], saved["projectName"], saved["id"]) == ("me", "mine", None)
    assert written["id"] == "Vmlldzox"
    assert main(words) == 0
    assert sent[-1]["id"] == "Vmlldzox"
    assert main([*words[:-1], "other"]) == 0
    assert sent[-1]["id"] is None


@pytest.mark.parametrize("way", ["refused", "broken", "no_account", "breaks_later"])
def test_no_server_is_one_line_and_loses_nothing(folder, account, sent, capsys, monkeypatch, way, tmp_path):
    import wandb

    if way == "refused":
        account.shutdown()
        account.server_close()
    elif way == "broken":
        account.code = 502
    elif way == "no_account":
        monkeypatch.delenv("WANDB_API_KEY")
        monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
        wandb.teardown()
    else:
        monkeypatch.setattr(wr.Report, "save", lambda _: 1 / 0)
    assert main([str(folder), "--online", "--entity", "me"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "nothing is lost" in told[0]
    assert (folder / SPECIFICATION).is_file()
    assert not sent


def test_a_server_that_never_answers_ends_the_command(monkeypatch):
    monkeypatch.setattr(wandb_report, "SECONDS", 1)
    waiting = threading.Event()
    report = type("Report", (), {"save": lambda _: waiting.wait(60), "url": "never"})()
    with pytest.raises(OSError, match="no answer in 1 s"):
        wandb_report.save(report)


def test_sync_uploads_the_offline_runs_of_this_ablation_alone(out, monkeypatch):
    runs = {name: out / "wandb" / f"offline-run-20260101_000000-{name}" for name in (
        "remove_layers-0123abcd", "remove_layers-4567abcd", "path_lengths-0123abcd")}  # fmt: skip
    for run in runs.values():
        run.mkdir(parents=True)
        (run / "run-1.wandb").touch()
    (runs["remove_layers-4567abcd"] / "run-1.wandb.synced").touch()
    # Instead of wandb: a program that marks what it is given, as `wandb sync` does.
    program = out / "wandb.py"
    program.write_text(
        "import sys, pathlib\n"
        "assert sys.argv[1:6] == ['sync', '--project', 'p', '--entity', 'e'], sys.argv\n"
        "for run in sys.argv[6:]:\n    (pathlib.Path(run) / 'run-1.wandb.synced').touch()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(out))
    assert wandb_report.sync(out, "remove_layers", "p", "e") == 1
    assert not (runs["path_lengths-0123abcd"] / "run-1.wandb.synced").exists()
    assert wandb_report.sync(out, "remove_layers", "p", "e") == 0
    (runs["remove_layers-0123abcd"] / "run-1.wandb.synced").unlink()
    program.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(wandb_report, "SECONDS", 1)
    with pytest.raises(OSError, match="1 of 1 runs are not uploaded"):
        wandb_report.sync(out, "remove_layers", "p", "e")
