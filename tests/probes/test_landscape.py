"""Loss surfaces: exact where a formula is known, the network untouched, stopped and gone on with, shared."""

import numpy as np
import pytest
import torch
from curved import OFFSET, quadratic
from small_networks import BATCHES, BUILT, make, same_state, state_of
from torch import nn

from ablations.probes.landscape.directions import between, moved, random_direction
from ablations.probes.landscape.refinement import new_points, unneeded
from ablations.probes.landscape.surface import surface
from ablations.probes.landscape.surface_file import COMPUTED, INTERPOLATED, OPEN, Surface, axis, merged


def plane(network, seed=0):
    return [random_direction(network, seed), random_direction(network, seed + 1)]


def plain(network, batches=BATCHES):
    """The loss in one line, by torch alone."""
    with torch.no_grad():
        each = [nn.functional.cross_entropy(network(x).float(), y, reduction="none").double() for x, y in batches]
    return float(torch.cat(each).mean())


def test_the_centre_is_the_networks_own_loss_to_the_last_bit(network):
    found = surface(network, BATCHES, plane(network), steps=3)
    assert found.centre == (1, 1)
    assert found.values["train/loss"][1, 1] == plain(network)
    with torch.no_grad():
        logits, labels = torch.cat([network(x) for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES])
    assert found.values["train/error"][1, 1] == 100 * int((logits.argmax(1) != labels).sum()) / 12
    each = nn.functional.cross_entropy(logits, labels, reduction="none").double()
    assert found.values["train/loss_standard_error"][1, 1] == pytest.approx(float(each.std()) / 12**0.5, rel=1e-6)


def test_every_point_is_the_network_with_moved_weights(network):
    directions = plane(network)
    found = surface(network, {"train": BATCHES, "test": BATCHES[:1]}, directions, steps=3, span=(-0.5, 1.0))
    there = moved(network, directions, (1.0, -0.5))
    assert found.values["train/loss"][2, 0] == pytest.approx(plain(there), rel=1e-6)
    assert found.values["test/loss"][2, 0] == pytest.approx(plain(there, BATCHES[:1]), rel=1e-6)


def bowl():
    """A network with an exactly quadratic loss, its images, two directions, and the loss by its formula."""
    network, batches, matrix = quadratic()
    draws = torch.Generator().manual_seed(0)
    directions = [
        {name: torch.randn(w.shape, generator=draws, dtype=w.dtype) for name, w in network.named_parameters()}
        for _ in range(2)
    ]

    def loss(*coordinates):
        w = torch.cat([w.detach().flatten() for w in moved(network, directions, coordinates).parameters()])
        return OFFSET + float(w @ matrix @ w) / 2

    return network, batches, directions, loss


def test_a_quadratic_models_surface_is_the_closed_form():
    network, batches, directions, loss = bowl()
    found = surface(network, batches, directions, steps=5)
    for i, alpha in enumerate(found.axes[0]):
        for j, beta in enumerate(found.axes[1]):
            assert found.values["train/loss"][i, j] == pytest.approx(loss(alpha, beta), rel=1e-9)


def test_the_way_to_another_network_ends_there():
    here, there = make("resnet"), make("resnet")
    with torch.no_grad():
        for tensor in there.parameters():
            tensor.mul_(0.9)
        for _ in range(3):
            there.train()(torch.randn(16, 3, 16, 16))
    there.eval()
    found = surface(here, BATCHES, [between(here, there.state_dict())], steps=3, span=(0, 1))
    assert found.values["train/loss"][0] == plain(here)
    assert found.values["train/loss"][2] == pytest.approx(plain(there), rel=1e-5)


# -- batch norm and precision -----------------------------------------------------------------------------------------


def averaging(network):
    """The network with batch norms that take the mean over the batches that they are shown next."""
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    return network


@torch.no_grad()
def test_batch_norm_policies():
    network = BUILT["resnet"]
    before, line = state_of(network), plane(network)[:1]
    found = {
        policy: surface(network, BATCHES, line, steps=3, batch_norm=policy).values["train/loss"]
        for policy in ("keep", "recompute", "batch")
    }
    assert same_state(state_of(network), before)
    assert len({values[1] for values in found.values()}) == 3
    assert found["batch"][1] == pytest.approx(plain(averaging(make("resnet"))), rel=1e-6)
    copy = averaging(make("resnet"))
    for images, _ in BATCHES:
        copy(images)
    assert found["recompute"][1] == pytest.approx(plain(copy.eval()), rel=1e-6)


def test_a_rescaled_network_with_batch_norm_recomputed_has_the_same_normalised_surface():
    """Convolutions before batch norm may be scaled freely: the function stays, and so does the normalised picture."""
    network, scaled = make("resnet"), make("resnet")
    with torch.no_grad():
        for weight in scaled.parameters():
            if weight.ndim == 4:
                weight.mul_(3.0)
    found = [
        surface(each, BATCHES, plane(each), steps=3, batch_norm="batch").values["train/loss"]
        for each in (network, scaled)
    ]
    np.testing.assert_allclose(*found, rtol=1e-3)
    ours, theirs = (
        surface(each, BATCHES, [random_direction(each, 0, "none")], steps=3, batch_norm="batch").values["train/loss"]
        for each in (network, scaled)
    )
    assert abs(ours[0] - theirs[0]) > 0.01 * ours[0]


def test_folded_and_bf16_surfaces_are_close(network):
    directions = plane(network)
    exact = surface(network, BATCHES, directions, steps=3).values["train/loss"]
    fold = surface(network, BATCHES, directions, steps=3, fold=True).values["train/loss"]
    np.testing.assert_allclose(fold, exact, rtol=1e-4)
    spread = exact.max() - exact.min()
    for how in ({"precision": "bf16"}, {"precision": "bf16", "fold": True}):
        rounded = surface(network, BATCHES, directions, steps=3, **how).values["train/loss"]
        assert np.abs(rounded - exact).max() < 0.1 * spread
        assert not np.array_equal(rounded, exact)


def test_folding_needs_batch_norm_as_it_is():
    network = BUILT["resnet"]
    with pytest.raises(ValueError, match="fold needs batch norm as it is"):
        surface(network, BATCHES, plane(network), steps=3, fold=True, batch_norm="recompute")
    with pytest.raises(ValueError, match="fold needs batch norm as it is"):
        surface(network, BATCHES, [random_direction(network, 0, vectors="moved")], steps=3, fold=True)


# -- stopped, shared, refined -----------------------------------------------------------------------------------------


def stop_after(points):
    def on_point():
        nonlocal points
        points -= 1
        if not points:
            raise KeyboardInterrupt

    return on_point


def test_stop_and_resume_give_the_identical_file(tmp_path):
    network = BUILT["resnet"]
    whole, part, facts = tmp_path / "whole.npz", tmp_path / "part.npz", {"direction_seeds": [0, 1]}
    directions = plane(network)
    surface(network, BATCHES, directions, steps=5, file=whole, facts=facts)
    with pytest.raises(KeyboardInterrupt):
        surface(network, BATCHES, directions, steps=5, file=part, facts=facts, on_point=stop_after(7))
    assert Surface.load(part).open == 18
    computed = []
    found = surface(network, BATCHES, directions, steps=5, file=part, facts=facts, on_point=lambda: computed.append(1))
    assert (len(computed), found.open) == (18, 0)
    assert part.read_bytes() == whole.read_bytes()


def test_an_error_leaves_the_network_as_it_was():
    network = BUILT["resnet"]
    before = state_of(network)
    with pytest.raises(RuntimeError):
        surface(network, [(torch.zeros(2, 5, 16, 16), torch.zeros(2, dtype=torch.long))], plane(network), steps=3)
    assert same_state(state_of(network), before)


def test_shares_of_several_ranks_merge_to_the_whole():
    network, batches, directions, _ = bowl()
    whole = surface(network, batches, directions, steps=5)
    shares = [surface(network, batches, directions, steps=5, share=(rank, 3)) for rank in range(3)]
    assert [share.open for share in shares] == [16, 17, 17]
    together = merged(shares)
    assert together.open == 0
    for metric, values in whole.values.items():
        assert np.array_equal(together.values[metric], values)


@pytest.mark.parametrize("stopped_after", [1, 4, 6])
def test_a_rank_that_was_stopped_goes_on_with_its_own_points(tmp_path, stopped_after):
    network, batches, directions, _ = bowl()

    def shared(rank, on_point=lambda: None):
        file = tmp_path / f"{rank}.npz"
        return surface(network, batches, directions, 4, share=(rank, 2), file=file, on_point=on_point)

    with pytest.raises(KeyboardInterrupt):
        shared(0, stop_after(stopped_after))
    shares = [shared(rank) for rank in (0, 1)]
    assert [share.open for share in shares] == [8, 8]
    assert merged(shares).open == 0
    done = []
    shared(1, lambda: done.append(1))
    assert done == [], "a rank that has finished has nothing left"


def test_two_processes_give_the_same_file_as_one(tmp_path):
    network, threads = BUILT["resnet"], torch.get_num_threads()
    torch.set_num_threads(1)  # as each of the two has
    try:
        for processes in (1, 2):
            file = tmp_path / f"{processes}.npz"
            surface(network, BATCHES, plane(network), steps=3, file=file, processes=processes)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_refinement_computes_less_and_stays_close(tmp_path):
    network, batches, directions, _ = bowl()
    whole = surface(network, batches, directions, steps=17)
    part = surface(network, batches, directions, steps=17, tolerance=0.05, file=tmp_path / "part.npz")
    assert part.open == 0
    same = part.state == COMPUTED
    assert 50 < int(same.sum()) < 80, "a looser tolerance takes fewer, a tighter one more"
    assert np.array_equal(part.values["train/loss"][same], whole.values["train/loss"][same])
    off = np.abs(part.values["train/loss"] / whole.values["train/loss"] - 1)[part.state == INTERPOLATED]
    assert off.max() < 0.05
    assert np.isnan(part.computed["train/loss"][~same]).all(), "shapes are measured on what was computed"
    assert (surface(network, batches, directions, steps=9, tolerance=1e-9).state == COMPUTED).all()


def test_refinement_goes_on_where_a_loss_is_no_number():
    """Lines say nothing of it: no error is small enough there, so that all points around it are computed."""
    found = Surface.blank([axis((-1.0, 1.0), 17)] * 2, ["loss"], {})
    found.state[::4, ::4] = COMPUTED
    found.values["loss"][::4, ::4] = 1.0
    points, level = new_points((17, 17), 2, 4), (8, 4, 2)
    assert unneeded(found, "loss", points, level, 0.1) == points, "flat as far as is known"
    found.values["loss"][4, 4] = np.nan
    needed = set(points) - set(unneeded(found, "loss", points, level, 0.1))
    assert needed == {index for index in points if max(abs(index[0] - 4), abs(index[1] - 4)) <= 2}


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "named"), [
    ({"steps": 1}, "an axis of 1 points"),
    ({"span": (1.0, -1.0)}, "not ascending"),
    ({"span": (0.0, float("inf"))}, "not ascending"),
    ({"batch_norm": "train"}, "batch_norm must be one of"),
    ({"precision": "fp16"}, "precision must be one of"),
    ({"tolerance": -1.0}, "tolerance -1"),
    ({"tolerance": 0.1, "share": (0, 2)}, "tolerance 0.1"),
    ({"tolerance": 0.1, "steps": 51}, r"give 2\^k \+ 1 steps, not 51"),
    ({"share": (2, 2)}, "share 2 of 2"),
    ({"processes": 0}, "0 processes"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments, named):
    network = BUILT["resnet"]
    with pytest.raises(ValueError, match=named):
        surface(network, BATCHES, plane(network), **{"steps": 3, **arguments})


def test_bad_directions_and_images_are_refused():
    network, other = BUILT["resnet"], BUILT["vgg"]
    with pytest.raises(ValueError, match="3 directions; a surface has one or two"):
        surface(network, BATCHES, [*plane(network), *plane(network)[:1]], steps=3)
    with pytest.raises(ValueError, match=r"a direction moves .* it is not there"):
        surface(network, BATCHES, plane(other), steps=3)
    with pytest.raises(ValueError, match="no images"):
        surface(network, [], plane(network), steps=3)


def test_a_file_of_other_weights_is_refused(tmp_path):
    network, other = make("resnet"), make("resnet")
    surface(network, BATCHES, plane(network), steps=3, file=tmp_path / "a.npz")
    with torch.no_grad():
        next(other.parameters()).add_(1e-3)
    with pytest.raises(ValueError, match=r"a\.npz holds a surface of other weights"):
        surface(other, BATCHES, plane(network), steps=3, file=tmp_path / "a.npz")
    with pytest.raises(ValueError, match="batch_norm = keep instead of batch"):
        surface(network, BATCHES, plane(network), steps=3, file=tmp_path / "a.npz", batch_norm="batch")
    with pytest.raises(ValueError, match="on other axes"):
        surface(network, BATCHES, plane(network), steps=5, file=tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"a\.npz is not a surface file or is damaged"):
        surface(network, BATCHES, plane(network), steps=3, file=tmp_path / "a.npz")


def test_batch_norm_with_more_to_it_is_not_folded():
    """Such as timm's, which holds an activation that folding would lose, or one without statistics."""

    class Active(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), Active(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    ).eval()  # fmt: skip
    exact, fold = (
        surface(network, BATCHES, [random_direction(network, 0)], steps=3, fold=how).values["train/loss"]
        for how in (False, True)
    )
    np.testing.assert_allclose(fold, exact, rtol=1e-5)


def test_a_loss_that_is_no_number_is_a_hole():
    network = BUILT["vgg"]
    direction = {name: part * 1e38 for name, part in random_direction(network, 0).items()}
    found = surface(network, BATCHES, [direction], steps=3)
    assert found.holes == 2
    assert found.state.tolist() == [COMPUTED] * 3
    assert np.isfinite(found.values["train/loss"][1])
    assert OPEN not in found.state
