"""Lengths of paths: which of them carry the gradient, and what the probes ask of whom."""

import math
from pathlib import Path

import pytest
import torch
from answers import asked

from ablations.harness.declare.probe import Probe
from ablations.harness.store.records import Records
from ablations.probes.gradients.path_lengths import (
    COUNT,
    NORM,
    PathCounts,
    PathNorms,
    carried,
    effective_length,
    effective_share,
    interval,
    line,
    shares,
)
from ablations.probes.gradients.paths import sampled_norms
from datamodules.images import ImageData
from modules import build
from modules.weights import save_weights

BINOMIAL = [math.comb(54, length) for length in range(55)]


def test_the_shortest_interval() -> None:
    assert interval([0.2, 0.5, 0.3], 0.75) == (1, 2)
    assert interval([0.5, 0.25, 0.25], 0.75) == (0, 1)
    assert interval([0.1, 0.8, 0.1], 0.8) == (1, 1)
    assert interval([0.1, 0.8, 0.1], 1.0) == (0, 2)
    with pytest.raises(ValueError, match="more than there is"):
        interval([0.1, 0.2], 0.95)
    assert shares([1, 3]) == [0.25, 0.75]
    assert shares([0, 0]) == []
    assert 100 * math.fsum(shares(BINOMIAL)[5:18]) == pytest.approx(0.4537, abs=5e-5), "as the paper prints"


def test_gradients_that_shrink_by_a_constant_factor_give_a_binomial_again() -> None:
    """54 choose k times r^k is the binomial distribution of probability r / (1 + r)."""
    norms = [5 * 0.25**length for length in range(55)]
    expected = [math.comb(54, k) * 0.2**k * 0.8 ** (54 - k) for k in range(55)]
    assert carried(BINOMIAL, norms) == pytest.approx(expected)
    assert effective_length(BINOMIAL, norms) == pytest.approx(20.0)
    assert line(norms) == (pytest.approx(0.25), pytest.approx(1.0))
    assert interval(expected) == (5, 16)
    assert effective_share(BINOMIAL, norms) == pytest.approx(100 * sum(BINOMIAL[5:17]) / 2**54)
    assert effective_share(BINOMIAL, [0.0] * 55) is effective_length(BINOMIAL, [0.0] * 55) is None


def test_a_line_leaves_out_what_carries_nothing() -> None:
    assert line([1.0, 0.1, 0.0, 0.001]) == (pytest.approx(0.1), pytest.approx(1.0))
    assert line([2.0, 2.0, 2.0]) == (1.0, 0.0)
    assert line([1.0, 10.0, 1.0, 10.0])[1] == pytest.approx(0.2)
    assert line([1.0, 0.0, 2.0]) == (None, None)


def test_the_probes_count_paths_and_measure_them_before_and_after_training(digits: ImageData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, untrained = (build("resnet_cifar", 10, 1, depth=8, width=2, order="full_preactivation") for _ in range(2))
    save_weights(untrained, tmp_path / "untrained")
    passes: list[int] = []

    def answers(probe: Probe, **more: object) -> Records:
        return asked(probe, trained, digits, 3, on_pass=lambda: passes.append(1), **more)

    counts = answers(PathCounts())
    assert counts.where(probe="paths_of_54_blocks").values() == BINOMIAL
    assert counts.where(probe="paths", metric=COUNT).values() == [1, 3, 3, 1]
    probe = PathNorms(draws=4, draws_untrained=2, batch_size=8, limit=16)
    found = answers(probe, snapshots={0: tmp_path / "untrained", 9: tmp_path / "trained"})
    assert len(passes) == 4 * (4 + 2)
    batches = list(digits.evaluation_batches("train", 8, limit=16))
    for state, network, draws in (("trained", trained, 4), ("untrained", untrained, 2)):
        norms = sampled_norms(network.train(), batches, draws, torch.Generator().manual_seed(3))
        for length, values in norms.items():
            rows = found.where(state=state, length=length)
            assert rows.where(metric=NORM).values() == [pytest.approx(sum(values) / draws)]
            low, middle, high = (rows.where(metric=f"{NORM}_{name}").values()[0] for name in ("q10", "q50", "q90"))
            assert min(values) <= low <= middle <= high <= max(values)
    assert {row.fields["state"] for row in answers(probe)} == {"trained"}, "of a network that was not trained here"
    one = answers(PathNorms(draws=1, draws_untrained=1, batch_size=8, limit=8))
    assert one.where(length=2, metric=NORM).values() == one.where(length=2, metric=f"{NORM}_q10").values()


@pytest.mark.parametrize("probe", [PathCounts(), PathNorms(draws=1, draws_untrained=1, batch_size=8, limit=8)])
def test_a_network_without_sums_has_no_paths_to_choose_among(digits: ImageData, probe: Probe) -> None:
    plain = build("plain20", 10, 1, width=2)
    assert not asked(probe, plain, digits)
