"""The estimates and rules of highway networks on invented records, the sizes of its arms, and its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ablations.harness.probing import Subject

from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.declare.precision import granted
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.highway_gate_bias import (
    ABLATION,
    ANALYSED,
    CLAIMS,
    GATED,
    HIGHWAY,
    LOSS,
    RESIDUAL,
    TEST_ERROR,
    TRAIN_ERROR,
    damages,
    early,
    figures,
    idle,
    level,
    probe,
    trend,
)
from datamodules.images import ImageData
from modules import build, recipe_for
from modules.training.recipe import with_overrides
from modules.weights import save_weights

GUESSING = math.log(10)


def row(arm: str, seed: int, where: str, metric: str, value: float) -> Record:
    return Record("highway_gate_bias", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def training(arm: str, seed: int, losses: Sequence[float], diverged: bool = False) -> list[Record]:
    found = [row(arm, seed, point("epoch", epoch=e), LOSS, loss) for e, loss in enumerate(losses, start=1)]
    if diverged:
        return [*found, row(arm, seed, "test", TEST_ERROR, math.nan), row(arm, seed, "diverged", "step", 9)]
    return [*found, row(arm, seed, "test", TEST_ERROR, 5.0), row(arm, seed, "chance", LOSS, GUESSING)]


def gates_and_lesions(seed: int, biases: Sequence[float], errors: Sequence[float], intact: float = 1.0) -> list[Record]:
    found = [row(ANALYSED, seed, "chance", TRAIN_ERROR, 90.0), row(ANALYSED, seed, "intact", TRAIN_ERROR, intact)]
    for layer, bias in enumerate(biases, start=2):
        where = {"block": f"hidden{layer}", "layer": layer}
        found.append(row(ANALYSED, seed, point("layer", **where, when="before"), "gate/bias", -4.0))
        found.append(row(ANALYSED, seed, point("layer", **where, when="after"), "gate/bias", bias))
        found.append(row(ANALYSED, seed, point("layer", **where, when="after"), "gate/mean", 0.1))
        found.append(row(ANALYSED, seed, point("layer", **where, when="after"), "gate/fell", 60.0))
    for layer, error in enumerate(errors, start=2):
        found.append(row(ANALYSED, seed, point("delete", block=f"hidden{layer}", layer=layer), TRAIN_ERROR, error))
    return found


# --- estimates ---


def final_loss(arm: str, rows: Iterable[Record]) -> dict[int, float]:
    return level(arm).by_seed(Records(rows))


def test_the_final_loss_is_the_last_epochs_in_decades() -> None:
    records = Records(training("plain_10", 3, [1.0, 0.5, 0.01]) + training("plain_100", 3, [2.0, 0.1]))
    assert final_loss("plain_10", records) == {3: pytest.approx(-2.0)}
    assert final_loss("plain_100", records) == {3: pytest.approx(-1.0)}
    assert final_loss("highway_10", records) == {}


def test_failing_to_train_counts_as_guessing() -> None:
    guessing = pytest.approx(math.log10(GUESSING))
    never = Records(training("plain_100", 0, [2.4, 2.31]))
    assert final_loss("plain_100", never) == {0: guessing}
    other = training("highway_100", 0, [0.1])
    assert final_loss("plain_100", [*training("plain_100", 0, [0.3, 0.2], True), *other]) == {0: guessing}
    assert final_loss("plain_100", [*training("plain_100", 0, [], True), *other]) == {0: guessing}
    assert final_loss("plain_100", training("plain_100", 0, [], True)) == {}, "nobody says what guessing costs"


def test_the_trend_is_a_rank_correlation_over_layers() -> None:
    assert trend(Records(gates_and_lesions(0, [-5, -4.9, -3, -1], []))) == {0: pytest.approx(1.0)}
    assert trend(Records(gates_and_lesions(0, [-1, -3, -4.9, -5], []))) == {0: pytest.approx(-1.0)}
    assert trend(Records(gates_and_lesions(0, [-5, -3, -4, -1], []))) == {0: pytest.approx(0.8)}
    assert trend(Records(gates_and_lesions(0, [-4, -4, -4], []))) == {}


def test_damage_is_on_the_way_to_chance_and_idle_layers_do_none() -> None:
    records = Records(gates_and_lesions(0, [], [90.0, 45.5, 1.0, 1.5, 1.0, 1.0]))
    assert damages(records) == {0: pytest.approx([100.0, 50.0, 0.0, 50 / 89, 0.0, 0.0])}
    assert early(records) == {0: pytest.approx(75.0)}
    assert idle(records) == {0: pytest.approx(100 * 4 / 6)}
    assert damages(Records(gates_and_lesions(0, [], [90.0], intact=90.0))) == {}


# --- the verdicts ---

SEEDS = range(8)
SOUND: dict[str, float] = {
    "plain_10": 2e-4, "plain_100": 0.5, "highway_10": 1e-4, "highway_50": 1.2e-4, "highway_100": 2e-4,
    "bias_0": 2.3, ANALYSED: 1.2e-4, RESIDUAL: 1e-3, GATED: 1e-3, HIGHWAY: 1e-3,
}  # fmt: skip
ERRORS = {RESIDUAL: 3.0, GATED: 4.0, HIGHWAY: 6.0}
RISING, LESIONS = [-6 + 0.1 * layer for layer in range(30)], [30.0] * 8 + [1.0] * 22


def evidence(
    losses: dict[str, float] | None = None, biases: Sequence[float] = RISING, lesions: Sequence[float] = LESIONS
) -> Records:
    """All arms and seeds; losses: other than the sound ones, NaN for runs that diverge."""
    found = []
    for seed in SEEDS:
        for arm, loss in {**SOUND, **(losses or {})}.items():
            noise = 0.02 * (seed - 3.5) / 7
            if math.isnan(loss):
                found += training(arm, seed, [2.0], diverged=True)
            else:
                found += [each for each in training(arm, seed, [2.0, loss * 10**noise]) if each.probe != "test"]
                found.append(row(arm, seed, "test", TEST_ERROR, ERRORS.get(arm, 5.0) + noise))
        found += gates_and_lesions(seed, biases, lesions)
    return Records(found)


def alternating(first: Records, second: Records) -> Records:
    """Even seeds of the first, odd ones of the second."""
    return Records([r for r in first if r.seed % 2 == 0] + [r for r in second if r.seed % 2])


def verdict_of(claim: str, records: Records) -> dict[str, Any]:
    found = judge(CLAIMS, records, list(SEEDS), "laptop", "digits")
    return next(item for item in found if item["claim"] == claim)


FALLING = evidence(biases=RISING[::-1])
LATE = evidence(lesions=LESIONS[::-1])


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("HW1", evidence({"plain_100": math.nan}), "reproduced"),
        ("HW1", evidence({"highway_100": math.nan}), "contradicted"),
        ("HW2", evidence({"bias_0": math.nan}), "reproduced"),
        ("HW3", evidence(), "reproduced"),
        ("HW3", FALLING, "contradicted"),
        ("HW3", alternating(evidence(), FALLING), "undecided"),
        ("HW4", evidence(), "reproduced"),
        ("HW4", LATE, "contradicted"),
        ("HW4", evidence(lesions=[30.0] * 29 + [20.0]), "contradicted"),
        ("HW4", alternating(evidence(), LATE), "undecided"),
        ("HW5", evidence({HIGHWAY: math.nan}), "undecided"),
    ],
)
def test_diverged_runs_and_layers_decide_either_way(claim: str, records: Records, verdict: str) -> None:
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_a_diverged_analysed_network_leaves_its_claims_undecided() -> None:
    records = [each for each in evidence() if (each.arm, each.seed) != (ANALYSED, 5)]
    broken = Records([*records, *training(ANALYSED, 5, [2.0], diverged=True)])
    for claim in ("HW3", "HW4"):
        assert verdict_of(claim, broken)["why"] == f"arm {ANALYSED} seed 5 diverged"
    assert verdict_of("HW2", broken)["tests"][0]["values"]["5"] == pytest.approx(0, abs=0.01), "here it is a value"


# --- arms, probe, figures ---


@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound_and_their_recipes_exist(budget: str, digits: ImageData) -> None:
    planned = granted(ABLATION.plan(budget, digits), bf16_is_fast=True)
    check(ABLATION, planned)
    json.dumps(dict(planned.settings))
    for arm in planned.arms:
        with_overrides(recipe_for(arm.network), dict(arm.recipe))
    arms = {arm.name: arm for arm in planned.arms}
    assert [name for name in arms if "gate_bias" in arms[name].search] == [f"highway_{d}" for d in (10, 20, 50, 100)]
    assert arms["bias_0"].arguments == {"gate_bias": 0.0}


@pytest.mark.parametrize("budget", ["laptop", "paper"])
def test_networks_that_are_compared_are_equally_large(budget: str, digits: ImageData) -> None:
    arms = {arm.name: arm for arm in ABLATION.plan(budget, digits).arms}

    def size(name: str, **sizes: Any) -> int:
        with torch.device("meta"):
            network = build(arms[name].network, 10, 1, **arms[name].arguments, **sizes)
        return sum(parameter.numel() for parameter in network.parameters())

    allowed = 0.01 if budget == "paper" else 0.11
    assert (1 - allowed) * size(HIGHWAY) < size(RESIDUAL) < size(HIGHWAY), "what claims less has no more"
    assert size(RESIDUAL) < size(GATED) < 1.06 * size(RESIDUAL)
    for depth in (10, 20, 50, 100):
        assert size(f"plain_{depth}", image_size=16) == pytest.approx(size(f"highway_{depth}", image_size=16), rel=0.1)


def subject(arm: str, network: str, digits: ImageData, folder: Path, **arguments: Any) -> Subject:
    torch.manual_seed(0)
    net = build(network, 10, 1, image_size=16, **arguments)
    files = {0: folder / "before.safetensors", 2: folder / "after.safetensors"}
    save_weights(net, files[0])
    for name, block in net.named_blocks():
        if hasattr(block.branch, "gate"):
            with torch.no_grad():  # trained, so to speak
                block.get_parameter("branch.gate.bias").sub_(0.5 if name != "hidden9" else -1.0)
    save_weights(net, files[2])
    return Subject(net, digits, {"limit": 50}, arm, 0, torch.device("cpu"), snapshots=files)


def test_the_probe_asks_the_analysed_network_alone(digits: ImageData, tmp_path: Path) -> None:
    for arm, network, arguments in (
        ("plain_50", "mlp50", {}), ("highway_20", "highway20", {}), ("bias_-6", "highway50", {"gate_bias": -6.0}),
    ):  # fmt: skip
        (found,) = list(probe(subject(arm, network, digits, tmp_path, **arguments)))
        assert (found.point, found.metric, found.value) == ("chance", LOSS, pytest.approx(GUESSING))


def test_the_probes_answers_and_figures(digits: ImageData, tmp_path: Path) -> None:
    found = list(probe(subject(ANALYSED, "highway50", digits, tmp_path)))
    rows = Records(row(ANALYSED, 0, m.point, m.metric, m.value) for m in found)
    after = rows.where(probe="layer", metric="gate/bias", when="after")
    assert len(after) == 49
    assert [each.fields["layer"] for each in after] == [str(layer) for layer in range(2, 51)]
    assert {each.fields["block"]: each.value for each in after} == {
        f"hidden{layer}": pytest.approx(-3.0 if layer == 9 else -4.5) for layer in range(2, 51)
    }
    assert set(rows.where(probe="layer", metric="gate/bias", when="before").values()) == {-4.0}
    assert rows.where(metric="gate/fell", layer=9).values() == [0.0]
    assert rows.where(metric="gate/fell", layer=10).values() == [100.0]
    assert len(rows.where(probe="unit")) == 49 * 50 * 4
    assert len(rows.where(probe="delete")) == 49
    again = list(probe(subject("highway_50", "highway50", digits, tmp_path)))
    assert again == found, "arms may share a run, so that answers are about the network"

    drawn = figures(Records([*rows, *evidence()]), tmp_path)
    files = [Path(each.file).name for each in drawn]
    assert files == ["optimisation.png", "depth.png", "bias.png", "units.png", "layers.png", "lesions.png",
                     "pairs.png", "gates.csv"]  # fmt: skip
    assert all((tmp_path / each.file).is_file() for each in drawn)


def test_without_records_nothing_is_drawn(tmp_path: Path) -> None:
    assert figures(Records(), tmp_path) == []
