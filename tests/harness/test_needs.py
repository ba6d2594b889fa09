"""Needs, margins, checks, reach, stuck runs, the commit of the rules: what keeps a blind experiment from speaking."""

import subprocess

import pytest

from ablations.harness.declare.ablation import Amendment, Claim, Need, Test
from ablations.harness.declare.measure import Quantity, counted
from ablations.harness.judging.reach import out_of_sight, reaches
from ablations.harness.judging.rules import fixed
from ablations.harness.judging.stuck import stuck
from ablations.harness.judging.verdict import judge
from ablations.harness.store.records import Record, Records, point

error, loss = Quantity("test/top1_error", "%", "test error"), Quantity("train/loss", "nats", "loss", "fit")
gain = error("plain") - error("residual")
EIGHT = range(8)


def rows(arm, values, metric="test/top1_error", place="test"):
    return [
        Record("x", arm, seed, place, metric, float(value), "", f"{arm}{seed}") for seed, value in enumerate(values)
    ]


def trial(gains, losses=(0.01,) * 8, plain=10.0):
    """Two arms whose errors differ by `gains`; `losses` are of the plain one."""
    low = [plain - each for each in gains]
    return Records(
        [*rows("plain", [plain] * len(gains)), *rows("residual", low), *rows("plain", losses, "train/loss", "fit")]
    )


GAINS = (Test("gain", gain, at_least=0.0),)


def claim(tests=GAINS, needs=(), **more):
    return Claim("RL1", "it errs less", "a paper", "a number", "", tests, needs, **more)


def judged(records, *claims, **more):
    return judge(claims, records, EIGHT, more.pop("budget", "laptop"), "digits", **more)


BETTER = [2.0, 1.5, 2.5, 2.0, 1.8, 2.2, 2.1, 1.9]
trained = Need("trained", loss("plain"), at_most=0.1, met_by="--budget short")


def test_one_seed_puts_no_claim_out_of_reach():
    (found,) = judge([claim(needs=(trained,))], trial([2.0], [0.05]), [0], "laptop", "digits")
    assert found["verdict"] == "undecided"
    assert found["why"] == "need trained: one seed says nothing of the spread over seeds"


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([0.05, 0.06, 0.04, 0.05, 0.05, 0.05, 0.06, 0.04], "reproduced"),
        ([1.4] * 8, "out of reach"),
        ([0.05] * 7 + [0.3], "out of reach"),  # its interval reaches beyond 0.1
        ([0.05] * 7 + [float("nan")], "out of reach"),  # one diverged
        ([0.05] * 7, "undecided"),  # one is missing
    ],
)
def test_a_need_that_does_not_hold_puts_a_claim_out_of_reach(losses, verdict):
    (found,) = judged(trial(BETTER, losses), claim(needs=(trained,)))
    assert found["verdict"] == verdict
    assert found["needs"][0]["met"] == (verdict == "reproduced")
    assert {test["outcome"] for test in found["tests"]} == {verdict}
    if verdict == "out of reach":
        assert "--budget short" in found["why"]
        assert found["agrees_with"] is None
        assert found["tests"][0]["estimate"] == pytest.approx(2.0), "what was found is shown all the same"


def test_a_smoke_budget_is_out_of_nothings_reach():
    (found,) = judged(trial(BETTER, [1.4] * 8), claim(needs=(trained,)), budget="smoke")
    assert found["verdict"] == "undecided"


def test_what_is_out_of_reach_is_no_evidence_for_another_claim():
    lost = claim(needs=(trained,))
    alone = judged(trial(BETTER, [1.4] * 8), claim(), num_claims=2)[0]
    beside = judged(trial(BETTER, [1.4] * 8), claim(), lost)[0]
    assert beside["p"] == alone["p"]


def test_a_margin_is_what_contradiction_must_be_beyond():
    worse = [-each / 4 for each in BETTER]  # about half a point worse
    narrow, wide = (claim((Test("gain", gain, at_least=0.0, margin=margin),)) for margin in (0.2, 1.0))
    assert judged(trial(worse), narrow)[0]["verdict"] == "contradicted"
    (found,) = judged(trial(worse), wide)
    assert found["verdict"] == "undecided"
    assert "smaller than the 1 that matter" in found["why"]
    (other,) = judged(trial([-3 * each / 4 for each in BETTER]), claim((Test("gain", gain, at_least=0.0, margin=1.5),)))
    assert other["verdict"] == "undecided"
    assert "not missed by more than the 1.5 that matter" in other["why"]
    assert "contradicted only below -1 % points" in found["rule"]
    upper = Test("loss", -1 * gain, at_most=0.0, margin=1.0)
    assert judged(trial(worse), claim((upper,)))[0]["verdict"] == "undecided"
    assert judged(trial([4 * each for each in worse]), claim((upper,)))[0]["verdict"] == "contradicted"
    for margin in (-1.0, float("inf")):
        with pytest.raises(ValueError, match="margin"):
            Test("gain", gain, at_least=0.0, margin=margin)


def test_checks_stand_apart_from_the_correction():
    check = claim(kind="check")
    wanting = claim()
    with_check = judged(trial(BETTER), wanting, check)
    assert [found["kind"] for found in with_check] == ["experiment", "check"]
    assert with_check[0]["p"] == judged(trial(BETTER), wanting)[0]["p"] == 1 / 256
    assert with_check[1]["p"] == 1 / 256
    assert judged(trial(BETTER), wanting, wanting)[0]["p"] == 2 / 256
    with pytest.raises(ValueError, match="kind 'guess'"):
        claim(kind="guess")


def test_seeds_reach_what_they_reach():
    two = claim((Test("gain", gain, at_least=0.0), Test("again", gain, at_least=0.0)))
    assert reaches(two, 7, 4) == {"reproduced": True, "contradicted": False}
    assert reaches(two, 8, 4) == {"reproduced": True, "contradicted": True}
    assert out_of_sight(two, 7, 4) == "RL1 cannot be contradicted with 7 seeds; 8 can say either"
    assert out_of_sight(two, 4, 4) == "RL1 cannot be reproduced or contradicted with 4 seeds; 8 can say either"
    assert out_of_sight(two, 8, 4) == ""
    count = claim((Test("count", counted(gain), at_least=0.0),))
    assert reaches(count, 1, 4) == {"reproduced": True, "contradicted": True}
    assert judged(trial(BETTER), two)[0]["reach"] == {"reproduced": True, "contradicted": True}


def test_a_verdict_says_with_whom_it_agrees_and_what_was_amended():
    agrees = {"reproduced": "notes", "contradicted": "paper"}
    change = Amendment("2026-01-31", "5 %", "10 %", "a pilot showed more noise")
    apart = claim(agrees=agrees, amended=(change,))
    assert judged(trial(BETTER), apart)[0]["agrees_with"] == "notes"
    (found,) = judged(trial([-each for each in BETTER]), apart)
    assert found["agrees_with"] == "paper"
    assert found["amended"] == [{"date": "2026-01-31", "was": "5 %", "now": "10 %", "why": "a pilot showed more noise"}]
    assert judged(trial(BETTER), claim())[0]["agrees_with"] == "both"
    with pytest.raises(ValueError, match="agrees"):
        claim(agrees={"reproduced": "nobody", "contradicted": "both"})


def epochs(arm, courses):
    return [
        Record("x", arm, seed, point("epoch", epoch=epoch), "val/top1_error", float(value), "%", f"{arm}{seed}")
        for seed, course in enumerate(courses)
        for epoch, value in enumerate(course, 1)
    ]


def test_a_run_that_never_left_guessing_is_stuck_if_its_siblings_left_it():
    learns, lost = (90, 40, 10), (89, 90, 88)
    assert stuck(Records(epochs("plain", [learns] * 3 + [lost]))) == [("plain", 3)]
    assert stuck(Records(epochs("plain", [lost] * 3 + [learns]))) == [], "that is how this arm is"
    assert stuck(Records(epochs("plain", [learns, lost]))) == [], "one sibling says nothing"
    assert stuck(Records(epochs("plain", [learns] * 3 + [(90, 50, 79)]))) == [], "79 is no longer guessing"
    assert stuck(Records(epochs("plain", [learns] * 3) + epochs("residual", [lost] * 3))) == []


def test_the_verdict_without_stuck_runs_stands_beside():
    records = trial([*BETTER[:7], -70.0])
    records = Records([*records, *epochs("residual", [(90, 40, 10)] * 7 + [(90, 90, 90)])])
    (found,) = judged(records, claim())
    assert found["verdict"] == "undecided"
    assert found["stuck"] == [{"arm": "residual", "seed": 7}]
    assert found["without_stuck"]["verdict"] == "reproduced"
    assert found["without_stuck"]["seeds"] == 7
    (other,) = judged(records, claim((Test("loss", loss("plain"), at_most=1.0),)))
    assert (other["stuck"], other["without_stuck"]) == ([], None), "that arm is not in its tests"


def git(folder, *words):
    who = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_rules_are_fixed_before_the_runs_they_judge_or_it_is_told(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("at_least=0")
    assert fixed(file, ["abc"]) == {}
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "rules")
    first = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "other.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "other")
    second = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    said = fixed(file, [first[:12], second])
    assert (said["commit"], said["uncommitted_changes"], said["before_runs"]) == (first[:12], False, True)
    assert said["date"].startswith("20")
    assert fixed(file, [])["before_runs"] is None
    assert fixed(file, ["0123456789ab"])["before_runs"] is None, "no commit that is known"
    file.write_text("at_least=-5")
    assert fixed(file, [second])["uncommitted_changes"]
    assert fixed(file, [second])["before_runs"] is False
    git(tmp_path, "commit", "-qam", "loosened")
    assert fixed(file, [second])["before_runs"] is False
    assert fixed(file, [git(tmp_path, "rev-parse", "HEAD"), second])["before_runs"] is False
