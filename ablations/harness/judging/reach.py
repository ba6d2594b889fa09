"""Reach: which verdicts so many seeds can give at all, whatever the other claims of the script say."""

from __future__ import annotations

from ablations.harness.declare.ablation import ALPHA, MAX_SEEDS, Claim
from ablations.harness.judging.statistics import smallest_p


def reaches(claim: Claim, num_seeds: int, num_claims: int) -> dict[str, bool]:
    """Whether a claim can be `reproduced` and `contradicted`, each by the smallest p and Holm's whole correction.

    num_claims: experiments of the script. A count is exact and needs no seeds.
    """
    sampled = [test for test in claim.tests if not test.measure.exact]
    counted = len(sampled) < len(claim.tests)
    p = smallest_p(num_seeds) * num_claims
    return {
        "reproduced": not sampled or p < ALPHA,
        "contradicted": counted or p * len(claim.tests) < ALPHA,
    }


def out_of_sight(claim: Claim, num_seeds: int, num_claims: int) -> str:
    """What so many seeds cannot say of a claim, and how many could, in one sentence; "" if they can say either."""
    missed = [word for word, can in reaches(claim, num_seeds, num_claims).items() if not can]
    if not missed:
        return ""
    enough = (n for n in range(num_seeds, MAX_SEEDS + 1) if all(reaches(claim, n, num_claims).values()))
    return f"{claim.id} cannot be {' or '.join(missed)} with {num_seeds} seeds; {next(enough, 'more')} can say either"
