"""The ablation end to end at smoke budget, and every rule of its claims on invented records."""

import json
import random

import pytest

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.execution.execute import carry_out
from ablations.harness.prepare import prepare
from ablations.harness.store.records import Record, Records, point, read_records
from ablations.harness.verdict import judge
from ablations.remove_layers import (
    ABLATION,
    CLAIMS,
    ERROR,
    PLAIN,
    PLAIN_BN,
    RESIDUAL,
    STOCHASTIC,
    curve,
    damage,
    largest_step,
    monotony,
    order_matters,
    reordering,
    smallest_disorder,
)

# --- the smoke budget, end to end ---


@pytest.fixture(scope="module")
def folder(smoke):
    return smoke[0] / "ablations" / "remove_layers" / "smoke-digits"


def test_smoke_leaves_everything(smoke, folder):
    out, told = smoke
    names = {file.name for file in folder.iterdir()}
    assert names == {"records.csv", "verdicts.json", "ablation.json", "report.html", "figures"}
    assert len(list((folder / "figures").glob("*.png"))) >= 4
    summary = json.loads((folder / "ablation.json").read_text())
    assert {run["state"] for run in summary["runs"]} == {"done"}
    assert {(run["arm"], run["seed"]) for run in summary["runs"]} == {
        (arm, seed) for arm in (RESIDUAL, "original_resnet", STOCHASTIC, PLAIN, PLAIN_BN) for seed in (0, 1)
    }
    assert all((folder / figure["file"]).is_file() for figure in summary["figures"])
    page = (folder / "report.html").read_text()
    assert all(claim.says in page for claim in CLAIMS)
    assert "undecided" in page
    for seed in (0, 1):
        assert f"{RESIDUAL} seed {seed}: test error" in told
    for file in out.rglob("*"):
        assert not file.name.startswith(".write-test")
        assert not file.name.endswith(".tmp")


def test_smoke_records_every_question(smoke, folder):
    out, _ = smoke
    records = read_records(folder)
    assert {row.ablation for row in records} == {"remove_layers"}
    for arm, blocks in ((RESIDUAL, 6), ("original_resnet", 6), (STOCHASTIC, 6), (PLAIN, 14), (PLAIN_BN, 14)):
        for seed in (0, 1):
            rows = records.where(arm=arm, seed=seed)
            assert len(rows.where(probe="delete")) == blocks
            assert len(rows.where(probe="delete_shortcut")) == (blocks if blocks == 6 else 0)
            assert rows.where(probe="chance").values() == [90.0]
            (run,) = {row.run for row in rows}
            done = json.loads((out / "trained" / run / "done").read_text())
            assert rows.where(probe="intact").values() == [done["test/top1_error"]], "probe and training agree"
            assert rows.where(probe="test", metric=ERROR).values() == [done["test/top1_error"]]
    assert {row.arm for row in records.where(probe="delete_random")} == {RESIDUAL}
    assert {row.fields["k"] for row in records.where(probe="delete_random")} == set("123456")
    assert len(records.where(arm=RESIDUAL, seed=0, probe="reorder")) == 4


def test_verdicts_follow_from_the_records_alone(folder):
    written = json.loads((folder / "verdicts.json").read_text())
    again = judge(CLAIMS, read_records(folder), [0, 1], "smoke", "digits", num_claims=4)
    assert again == written
    assert [verdict["claim"] for verdict in written] == ["RL1", "RL2", "RL3", "RL4"]
    assert {verdict["verdict"] for verdict in written} == {"undecided"}
    assert written[0]["why"] == "smoke budget proves the machinery only"
    contract = {"claim", "says", "verdict", "estimate", "interval", "unit", "rule", "seeds", "budget", "data"}
    assert all(contract | {"published", "notes_value", "source"} <= set(verdict) for verdict in written)


def test_a_second_time_changes_no_byte(smoke, folder, capsys):
    out, _ = smoke
    before = {name: (folder / name).read_bytes() for name in ("records.csv", "verdicts.json")}
    trained = {file: file.stat().st_mtime_ns for file in (out / "trained").rglob("*") if file.is_file()}
    options = Options("smoke", "digits", out, out, wandb="disabled", trainer={"accelerator": "cpu"})
    assert carry_out(prepare(ABLATION, options)) is False
    assert capsys.readouterr().out.count("already trained, already probed") == 10
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {file: file.stat().st_mtime_ns for file in (out / "trained").rglob("*") if file.is_file()} == trained


# --- estimates on invented records ---


def row(arm, seed, where, value):
    return Record("remove_layers", arm, seed, where, ERROR, float(value), "%", f"{arm}-{seed}")


def deletions(arm, seed, errors, intact=10.0, chance=90.0, at_a_change=85.0):
    """The records of one network: intact, guessing, blocks that keep the shape, and one that changes it."""
    found = [row(arm, seed, point("chance"), chance), row(arm, seed, point("intact"), intact)]
    for position, error in enumerate(errors, start=1):
        where = point("delete", block=f"b{position}", position=position, changes_shape=False)
        found.append(row(arm, seed, where, error))
    return [*found, row(arm, seed, point("delete", block="down", position=99, changes_shape=True), at_a_change)]


def random_deletions(seed, curve_):
    """Two draws per k, one above and one below the wanted mean."""
    return [
        row(RESIDUAL, seed, point("delete_random", k=k, draw=draw), error + (1 if draw else -1))
        for k, error in enumerate(curve_, start=1)
        for draw in (0, 1)
    ]


def shuffles(seed, by_tau):
    return [
        row(RESIDUAL, seed, point("reorder", swaps=1, draw=draw, tau=tau), error)
        for draw, (tau, error) in enumerate(by_tau)
    ]


def test_damage_is_the_median_on_the_way_to_chance():
    records = Records(deletions(RESIDUAL, 3, [10, 18, 90]) + deletions(PLAIN, 3, [90, 90, 50], intact=50))
    assert damage(RESIDUAL).by_seed(records) == {3: pytest.approx(10.0)}
    assert damage(PLAIN).by_seed(records) == {3: pytest.approx(100.0)}
    assert damage(STOCHASTIC).by_seed(records) == {}
    below = Records(deletions(RESIDUAL, 0, [6, 6, 6]))
    assert damage(RESIDUAL).by_seed(below) == {0: pytest.approx(-5.0)}


def test_a_network_that_learned_nothing_has_no_damage():
    assert damage(PLAIN).by_seed(Records(deletions(PLAIN, 0, [90, 90], intact=90))) == {}


def test_the_curve_averages_draws_and_starts_intact():
    records = Records(deletions(RESIDUAL, 0, [10]) + random_deletions(0, [20, 40]) + deletions(PLAIN, 0, [90]))
    assert curve(records, 0) == [10, 20, 40]


@pytest.mark.parametrize(
    ("errors", "rising", "step"),
    [
        ([20, 30, 40, 50], 1.0, 25.0),
        ([50, 50, 50, 50], 0.4, 100.0),
        ([20, 15, 30, 50], 0.8, 50.0),
        ([9, 8, 7, 6], -1.0, None),
    ],
)
def test_monotony_and_largest_step(errors, rising, step):
    records = Records(deletions(RESIDUAL, 4, [10]) + random_deletions(4, errors))
    assert monotony(records) == {4: pytest.approx(rising)}
    assert largest_step(records) == ({} if step is None else {4: pytest.approx(step)})


def test_order_matters_and_the_smallest_disorder():
    smooth = [(1 - i / 20, 10 + 4 * i) for i in range(1, 21)]
    random.Random(0).shuffle(smooth)
    records = Records(deletions(RESIDUAL, 2, [10]) + shuffles(2, smooth))
    assert sorted(zip(*reordering(records)[2], strict=True)) == sorted(smooth)
    assert order_matters(records) == {2: pytest.approx(1.0)}
    # The least shuffled tenth are two orders with 14 and 18 %, the most shuffled two have 86 and 90 %.
    assert smallest_disorder(records) == {2: pytest.approx(100 * 6 / 78)}
    flat = Records(deletions(RESIDUAL, 2, [10]) + shuffles(2, [(tau, 80) for tau, _ in smooth[:10]] + [(0.0, 81)]))
    assert smallest_disorder(flat)[2] == pytest.approx(100 * 70 / 71)
    falling = Records(deletions(RESIDUAL, 2, [10]) + shuffles(2, [(0.9, 8), (0.1, 9)]))
    assert smallest_disorder(falling) == {}


# --- the verdicts ---

SEEDS = range(8)
GENTLE = [15, 22, 30, 37, 45, 52, 60, 67]
JUMP = [80, 80.5, 81, 81.5, 82, 82.5, 83, 83.5]
SMOOTH = [(tau / 10, 12 + 7 * (10 - tau)) for tau in range(10)]
# Per claim: what makes it reproduced and contradicted; 10 is the intact error, 90 chance.
SOUND = {RESIDUAL: 12, PLAIN: 88, PLAIN_BN: 85, STOCHASTIC: 11}


def evidence(random_curve=GENTLE, orders=SMOOTH, noise=0.5):
    """All arms and seeds."""
    found = []
    for seed in SEEDS:
        small = noise * (seed - 3.5) / 7
        for number, (arm, error) in enumerate(SOUND.items()):
            found += deletions(arm, seed, [error + small * (1 + number)] * 3)
        found += random_deletions(seed, [error + small for error in random_curve])
        found += shuffles(seed, [(tau, error + small) for tau, error in orders])
    return Records(found)


def verdict_of(claim, records, seeds=SEEDS):
    found = judge(CLAIMS, records, list(seeds), "laptop", "digits", num_claims=4)
    return next(item for item in found if item["claim"] == claim)


UNDECIDED_ORDERS = [(tau / 10, error) for tau, error in enumerate([80, 12, 30, 75, 20, 60, 35, 82, 15, 50])]


@pytest.mark.parametrize(
    ("claim", "records", "verdict"),
    [
        ("RL2", evidence(), "reproduced"),
        ("RL2", evidence(random_curve=JUMP), "contradicted"),
        ("RL2", evidence(random_curve=GENTLE[::-1]), "contradicted"),
        ("RL3", evidence(), "reproduced"),
        ("RL3", evidence(orders=[(tau, 100 - error) for tau, error in SMOOTH]), "contradicted"),
    ],
)
def test_curves_decide_either_way(claim, records, verdict):
    found = verdict_of(claim, records)
    assert found["verdict"] == verdict, found["why"]


def test_curves_that_disagree_between_seeds_leave_rl2_and_rl3_undecided():
    kept = []
    for record in evidence():
        # Half of the seeds jump at once, half rise smoothly; half are ordered, half are not.
        if record.probe == "delete_random" and record.seed % 2:
            record = row(record.arm, record.seed, record.point, JUMP[int(record.fields["k"]) - 1])
        if record.probe == "reorder" and record.seed % 2:
            record = row(record.arm, record.seed, record.point, UNDECIDED_ORDERS[int(record.fields["draw"])][1])
        kept.append(record)
    for claim in ("RL2", "RL3"):
        found = verdict_of(claim, Records(kept))
        assert found["verdict"] == "undecided"
        assert "interval" in found["why"]


def test_too_few_seeds_decide_nothing():
    records = Records(record for record in evidence() if record.seed < 3)
    for claim in CLAIMS:
        found = verdict_of(claim.id, records, range(3))
        assert found["verdict"] == "undecided"
        assert "3 seeds" in found["why"]


@pytest.mark.parametrize("arm", [RESIDUAL, PLAIN, STOCHASTIC])
def test_a_diverged_run_leaves_its_claims_undecided(arm):
    """Such a run has one record, the test error that is no number, and no answers of the probe."""
    kept = [record for record in evidence() if (record.arm, record.seed) != (arm, 5)]
    records = Records([*kept, row(arm, 5, "test", float("nan"))])
    needing = {claim.id for claim in CLAIMS if any(arm in test.arms for test in claim.tests)}
    for claim in CLAIMS:
        found = verdict_of(claim.id, records)
        assert found["verdict"] == ("undecided" if claim.id in needing else "reproduced")
        if claim.id in needing:
            assert found["why"] == f"arm {arm} seed 5 diverged"
            headline = next(item for item in CLAIMS if item.id == claim.id).tests[0]
            assert (found["estimate"] is None) == (arm in headline.arms), "survivors would flatter the arm"


@pytest.mark.parametrize("budget", BUDGETS)
def test_plans_are_sound(budget, digits):
    planned = ABLATION.plan(budget, digits)
    check(ABLATION, planned)
    assert json.loads(json.dumps(dict(planned.settings))) == planned.settings
    arms = [arm.name for arm in planned.arms]
    assert arms == ["preact_resnet", "original_resnet", "stochastic_depth", "vgg", "vgg_bn"]
    assert set(planned.settings["random_arms"]) <= set(arms)
