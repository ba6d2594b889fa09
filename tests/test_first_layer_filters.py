"""What only `first_layer_filters` does: colours of streams against chance, and the network by image size."""

import pytest

from ablations.first_layer_filters import ARMS, CHARTS, CLAIMS, LEARNED, STREAMS, apart, plan
from ablations.harness.declare.chart import Drawing
from ablations.harness.declare.scale import BUDGETS, Scale
from ablations.harness.store.records import Record, Records, point
from reports.drawings.first_layer_filters import draw


def kernels(metric, halves, seeds=(0, 3)):
    """16 kernels of each arm in two halves, whose means are these up to some wiggle."""
    return [
        Record("first_layer_filters", arm, seed, point("kernel", when=LEARNED, number=number, stream=number // 8),
               metric, halves[number // 8] + 0.02 * ((number * 7 + seed) % 5), "", f"{arm}-{seed}")
        for arm in ARMS for seed in seeds for number in range(16)
    ]  # fmt: skip


def test_streams_are_apart_beyond_chance_or_below_it_and_grey_ones_are_neither():
    split = apart(STREAMS).by_seed
    different = split(Records(kernels("saturation", (0.1, 0.6))))
    assert different.keys() == {0, 3}
    assert all(0.2 < value < 0.5 for value in different.values())
    assert split(Records(kernels("saturation", (0.1, 0.6)))) == different
    assert all(value < 0 for value in split(Records(kernels("saturation", (0.3, 0.3)))).values())
    assert split(Records(kernels("gabor/explained", (0.9, 0.9)))) == {}


@pytest.mark.parametrize("size", [16, 32, 64, 224])
def test_large_images_are_shown_to_the_published_network(size):
    for budget in BUDGETS:
        planned = plan(Scale(budget, "any", size, 45_000, 10_000))
        two, one = planned.arms
        assert {two.network, one.network} == {"alexnet" if size >= 63 else "alexnet_cifar"}
        assert two.arguments.get("first_kernel", 5) == (7 if size == 32 else 5)
        assert ("hidden" in two.arguments) == (size >= 63 and budget in ("laptop", "hour", "smoke"))
        assert (two.arguments["groups"], one.arguments["groups"]) == (2, 1)
        assert two.recipe == one.recipe
    assert len(CLAIMS) * 2 / 2 ** plan(Scale("laptop", "any", size, 45_000, 10_000)).seeds < 0.05, (
        "two tests can contradict"
    )


def test_grey_records_have_no_figure_of_colours(tmp_path):
    drawing = next(chart for chart in CHARTS if isinstance(chart, Drawing)).arguments
    fits = kernels("gabor/explained", (0.9, 0.4))
    assert [each.file for each in draw(Records(fits), tmp_path, **drawing)] == ["figures/edges.png"]
    both = draw(Records(fits + kernels("saturation", (0.1, 0.6))), tmp_path, **drawing)
    assert [each.file for each in both] == ["figures/edges.png", "figures/colours.png"]
    assert draw(Records(), tmp_path, **drawing) == []
