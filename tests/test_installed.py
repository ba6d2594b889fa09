"""The command `ablations`, however it is started, and what an installation holds beside a folder of the user's own."""

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations.__main__ import ROOT, main
from ablations.harness.command.command_line import parse, parser_for
from ablations.harness.command.invocation import program, version
from ablations.harness.declare.scripts import scripts
from ablations.remove_layers import ABLATION

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- how it was started ---


@pytest.mark.parametrize(("argv", "spec", "words"), [
    ("ablations/remove_layers.py", None, "python ablations/remove_layers.py"),
    ("mine.py", None, "python mine.py"),
    ("/usr/bin/ablations", None, "ablations remove_layers"),
    ("/usr/bin/pytest", None, "python -m ablations remove_layers"),
    ("ablations/__main__.py", "ablations.__main__", "python -m ablations remove_layers"),
    ("ablations/__main__.py", None, "python -m ablations remove_layers"),
    ("ablations/remove_layers.py", "ablations.remove_layers", "python -m ablations.remove_layers"),
])  # fmt: skip
def test_a_command_is_named_as_it_was_started(monkeypatch, argv, spec, words):
    spec = None if spec is None else SimpleNamespace(name=spec)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "argv", [argv])
    assert " ".join(program("ablations.remove_layers")) == words
    assert parser_for(ABLATION, with_trainer=False).prog == words
    assert parse(ABLATION, ["--out", "my runs"]).command == f"{words} --out 'my runs'"


def test_a_script_runs_by_its_name(capsys):
    with pytest.raises(SystemExit) as left:
        main(["remove_layers", "--budgett", "smoke"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "remove_layers: unknown flag --budgett; did you mean --budget?\n"


@pytest.mark.parametrize(("name", "part"), [("remove-layer", "did you mean remove_layers?"), ("xyz", "there are act")])
def test_an_unknown_script_is_one_line(capsys, name, part):
    assert main([name]) == 2
    told = capsys.readouterr().err
    assert part in told
    assert told.count("\n") == 1


def test_the_version_is_that_of_the_code(capsys):
    assert version() == PROJECT["project"]["version"]
    assert main(["--version"]) == 0
    with pytest.raises(SystemExit) as left:
        main(["remove_layers", "--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"cnn-ablations {version()}\n" * 2


# --- an installation ---


def test_the_console_script_is_the_same_command():
    assert PROJECT["project"]["scripts"] == {"ablations": f"{main.__module__}:{main.__name__}"}


def test_published_verdicts_are_packaged_and_nothing_else_of_them():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["reports"]
    packaged = {file for pattern in patterns for file in (ROOT / "reports").glob(pattern)}
    published = {file for file in packaged if "published" in file.parts}
    assert published == set((ROOT / "reports" / "published").rglob("verdicts.json"))


def test_published_verdicts_alone_are_no_damage(tmp_path):
    from reports.pages.evidence import find

    file = next((ROOT / "reports" / "published").glob("remove_layers/laptop-digits/verdicts.json"))
    folder = tmp_path / "remove_layers" / "laptop-digits"
    folder.mkdir(parents=True)
    (folder / "verdicts.json").write_bytes(file.read_bytes())
    problems = []
    (trial,) = find(tmp_path, "published", problems)
    assert len(trial.verdicts) == len(ABLATION.claims)
    assert problems == []
    (folder / "verdicts.json").write_text("{")
    find(tmp_path, "published", problems)
    assert len(problems) == 1


# --- folders of the user's own ---


def run(folder, *words, path=ROOT):
    command = [sys.executable, *words]
    # No -P or PYTHONSAFEPATH: the user's folder comes first.
    environment = {"PYTHONPATH": str(path), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("hiding", ["modules/__init__.py", "modules.py", "reports/__init__.py", "datamodules.py"])
@pytest.mark.parametrize("start", ["script", "module"])
def test_what_hides_a_package_is_one_line(tmp_path, hiding, start):
    (tmp_path / hiding).parent.mkdir(exist_ok=True)
    (tmp_path / hiding).touch()
    (tmp_path / "mine.py").write_text("from ablations.remove_layers import ABLATION\nprint('went on')\n")
    done = run(tmp_path, *(["mine.py"] if start == "script" else ["-m", "ablations"]))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / hiding.removesuffix("/__init__.py")) in done.stderr
    assert not done.stdout


def test_who_imports_by_hand_gets_an_exception(tmp_path):
    (tmp_path / "modules.py").touch()
    done = run(tmp_path, "-c", "try:\n    import ablations\nexcept ImportError as error:\n    print(error)")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'modules.py'} hides the package `modules`" in done.stdout


def test_folders_that_hide_nothing_are_left_alone(tmp_path):
    """Folders without Python files, and whatever lies elsewhere."""
    for name in ("modules", "reports", "data", "wandb"):
        (tmp_path / name).mkdir()
    done = run(tmp_path, "-m", "ablations", "--version")
    assert (done.returncode, done.stderr) == (0, "")


# --- completion ---


def test_the_shell_completes_without_starting_python(capsys, tmp_path):
    pytest.importorskip("shtab")
    assert main(["--completion", "bash"]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    code = (
        "source completion; COMP_WORDS=(ablations {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "_shtab_ablations ablations; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    for words, offered in (
        ("remove_", {"remove_layers"}),
        ("remove_layers --bud", {"--budget"}),
        ("remove_layers --budget sm", {"smoke"}),
        ("remove_layers --claims RL", {claim.id for claim in ABLATION.claims}),
    ):
        command = ["/bin/bash", "--norc", "-c", code.format(words=words)]
        done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False)
        assert offered <= set(done.stdout.split()), (words, done)


def test_completion_is_made_without_torch():
    pytest.importorskip("shtab")
    program = "import sys, ablations.__main__ as m; m.main(['--completion', 'zsh']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(ablation.name in done.stdout for ablation in scripts())
    assert Path(ROOT / "README.md").read_text().count("--completion") > 0
