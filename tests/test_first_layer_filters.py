"""The plans, the probe, the estimates and the verdicts of `first_layer_filters`, on invented records and the digits."""

from types import SimpleNamespace

import pytest
import torch
from ablations.harness.probing import Subject

from ablations.first_layer_filters import (
    ABLATION,
    CLAIMS,
    EDGE,
    LEARNED,
    PATCHES,
    STANDING,
    STREAMS,
    UNTRAINED,
    WHOLE,
    edges,
    growth,
    learned,
    patch_noise,
    split,
)
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from modules import build, fitted
from modules.training.recipe import with_overrides
from modules.weights import save_weights

SEEDS = range(8)
FITS = {LEARNED: 12, UNTRAINED: 0, PATCHES: 4}  # of 16 kernels those that are edges


def row(arm, seed, where, metric, value):
    return Record("first_layer_filters", arm, seed, where, metric, float(value), "", f"{arm}-{seed}")


def evidence(fits=FITS, colours=(0.1, 0.6), whole=(0.3, 0.3), radii=(2.0, 5.0), seeds=SEEDS):
    """16 kernels in two halves; colours, whole: mean saturations of the halves with and without streams, or None."""
    rows = []
    for seed in seeds:
        for arm, halves in ((STREAMS, colours), (WHOLE, whole)):
            for number in range(16):
                stream = number // 8
                for when, count in fits.items():
                    where = point("kernel", when=when, number=number, stream=stream)
                    rows.append(row(arm, seed, where, "gabor/explained", 0.9 if number < count else 0.4))
                if halves is not None:
                    where = point("kernel", when=LEARNED, number=number, stream=stream)
                    wiggle = 0.02 * ((number * 7 + seed) % 5)
                    rows.append(row(arm, seed, where, "saturation", halves[stream] + wiggle))
            for depth, radius in enumerate(radii, start=1):
                where = point("layer", when=STANDING, layer=f"conv{depth}", depth=depth)
                rows.append(row(arm, seed, where, "extent", radius))
    return Records(rows)


def verdicts(records):
    return {found["claim"]: found["verdict"] for found in judge(CLAIMS, records, list(SEEDS), "laptop", "invented")}


def test_every_claim_can_be_reproduced():
    assert verdicts(evidence()) == dict.fromkeys(("FF1a", "FF1b", "FF1c", "FF1d"), "reproduced")


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("FF1a", {"fits": {**FITS, LEARNED: 1}}),
        ("FF1b", {"fits": {**FITS, PATCHES: 16}}),
        ("FF1c", {"radii": (2.0, 2.5)}),
        ("FF1d", {"colours": (0.3, 0.3)}),
        ("FF1d", {"whole": (0.0, 0.9)}),
    ],
)
def test_every_claim_can_be_contradicted(claim, changes):
    assert verdicts(evidence(**changes))[claim] == "contradicted"


def test_grey_images_leave_the_streams_undecided():
    found = verdicts(evidence(colours=None, whole=None))
    assert found == {**dict.fromkeys(("FF1a", "FF1b", "FF1c"), "reproduced"), "FF1d": "undecided"}
    assert split(evidence(colours=None, whole=None), STREAMS) == {}


def test_estimates_are_shares_ratios_and_distances_beyond_chance():
    records = evidence(seeds=(0, 3))
    assert edges(STREAMS, when=LEARNED).by_seed(records) == {0: 75.0, 3: 75.0}
    assert growth(records) == {0: 2.5, 3: 2.5}
    assert all(0.2 < value < 0.5 for value in split(records, STREAMS).values())
    assert all(value < 0 for value in split(records, WHOLE).values()), "halves that do not differ are below chance"
    assert split(records, STREAMS) == split(records, STREAMS)


def test_what_was_learned_forgets_the_start():
    start = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    added = torch.zeros_like(start)
    added[0, 0, 0, 0], added[1, 0, 0, 0] = start[1, 0, 0, 0], -start[0, 0, 0, 0]  # orthogonal to the start
    assert torch.allclose(learned(0.7 * start + added, start), added, atol=1e-5)


def subject(digits, tmp_path, arm):
    """A network and the same before training, in which nothing but the first kernels differs."""
    plan = ABLATION.plan("smoke", digits)
    chosen = next(each for each in plan.arms if each.name == arm)
    torch.manual_seed(0)
    network = build(chosen.network, 10, 1, **fitted(chosen.network, chosen.arguments, 16)).eval()
    save_weights(network, tmp_path / "start.safetensors")
    with torch.no_grad():
        ramp = torch.linspace(-1, 1, 5).expand(5, 5)
        network.block("conv1").branch.conv.weight.add_(0.3 * ramp)
    snapshots = {0: tmp_path / "start.safetensors"}
    return Subject(network, digits, plan.settings, arm, 0, torch.device("cpu"), snapshots=snapshots)


def test_the_probe_sees_what_was_learned_and_no_colour_in_grey(digits, tmp_path):
    asked = subject(digits, tmp_path, STREAMS)
    rows = Records(row(STREAMS, 0, m.point, m.metric, m.value) for m in ABLATION.probe(asked))
    assert len(rows.where(metric="saturation")) == 0
    fits = {when: rows.where(metric="gabor/explained", when=when).values() for when in (*FITS, STANDING)}
    assert {len(values) for values in fits.values()} == {32}
    assert min(fits[LEARNED]) > EDGE > max(fits[UNTRAINED]), "a ramp is half a wave"
    layers = rows.where(probe="layer", when=STANDING)
    assert [r.fields["layer"] for r in layers] == ["conv1", "conv2", "conv3.branch"]
    assert growth(rows)[0] > 1.5


def test_random_sums_of_patches_are_smooth(digits, tmp_path):
    asked = subject(digits, tmp_path, STREAMS)
    found = patch_noise(asked, torch.zeros(32, 1, 5, 5))
    assert found.shape == (32, 1, 5, 5)
    assert torch.equal(found, patch_noise(asked, torch.zeros(32, 1, 5, 5)))
    neighbours = torch.corrcoef(torch.stack([found[..., :-1].flatten(), found[..., 1:].flatten()]))[0, 1]
    assert neighbours > 0.4


@pytest.mark.parametrize("size", [16, 32, 64, 224])
def test_plans_fit_their_images(size):
    data = SimpleNamespace(image_size=size, in_channels=3, train=range(45_000), test=range(10_000))
    for budget in BUDGETS:
        planned = ABLATION.plan(budget, data)
        check(ABLATION, planned)
        assert planned.seeds == (2 if budget == "smoke" else 8)
        assert planned.snapshots == 2
        assert [arm.arguments["groups"] for arm in planned.arms] == [2, 1]
        assert planned.arms[0].recipe == planned.arms[1].recipe
        for arm in planned.arms:
            assert arm.network == ("alexnet" if size >= 63 else "alexnet_cifar")
            from modules import recipe_for

            assert with_overrides(recipe_for(arm.network), dict(arm.recipe)).weight_decay == 5e-4
    assert len(CLAIMS) * 2 / 2**8 < 0.05, "enough to contradict a claim of two tests"


def test_figures_of_grey_records_have_no_colours(tmp_path):
    grey = ABLATION.figures(evidence(colours=None, whole=None, seeds=(0, 1)), tmp_path)
    assert [figure.file for figure in grey] == ["figures/edges.png", "figures/extents.png", "figures/kernels.csv"]
    coloured = ABLATION.figures(evidence(seeds=(0, 1)), tmp_path)
    assert "figures/colours.png" in [figure.file for figure in coloured]
    table = (tmp_path / "figures" / "kernels.csv").read_text().splitlines()
    assert table[1].startswith("two streams,what was learned,0.775,75")
    assert ABLATION.figures(Records(), tmp_path) == []
