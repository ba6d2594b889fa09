"""The front page tells the truth: its table, commands, flags, code and links exist, and the house is as it says."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ablations.__main__ import BEGIN, END, ROOT, Published, as_markdown, as_text, main, published, with_table
from ablations.harness.command.command_line import parse, parser_for
from ablations.harness.declare.ablation import check
from ablations.harness.declare.scripts import scripts

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
BLOCKS = FENCED.findall(README)
PROSE = FENCED.sub("", README)
COMMANDS = [
    line for language, text in BLOCKS if language == "sh" for line in text.replace("\\\n", "").splitlines() if line
]
COMMANDS += [
    text for text in re.findall(r"`([^`\n]+)`", PROSE) if re.match(r"(make|python|pip|wandb|ablations) ", text)
]
PROGRAMS = [text for language, text in BLOCKS if language == "python"]
TOP = sorted(folder.parent.name for folder in ROOT.glob("*/__init__.py"))
SOURCES = sorted(file for top in TOP for file in (ROOT / top).rglob("*.py"))


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@cache
def help_of(script: str) -> str:
    """What a command below reports/ says of itself."""
    words = [sys.executable, ROOT / script, "--help"]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


def run_program(text: str) -> dict[str, Any]:
    program = ModuleType("readme")
    sys.modules["readme"] = program  # where its dataclasses look for it
    exec(compile(text, "README.md", "exec"), vars(program))
    return vars(program)


# -- the table of claims ----------------------------------------------------------------------------------------------


def test_table_is_the_generated_one() -> None:
    ablations = scripts()
    table = as_markdown(ablations, published(ablations))
    assert with_table(README, table) == README, "run: python -m ablations --write README.md"


def test_listing_the_claims_does_not_import_torch() -> None:
    program = "import sys, ablations.__main__ as m; m.main([]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RL1" in done.stdout


def write_verdicts(root: Path, folder: str, *entries: dict[str, str]) -> Path:
    file = root / "reports" / "published" / folder / "verdicts.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def entry(budget: str, data: str, **changes: str) -> dict[str, str]:
    given = {"claim": "RL1", "verdict": "reproduced", "budget": budget, "data": data}
    return {**given, "scale": f"{data}, {budget} budget, 7 seeds", **changes}


def test_verdicts_come_from_the_published_files_in_order_of_scale(tmp_path: Path) -> None:
    ablations = scripts()
    assert not any(published(ablations, tmp_path).values())
    write_verdicts(tmp_path, "remove_layers/paper-cifar10", entry("paper", "cifar10", verdict="contradicted"))
    write_verdicts(tmp_path, "remove_layers/laptop-cifar10", entry("laptop", "cifar10"))
    write_verdicts(tmp_path, "remove_layers/laptop-digits", entry("laptop", "digits"))
    found = published(ablations, tmp_path)
    assert found["remove_layers", "RL1"] == [
        Published("reproduced", "digits, laptop budget, 7 seeds", "reports/published/remove_layers/laptop-digits"),
        Published("reproduced", "cifar10, laptop budget, 7 seeds", "reports/published/remove_layers/laptop-cifar10"),
        Published("contradicted", "cifar10, paper budget, 7 seeds", "reports/published/remove_layers/paper-cifar10"),
    ]
    assert found["remove_layers", "RL2"] == []
    row = next(line for line in as_markdown(ablations, found).splitlines() if line.startswith("| RL1 |"))
    assert "; [contradicted (cifar10, paper budget, 7 seeds)](reports/published/remove_layers/paper-cifar10) |" in row
    assert "contradicted (cifar10, paper budget, 7 seeds)" in as_text(ablations, found)


@pytest.mark.parametrize(("folder", "content", "named"), [
    ("remove_layers/laptop-digits", "{", "verdicts.json"),
    ("remove_layers/laptop-digits", json.dumps([entry("laptop", "digits", claim="RL9")]), "RL9"),
    ("remove_layers/laptop-digits", json.dumps([entry("week", "digits")]), "week"),
    ("no_script/laptop-digits", json.dumps([entry("laptop", "digits")]), "no_script"),
    ("remove_layers", "[]", "<budget>-<data>"),
])  # fmt: skip
def test_published_files_that_cannot_be_right_are_named(tmp_path: Path, folder: str, content: str, named: str) -> None:
    write_verdicts(tmp_path, folder).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(named)):
        published(scripts(), tmp_path)


def test_a_file_is_written_between_its_markers_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main(["--write", str(file)]) == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n| claim |")
    assert text.endswith(f"|\n{END}\nafter\n")
    for wrong in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"):
        file.write_text(wrong, encoding="utf-8")
        assert main(["--write", str(file)]) == 2
        assert file.read_text(encoding="utf-8") == wrong
        assert str(file) in capsys.readouterr().err


# -- commands, flags, code, links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    if program == "make":
        assert words[0] in make_targets()
    elif program == "python" and words[0] == "-m":
        assert find_spec(words[1]) is not None
    elif program == "python" and words[0].startswith("reports/"):
        assert [word for word in words[1:] if word.startswith("--") and word not in help_of(words[0])] == []
    elif program == "python":
        assert (ROOT / words[0]).is_file()
        ablation = import_module(words[0].removesuffix(".py").replace("/", ".")).ABLATION
        options = parse(ablation, words[1:])
        if options.network is not None and not options.network.startswith("timm:"):
            assert options.network in import_module("modules").ARCHITECTURES
    elif program == "ablations":
        assert words[0] in {"--completion", *(ablation.name for ablation in scripts())}
    elif program == "pip":
        assert [word for word in words if word.endswith(".txt") and not (ROOT / word).is_file()] == []
    else:
        assert (program, words[0]) == ("wandb", "sync")


def test_flags_are_in_the_help() -> None:
    known = parser_for(scripts()[0], with_trainer=False).format_help()
    known += "".join(help_of(file) for file in sorted(set(re.findall(r"reports/[a-z_]+\.py", README))))
    flags = {flag for text in re.findall(r"`([^`\n]+)`", PROSE) for flag in re.findall(r"(?<!\S)--[a-z.-]+", text)}
    flags -= {"--write", "--markdown", "--completion", "--json", "--keys"}  # of python -m ablations and modules
    # Of Trainer, which is slow to import, and of a script's probes.
    flags = {flag for flag in flags if not flag.startswith(("--trainer.", "--probe."))}
    assert len(flags) > 10
    assert sorted(flag for flag in flags if flag not in known) == []


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.splitlines()[0][:40])
def test_program_runs(program: str) -> None:
    before = {"__name__", "__builtins__"}
    assert set(run_program(program)) > before, "it defines what it is about"


def test_recipe_for_an_architecture_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, one line, one row for each name: then the tests of every architecture pass, unchanged."""
    import modules

    monkeypatch.syspath_prepend(ROOT / "tests" / "modules")
    rules, table = import_module("test_architectures"), import_module("architecture_table")
    (program,) = [text for text in PROGRAMS if "ARCHITECTURES = {" in text]
    family = SimpleNamespace(**run_program(program))
    (line,) = re.findall(r"`(\*\*[a-z_]+\.ARCHITECTURES,)`", PROSE)
    lines = re.findall(r'`("se_resnet\d+": Row\(.*?\),)`', PROSE)
    rows = eval(f"{{{' '.join(lines)}}}", {"Row": table.Row})
    assert set(rows) == set(family.ARCHITECTURES)
    for name, architecture in eval(f"{{{line}}}", {"se_resnet": family}).items():
        monkeypatch.setitem(modules.ARCHITECTURES, name, architecture)
        monkeypatch.setitem(rules.TABLE, name, rows[name])
        monkeypatch.setitem(rules.TINY, name, rows[name].tiny)
        rules.test_published_network(name)
        rules.test_every_block_of_a_published_network_can_be_deleted(name)
        rules.test_a_training_step_calls_each_layer_once_and_reaches_every_parameter(name)
        rules.test_every_probe_leaves_the_network_as_it_was(name)
        rules.test_a_checkpoint_alone_restores_the_network(name, rules.saving_trainer(tmp_path), tmp_path)


def test_recipes_for_a_claim_a_probe_a_chart_and_an_engine_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim's script asks the probe, draws the chart, and has its runs performed by the engine."""
    from ablations.harness.command.command_line import Options
    from ablations.harness.declare import chart
    from ablations.harness.declare.measure import Quantity, top1_error
    from ablations.harness.declare.scale import BUDGETS, Scale
    from ablations.harness.execution.execute import carry_out
    from ablations.harness.launch import report
    from ablations.harness.prepare import prepare
    from ablations.harness.store.records import read_records

    claim, probe, engine = (
        next(text for text in PROGRAMS if word in text)
        for word in ("ABLATION = Ablation(", "class WeightNorm", "def on_the_cluster")
    )
    ablation = run_program(claim)["ABLATION"]
    for budget in BUDGETS:
        check(ablation, ablation.plan(Scale(budget, "digits", 16, 1_211, 450, 1)))
    (tmp_path / "weight_norm.py").write_text(probe)
    monkeypatch.syspath_prepend(tmp_path)
    asked = import_module("weight_norm").WeightNorm()
    (drawn,) = re.findall(r"`(Against\(.*\))`", PROSE)
    one = replace(
        ablation, charts=(eval(drawn, {"Against": chart.Against, "top1_error": top1_error}),),
        plan=lambda at: replace(ablation.plan(at), probes=[asked], seeds=1),
    )  # fmt: skip
    by_engine = run_program(engine)
    by_engine["SUBMIT"][:] = []  # no cluster is here
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    options = Options("smoke", "digits", tmp_path, tmp_path / "runs", arms=("wide",), wandb="disabled")
    trial = prepare(one, options)
    assert carry_out(trial, report, by_engine["on_the_cluster"]) is False
    records = read_records(trial.folder)
    (measure,) = re.findall(r"`(Quantity\(.*?\)\(\"wide\"\))`", PROSE)
    assert eval(measure, {"Quantity": Quantity}).by_seed(records)[0] > 0
    assert (trial.folder / "figures" / "width.png").exists()


def test_arm_of_the_recipe_can_be_built() -> None:
    from ablations.harness.declare.ablation import Arm
    from modules import resolve

    (text,) = re.findall(r"`(Arm\(.*\)),`", PROSE)
    arm = eval(text, {"Arm": Arm, "residual": {"depth": 38}, "recipe": {}})
    assert resolve(arm.network, arm.arguments)["skip"] is False


def test_links_and_pictures_exist() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_continuous_integration_runs_the_test_command() -> None:
    file = ROOT / ".ci" / "run"
    assert os.access(file, os.X_OK)
    assert "\nmake test" in file.read_text(encoding="utf-8")


# -- the house --------------------------------------------------------------------------------------------------------


def test_every_folder_of_sources_is_packaged() -> None:
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]) == {f"{top}*" for top in TOP}
    assert [file for file in SOURCES if not (file.parent / "__init__.py").is_file()] == []


def test_templates_and_scripts_are_packaged() -> None:
    packaged = {
        file
        for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    needed = {file for end in ("j2", "js") for file in (ROOT / "reports").rglob(f"*.{end}")}
    assert needed
    assert {file for file in needed if "published" not in file.parts} <= packaged


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_module_is_documented(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


def test_scripts_hide_no_standard_module() -> None:
    """`python ablations/x.py` puts that folder before the standard library."""
    names = {path.stem for path in (ROOT / "ablations").iterdir()}
    assert sorted(names & set(sys.stdlib_module_names)) == []


def test_constraints_cover_every_dependency() -> None:
    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[^a-z0-9-]", line.lower())[0] for line in lines if line and not line.startswith("#")}

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert names(lines) == names(PYPROJECT["project"]["dependencies"])
    assert [line for line in lines if line and not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9.]+", line)] == []
