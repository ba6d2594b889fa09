"""`python -m modules`: every network on one line, the blocks of one, plain data."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import timm
import torch

from modules import ARCHITECTURES, build, listing
from modules.__main__ import main
from modules.blocks.cost import cost, cost_by_part

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`python -m modules *words` in this process: exit code, output, errors."""

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modules", *words])
        return main(), *capsys.readouterr()

    return command


def test_the_catalogue_lists_every_network() -> None:
    command = [sys.executable, "-m", "modules", "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads(printed.stdout)
    assert [row["name"] for row in rows] == list(ARCHITECTURES)
    found = {row["name"]: row for row in rows}
    assert found["resnet110"] == {
        "name": "resnet110", "paper": "He et al. 2015, 1512.03385", "parameters": 1_727_962,
        "multiply_adds": 252_887_680, "input": [3, 32, 32], "blocks": 54,
        "recipe": "182 epochs of 128, lr 0.1 x0.1 at 50+75 %, momentum 0.9, decay 0.0001",
    }  # fmt: skip


def test_one_network_shows_its_blocks(run: Run) -> None:
    code, printed, _ = run("resnet20")
    lines = printed.splitlines()
    assert code == 0
    assert lines[0].split() == ["name", "merge", "output", "parameters", "multiply_adds", "changes_shape"]
    assert lines[5].split() == ["stage2_block1", "add", "32", "x", "16", "x", "16", "13,952", "3.54", "M", "yes"]
    assert "resnet20: 269,722 parameters, 40,551,040 multiply-adds" in lines


@pytest.mark.parametrize("name", ["resnet20", "timm:resnet18"])
def test_keys_are_those_of_a_file_of_weights(name: str, run: Run) -> None:
    """A timm model has timm's names, whatever the suite makes of it."""
    code, printed, _ = run(name, "--keys", "--json")
    network = timm.create_model("resnet18") if name.startswith("timm:") else build(name)
    state = network.state_dict()
    assert code == 0
    assert {row["name"]: row["shape"] for row in json.loads(printed)} == {k: list(t.shape) for k, t in state.items()}


@pytest.mark.parametrize("words", [["resnet21"], ["resnet21", "--keys"], ["timm:resnet19", "--keys"]])
def test_an_unknown_network_is_refused_in_one_line(words: list[str], run: Run) -> None:
    code, printed, said = run(*words)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert ("resnet20" if words[0] == "resnet21" else "resnet1") in said


@pytest.mark.parametrize("name", ["resnet110", "vgg11_bn", "preact_resnet164"])
def test_parts_add_up(name: str) -> None:
    rows = listing.blocks(name)
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        network = build(name, architecture.num_classes)
    shape = (architecture.in_channels, architecture.image_size, architecture.image_size)
    whole = cost(network, shape)
    assert sum(row["parameters"] for row in rows) == whole.parameters
    assert sum(row["multiply_adds"] for row in rows) == whole.multiply_adds
    assert list(cost_by_part(network, shape)) == [row["name"] for row in rows] == ["stem", *network.blocks, "head"]


def test_tables_are_aligned() -> None:
    text = listing.table([{"name": "a", "parameters": 5}, {"name": "long", "parameters": 12_345}])
    assert text.splitlines() == ["name  parameters", "a              5", "long      12,345"]
