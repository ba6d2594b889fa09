"""What only the questions about very deep networks hold: the papers' networks, equal sizes, counts, failures."""

import math
from typing import Any

import pytest
import torch
from test_residual_claims import CIFAR, DIGITS, row

from ablations import highway_gate_bias, path_lengths, stochastic_depth
from ablations.harness.declare.ablation import Ablation, Arm
from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records, point
from ablations.highway_gate_bias import ANALYSED, DEPTHS, GATED, HIGHWAY, LAYERS, LOSS, RESCALED, RESIDUAL, SHUT
from ablations.path_lengths import MEASURED, SHORT
from modules import build

SEEDS = range(9)


def arms(ablation: Ablation, *at: Any) -> dict[str, Arm]:
    return {arm.name: arm for arm in ablation.plan(Scale(*at)).arms}


def verdict_of(ablation: Ablation, claim: str, records: Records) -> dict[str, Any]:
    found = judge(ablation.claims, records, list(SEEDS), "laptop", "digits")
    return next(item for item in found if item["claim"] == claim)


# --- stochastic depth ---


def test_the_paper_budget_is_the_published_network_and_recipe() -> None:
    """Huang et al. 2016, section 4: 110 layers, 500 epochs, batch 128; on average 40.25 of 54 blocks run."""
    by_name = arms(stochastic_depth.ABLATION, "paper", *CIFAR)
    arm = by_name[stochastic_depth.STOCHASTIC]
    assert (arm.recipe["epochs"], arm.recipe["batch_size"]) == (500, 128)
    assert (arm.recipe["learning_rate"], arm.recipe["nesterov"], arm.recipe["weight_decay"]) == (0.1, True, 1e-4)
    with torch.device("meta"):
        network = build(arm.network, 10, 3, **arm.arguments)
        uniform = build(arm.network, 10, 3, **by_name["uniform_0.2"].arguments)
    assert sum(block.survival_prob for _, block in network.named_blocks()) == pytest.approx((3 * 54 - 1) / 4)
    assert {block.survival_prob for _, block in uniform.named_blocks()} == {0.2}
    assert by_name["per_sample_0.5"].arguments["drop_per"] == "sample"


def test_the_house_numbers_of_svhn_have_a_depth_and_a_schedule_of_their_own() -> None:
    for budget, depth, epochs, milestones in (("paper", 152, 50, (0.6, 0.7)), ("short", 56, 3, (0.5, 0.75))):
        arm = arms(stochastic_depth.ABLATION, budget, "svhn_extra", 32, 90_000, 26_032)[stochastic_depth.CONSTANT]
        assert (arm.arguments["depth"], arm.recipe["epochs"], arm.recipe["milestones"]) == (depth, epochs, milestones)


# --- lengths of paths ---


def test_every_budget_that_decides_has_the_papers_blocks() -> None:
    for budget in BUDGETS:
        found = {name: arm.arguments for name, arm in arms(path_lengths.ABLATION, budget, *DIGITS).items()}
        assert found[MEASURED]["depth"] == (14 if budget == "smoke" else 110)
        kept = {"smoke": (14, 3), "laptop": (38, 8), "hour": (38, 8)}.get(budget, (110, 23))
        assert (found[SHORT]["depth"], found[SHORT]["kept_blocks"]) == kept


def counted(seed: int, counts: list[int]) -> list[Record]:
    return [row(MEASURED, seed, point("paths_of_54_blocks", length=k), "paths", n) for k, n in enumerate(counts)]


def test_paths_are_counted_exactly_and_once() -> None:
    binomial = [math.comb(54, length) for length in range(55)]
    diverged = row(MEASURED, 1, "test", "test/top1_error", math.nan)
    for counts, verdict, deviation in (
        (binomial, "reproduced", 0),
        ([*binomial[:27], binomial[27] + 2, *binomial[28:]], "contradicted", 2),
        ([1] * 55, "contradicted", binomial[27] - 1),
    ):
        found = verdict_of(path_lengths.ABLATION, "PL1", Records([*counted(0, counts), diverged]))
        assert (found["verdict"], found["estimate"]) == (verdict, deviation), "a count needs one network"


# --- highway networks ---


@pytest.mark.parametrize("budget", ["laptop", "paper"])
def test_networks_that_are_compared_are_equally_large(budget: str) -> None:
    found = arms(highway_gate_bias.ABLATION, budget, *DIGITS)

    def size(name: str, **sizes: Any) -> int:
        with torch.device("meta"):
            network = build(found[name].network, 10, 1, **found[name].arguments, **sizes)
        return sum(parameter.numel() for parameter in network.parameters())

    allowed = 0.03 if budget == "paper" else 0.16
    for depth in LAYERS:
        of_residual, of_gated, of_highway = (size(arms[depth]) for arms in (RESIDUAL, GATED, HIGHWAY))
        assert (1 - allowed) * of_highway < of_residual < of_highway, "what claims less has no more"
        assert of_residual < of_gated < 1.06 * of_residual
    for depth in DEPTHS:
        assert size(f"plain_{depth}", image_size=16) == pytest.approx(size(f"highway_{depth}", image_size=16), rel=0.1)


def test_a_bias_is_searched_where_the_sweep_does_not_set_it() -> None:
    found = arms(highway_gate_bias.ABLATION, "laptop", *DIGITS)
    assert [name for name in found if "gate_bias" in found[name].search] == [f"highway_{depth}" for depth in DEPTHS]
    assert found["bias_0"].arguments == {"gate_bias": 0.0}
    assert found[RESCALED].arguments == {"gate_bias": 0.0, "transform_gain": 1.25}
    every = arms(highway_gate_bias.ABLATION, "hour", *DIGITS, 1)
    assert {every[f"bias_{bias}_of_100"].arguments["gate_bias"] for bias in (0, -1, -3)} == {0.0, -1.0, -3.0}


def trained(**losses: float) -> Records:
    """Final training losses of arms, NaN for runs that diverged and are asked nothing, beside those of sound ones."""
    sound = {"plain_10": 2e-4, "plain_100": 0.5, "highway_10": 1e-4, "highway_50": 1e-4, "highway_100": 2e-4}
    sound |= {RESCALED: 2.3, "bias_-1": 2.3, "bias_-3": 1e-3}
    rows = []
    for seed in SEEDS:
        for arm, loss in {**sound, "bias_0": 2.3, ANALYSED: 1e-4, **losses}.items():
            rows.append(row(arm, seed, point("epoch", epoch=2), LOSS, 2.0 if math.isnan(loss) else loss * 1.01**seed))
            if math.isnan(loss):
                rows += [row(arm, seed, "test", "test/top1_error", math.nan), row(arm, seed, "diverged", "step", 9)]
            else:
                rows.append(row(arm, seed, "chance", LOSS, math.log(10)))
        rows.append(row(SHUT, seed, point("layer", layer=2, when="after"), "gate/mean", 1e-4))
    return Records(rows)


def test_networks_that_fail_to_train_decide_whether_depth_trains() -> None:
    ablation, failed = highway_gate_bias.ABLATION, math.nan
    assert verdict_of(ablation, "HW1", trained(plain_100=failed))["verdict"] == "reproduced"
    assert verdict_of(ablation, "HW1", trained(highway_100=failed))["verdict"] == "contradicted"
    assert verdict_of(ablation, "HW2", trained(bias_0=failed))["verdict"] == "reproduced"
    assert verdict_of(ablation, "HW2", trained(**{RESCALED: 1e-4}))["verdict"] == "contradicted", "the scale did it"
    assert [verdict_of(ablation, f"HW2{each}", trained())["verdict"] for each in "ab"] == ["contradicted", "reproduced"]
    untaught = verdict_of(ablation, "HW1", trained(highway_10=1.0))
    assert (untaught["verdict"], untaught["why"][:18]) == ("out of reach", "log10 training los")
    broken = trained(**{ANALYSED: failed})
    values = verdict_of(ablation, "HW2", broken)["tests"][0]["values"]
    assert values["0"] == pytest.approx(math.log10(2.3 / math.log(10))), "a value, not a gap"
    for claim in ("HW3", "HW4"):
        found = verdict_of(ablation, claim, broken)
        assert (found["verdict"], found["why"][:12]) == ("out of reach", "arm bias_-4 "), "no layers were asked"
