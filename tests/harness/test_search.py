"""Random search: what is drawn and chosen, and that every process and repetition arrives at the same plan."""

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import Arm
from ablations.harness.declare.scale import View
from ablations.harness.prepare import prepare
from ablations.harness.search import SEED, Search, drawn, trying
from ablations.harness.store.files import write_json
from ablations.harness.store.integrity import noted, sealed
from ablations.harness.store.runs import final_loss
from ablations.harness.trial import Trial
from reports.pages.page import write_page

Command = Callable[..., tuple[int, str, str]]
ARM = Arm(
    "a", "mlp", {"depth": 2}, {"epochs": 1}, "a note", {"learning_rate": (1e-3, 1.0), "activation": ("relu", "tanh")}
)

SCRIPT = """
from dataclasses import dataclass

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Quantity
from ablations.harness.declare.probe import Measurement, Probe

@dataclass(frozen=True, kw_only=True)
class Epochs(Probe):
    snapshots: int = 2
    units = {"count": ""}

    def ask(self, subject):
        assert subject.seed < 40, "candidates are not asked"
        yield Measurement("epochs", "count", float(max(subject.snapshots)))

def plan(at):
    recipe = {"epochs": 2, "batch_size": 256}
    small = {"depth": 2, "width": 8}
    arms = (
        Arm("free", "mlp", small, recipe, "", {"learning_rate": (1e-3, 1.0), "activation": ("relu", "tanh")}),
        Arm("fixed", "mlp", small, {**recipe, "learning_rate": 0.05}),
    )
    return Plan(arms, 2, [Epochs()])

test = Test("epochs", Quantity("count", probe="epochs")("free"), at_least=1.0)
claims = (Claim("T1", "It does.", "this suite", "", tests=(test,)),)
ABLATION = Ablation("tiny", "Tiny", "Does it search?", claims, plan)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    file = tmp_path / "tiny_search.py"
    file.write_text(SCRIPT)
    spec = importlib.util.spec_from_file_location("tiny_search", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_search"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["tiny_search"]


@pytest.fixture
def command(command: Command, module: ModuleType) -> Command:
    """As `command`, of the tiny ablation."""
    return lambda *words: command(*words, "--trainer.accelerator", "cpu", ablation=module.ABLATION)


def prepared(module: ModuleType, tmp_path: Path, search: int, **changes: object) -> Trial:
    options = Options("laptop", "digits", tmp_path, tmp_path / "runs", search=search, wandb="disabled",
                      trainer={"accelerator": "cpu"})  # fmt: skip
    return prepare(module.ABLATION, replace(options, **changes))


def test_what_is_tried_is_what_was_foretold(module: ModuleType, tmp_path: Path) -> None:
    """Candidates see what of the data the arms see, split by the seed of candidates."""
    module.ABLATION = replace(module.ABLATION, views={"laptop": View(12, 60)})
    trial = prepared(module, tmp_path, 2)
    tried = prepare(trying(trial.searches, trial.ablation), replace(trial.options, search=0))
    foretold = [run.name for found in trial.searches for run in found.runs]
    assert foretold == [job.run.name for job in tried.jobs]
    assert [job.data.identity for job in tried.jobs] == [job.run.data for job in tried.jobs]
    assert {job.run.data["num_train"] for job in (*tried.jobs, *trial.jobs)} == {60}


# --- drawing and choosing ---


def test_candidates_lie_in_their_ranges_on_a_logarithmic_scale() -> None:
    arm = replace(ARM, search={**ARM.search, "momentum": (0.5, 0.99), "gate_bias": (-10.0, -1.0)})
    candidates = drawn(arm, 400)
    rates = [float(str(each.recipe["learning_rate"])) for each in candidates]
    assert all(1e-3 <= rate <= 1.0 for rate in rates)
    assert 0.4 < sum(rate < 10**-1.5 for rate in rates) / 400 < 0.6
    assert {each.arguments["activation"] for each in candidates} == {"relu", "tanh"}
    biases = [float(str(each.arguments["gate_bias"])) for each in candidates]
    assert all(-10 <= bias <= -1 for bias in biases)
    assert 0.4 < sum(bias > -(10**0.5) for bias in biases) / 400 < 0.6
    assert all(each.recipe["epochs"] == 1 and each.arguments["depth"] == 2 for each in candidates)


def test_candidates_follow_from_the_arm_alone_and_more_begin_with_the_same() -> None:
    assert drawn(ARM, 3) == drawn(ARM, 5)[:3]
    assert [each.recipe for each in drawn(ARM, 3)] == [each.recipe for each in drawn(replace(ARM, name="b"), 5)[:3]]
    assert drawn(ARM, 3) != drawn(replace(ARM, arguments={"depth": 3}), 3)


@pytest.mark.parametrize("bad", [(1.0, 0.1), (0.0, 1.0), (-1.0, 1.0), (0.1,), (0.1, "relu"), (), (math.nan, 1.0)])
def test_a_range_that_cannot_be_drawn_from_is_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"arm 'a': search of learning_rate"):
        replace(ARM, search={"learning_rate": bad})


def test_the_lowest_loss_is_chosen_and_the_first_of_equals() -> None:
    candidates = drawn(ARM, 4)
    search = Search(ARM, candidates, (), (0.5, math.inf, 0.2, 0.2))
    assert search.best == 2
    assert search.chosen == replace(candidates[2], note="a note")
    assert "the best of 4, training loss 0.2" in str(search)


@pytest.mark.parametrize(
    ("losses", "said"), [((0.5, None), "not yet"), ((math.inf, math.inf), "every candidate diverged")]
)
def test_without_a_best_candidate_the_arm_stays_as_declared(losses: tuple[float | None, ...], said: str) -> None:
    search = Search(ARM, drawn(ARM, 2), (), losses)
    assert search.chosen is ARM
    assert said in str(search)


def test_the_final_loss_is_read_from_the_table_of_epochs(tmp_path: Path) -> None:
    assert final_loss(tmp_path) is None
    (tmp_path / "metrics.csv").write_text("epoch,train/loss\n1,0.9\n2,0.3\n")
    assert final_loss(tmp_path) is None, "still in training"
    files = [tmp_path / "metrics.csv", tmp_path / "weights.safetensors"]
    files[1].write_bytes(b"weights")
    write_json(tmp_path / "done", sealed({"test/top1_error": 1.0, "seconds": 2.0, "files": noted(tmp_path, files)}))
    assert final_loss(tmp_path) == 0.3
    files[1].unlink()
    assert final_loss(tmp_path) is None, "its weights are missing"
    (tmp_path / "done").unlink()
    write_json(tmp_path / "diverged", sealed({"step": 7, "epoch": 3, "files": noted(tmp_path, files[:1])}))
    assert final_loss(tmp_path) == math.inf


# --- whole trials ---


def test_the_best_candidate_trains_every_seed(command: Command, module: ModuleType, tmp_path: Path) -> None:
    code, out, err = command("--search", 3)
    assert code == 0, err
    assert "free candidate 2: training loss" in out
    assert "test error" not in out.partition("searched:")[0], "candidates are judged by their training loss alone"
    trial = prepared(module, tmp_path, 3)
    (search,) = trial.searches
    assert [run.seed for run in search.runs] == [SEED] * 3
    losses = [final_loss(run.folder(tmp_path / "runs")) for run in search.runs]
    assert search.best == losses.index(min(losses))
    best = search.runs[search.best]
    free = [job.run for job in trial.jobs if job.arm == "free"]
    assert [run.seed for run in free] == [0, 1]
    assert all(run.recipe == best.recipe and run.arguments == best.arguments for run in free)
    assert {job.run.recipe.learning_rate for job in trial.jobs if job.arm == "fixed"} == {0.05}

    folder = trial.folder
    (told,) = json.loads((folder / "ablation.json").read_text())["search"]
    assert told == json.loads(json.dumps(search.summary()))
    assert told["train_loss"] == min(losses)
    assert "left out by --arms" not in (folder / "report.html").read_text()
    page = write_page(folder).read_text()
    assert "Searched before the arms were trained" in page
    assert "learning_rate=0.001 to 1.0, activation=relu or tanh" in page
    assert f"{told['chosen']['learning_rate']!r}" in page

    before = {file: file.read_bytes() for file in folder.rglob("*") if file.name in ("records.csv", "verdicts.json")}
    code, out, err = command("--search", 3)
    assert code == 0
    assert out.count("already trained") >= 7
    assert {file: file.read_bytes() for file in before} == before


def test_processes_arrive_at_the_same_plan(command: Command, tmp_path: Path) -> None:
    code, _, err = command("--search", 2, "--workers", 2)
    assert code == 0, err
    (told,) = json.loads((tmp_path / "runs/ablations/tiny/laptop-digits/ablation.json").read_text())["search"]
    runs = [json.loads(f.read_text()) for f in (tmp_path / "runs/trained").glob("*/config.json")]
    assert len(runs) == 2 + 4
    chosen = [run for run in runs if run["recipe"]["learning_rate"] == told["chosen"]["learning_rate"]]
    assert sorted(run["seed"] for run in chosen) == [0, 1, SEED]


def test_a_diverged_candidate_is_not_a_failure(command: Command, module: ModuleType, tmp_path: Path) -> None:
    folder = prepared(module, tmp_path, 2).searches[0].runs[0].folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    write_json(folder / "diverged", sealed({"step": 3, "epoch": 1, "why": "loss is not finite", "files": {}}))
    code, _, err = command("--search", 2)
    assert code == 0, err
    assert prepared(module, tmp_path, 2).searches[0].best == 1
    (told,) = json.loads((tmp_path / "runs/ablations/tiny/laptop-digits/ablation.json").read_text())["search"]
    assert [each["train_loss"] is None for each in told["candidates"]] == [True, False]


def test_a_dry_run_tells_the_candidates_and_trains_none(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("--search", 7, "--dry-run")
    assert code == 0
    assert out.count("free candidate ") == 7
    assert out.count("expected:") == 2
    assert "not yet, the script's own values" in out
    assert not (tmp_path / "runs/trained").exists()


def test_wrong_searches_are_told_in_one_line(command: Command, module: ModuleType, tmp_path: Path) -> None:
    for words, named in (
        (("--search", 2, "--arms", "fixed"), "no arm of tiny declares what may be searched"),
        (("--search", -1), "--search -1"),
        (("--search", "many"), "search"),
    ):
        code, _, err = command(*words)
        assert code == 2
        assert named in err
        assert err.count("\n") == 1
    assert prepared(module, tmp_path, 0).searches == ()


def test_an_unknown_field_is_named(module: ModuleType, tmp_path: Path) -> None:
    planned = module.ABLATION.plan(None)
    wrong = replace(planned.arms[0], search={"learning_speed": (0.1, 1.0)})
    module.ABLATION = replace(module.ABLATION, plan=lambda at: replace(planned, arms=(wrong,)))
    with pytest.raises(ValueError, match="learning_speed"):
        prepared(module, tmp_path, 1)
