"""Statistics of verdicts: Student's interval, the exact sign-flip test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

from ablations.harness.declare.ablation import LEVEL, MAX_SEEDS


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, float]:
    """Mean and the ends of Student's interval for it, from the sample deviation (n - 1).

    level: in (0, 1). One value gives an infinite interval. Raises ValueError for no value.
    """
    from scipy.special import stdtrit  # the quantile alone; scipy.stats takes a second to import

    if not values:
        raise ValueError("an interval needs at least one value")
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, -math.inf, math.inf
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)
    return mean, mean - half, mean + half


def sign_flip_p(values: Sequence[float], threshold: float, alternative: str) -> float:
    """Exact sign-flip p for mean(values) lying on one side of `threshold`, in [smallest_p(n), 1]; ties are extreme.

    Under the null the differences from the threshold are symmetric about 0, so all 2^n patterns of signs are equally
    likely. alternative: "greater" or "less". Raises ValueError for another, or unless there are 1 to MAX_SEEDS values.
    """
    import numpy as np

    if not 1 <= len(values) <= MAX_SEEDS:
        raise ValueError(f"{len(values)} values; the exact test takes 1 to {MAX_SEEDS}")
    if alternative not in ("greater", "less"):
        raise ValueError(f"alternative {alternative!r}; allowed are 'greater' and 'less'")
    sign = 1 if alternative == "greater" else -1
    # Sorted, so that the order of the seeds cannot reach the result through rounding.
    differences = sorted(sign * (value - threshold) for value in values)
    # All 2^n sums are sums of one from either half: count the pairs without ever forming them.
    left, right = (
        reduce(lambda sums, number: np.concatenate([sums + number, sums - number]), part, np.zeros(1))
        for part in (differences[::2], differences[1::2])
    )
    right.sort()
    tolerance = 1e-12 * math.fsum(map(abs, differences))  # a tie may miss by rounding
    cutoff = math.fsum(differences) - tolerance
    too_small = np.searchsorted(right, cutoff - left, side="left")
    return float((len(right) - too_small).sum()) / 2 ** len(values)


def smallest_p(n: int) -> float:
    """The smallest p that a one-sided sign-flip test of n seeds can reach."""
    return 1 / 2**n


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given, at most 1."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
