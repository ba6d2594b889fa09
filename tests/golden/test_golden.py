"""What must not move by itself: the hash of every run of every script, and every verdict that was published.

A run's hash is its folder, so one that moves loses what users have trained. After a change that is meant to move some,
`python tests/golden/test_golden.py` writes runs.json anew; its diff then belongs to that change.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules
from ablations.harness.command.command_line import Options
from ablations.harness.declare.precision import granted
from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.declare.scripts import scripts
from ablations.harness.judging.verdict import judge
from ablations.harness.prepare import _run
from ablations.harness.store.records import read_records
from datamodules.augment import Augment
from datamodules.images import ImageData
from datamodules.made import made_data
from datamodules.sources.pixels import Decoded, Pixels

FILE = Path(__file__).with_name("runs.json")
ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(file.parent for file in (ROOT / "reports" / "published").glob("*/*/verdicts.json"))
OLDER = ("training_precision",)  # published before a recipe had all of today's fields, which are part of the hash
# Scripts whose rules or plans were amended after the evidence that is published: it is made anew.
AMENDED = (ROOT / "tests" / "golden" / "amended.txt").read_text().split()
ABLATIONS = {ablation.name: ablation for ablation in scripts()}


def blank(name: str, sizes: tuple[int, int], width: int, channels: int, augment: Augment) -> ImageData:
    """Black images in the numbers and sizes of a data set, with ten classes in turn."""
    splits = [
        Pixels(torch.zeros(number, width, width, channels, dtype=torch.uint8), torch.arange(number) % 10)
        for number in sizes
    ]
    return ImageData(Decoded(*splits, 10), name=name, digest=name, augment=augment)


DATA = {
    "digits": lambda: datamodules.load("digits"),
    "mnist10k": lambda: blank("mnist10k", (8_000, 2_000), 28, 1, Augment()),
    "cifar10": lambda: blank("cifar10", (50_000, 10_000), 32, 3, Augment(pad=4, flip=True)),
}


def painted_once(maker: Any, digits: torch.Tensor, description: dict[str, torch.Tensor]) -> torch.Tensor:
    """As many images as are described, all like the first: what a run is called depends on no pixel of them."""
    first = {name: values[:1] for name, values in description.items()}
    return maker.paint(digits.contiguous(), first).expand(len(description["labels"]), -1, -1, -1)


def hashes(data: str, budgets: Sequence[str] = BUDGETS, of_seed: bool = True) -> dict[str, Any]:
    """Script -> budget -> arm -> the hash of its run of seed 0, or why the script refuses the data.

    of_seed: with splits that the seed draws for itself; evidence on digits was published before there were such.
    """
    kept, made_data._painted = made_data._painted, painted_once
    try:
        loaded = DATA[data]()
        return {script: {each: _of_budget(script, each, loaded, of_seed) for each in budgets} for script in ABLATIONS}
    finally:
        made_data._painted = kept


def _of_budget(script: str, budget: str, data: ImageData, of_seed: bool) -> dict[str, str] | str:
    options = Options(budget, data.name, Path("data"), Path("runs"))
    try:
        plan, found = granted(ABLATIONS[script].plan(Scale.of(budget, data)), bf16_is_fast=True), {}
        of_arms = {json.dumps(dict(arm.data)): arm.data for arm in plan.arms}
        used = {key: datamodules.make(data, **given) if given else data for key, given in of_arms.items()}
        for arm in plan.arms:
            shown = used[json.dumps(dict(arm.data))]
            run = _run(arm, shown, 0, options)
            found[arm.name] = run.hash if of_seed else replace(run, data=shown.identity).hash
    except ValueError as error:
        return f"refused: {error}"
    return found


@pytest.mark.parametrize("data", DATA)
def test_every_run_keeps_its_hash(data: str) -> None:
    golden, found = json.loads(FILE.read_text())[data], hashes(data)
    for script, of_budgets in golden.items():
        for budget, arms in of_budgets.items():
            assert found[script][budget] == arms, f"{script} at {budget} on {data}"
    assert found == golden, "scripts or budgets were added: write the file anew"


def test_published_runs_on_digits_keep_their_hashes() -> None:
    expected = hashes("digits", ["laptop"], of_seed=False)
    for folder in PUBLISHED:
        summary = json.loads((folder / "ablation.json").read_text())
        if summary["data"] == "digits" and folder.parent.name not in (*OLDER, *AMENDED):
            runs = {run["arm"]: run["run"].rpartition("-")[2] for run in summary["runs"] if run["seed"] == 0}
            assert runs == expected[folder.parent.name][summary["budget"]], folder


JUDGED = [folder for folder in PUBLISHED if folder.parent.name not in AMENDED]


@pytest.mark.parametrize("folder", JUDGED, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_published_verdicts_come_out_again_from_their_records(folder: Path) -> None:
    published = json.loads((folder / "verdicts.json").read_text())
    ablation, summary = ABLATIONS[folder.parent.name], json.loads((folder / "ablation.json").read_text())
    wanted = [verdict["claim"] for verdict in published]
    claims = [claim for claim in ablation.claims if claim.id in wanted]
    again = judge(
        claims, read_records(folder), summary["seeds"], summary["budget"], summary["data"],
        num_claims=sum(claim.kind == "experiment" for claim in ablation.claims),
    )  # fmt: skip
    assert json.loads(json.dumps(again)) == [{k: v for k, v in each.items() if k != "rules"} for each in published]


if __name__ == "__main__":
    FILE.write_text(json.dumps({data: hashes(data) for data in DATA}, indent=1) + "\n")
    sys.exit(print(f"{FILE} is written anew"))
