"""Loss surfaces: exact where a formula is known, the network untouched, stopped and gone on with, shared."""

import numpy as np
import pytest
import torch
from small_networks import BATCHES, BUILT, make, same_state, state_of
from torch import nn

from ablations.probes.landscape.directions import between, random_direction
from ablations.probes.landscape.surface import surface
from ablations.probes.landscape.surface_file import COMPUTED, INTERPOLATED, OPEN, Surface, merged


def plane(network, seed=0):
    return [random_direction(network, seed), random_direction(network, seed + 1)]


def plain(network, batches=BATCHES):
    """The loss in one line, by torch alone."""
    with torch.no_grad():
        each = [nn.functional.cross_entropy(network(x).float(), y, reduction="none").double() for x, y in batches]
    return float(torch.cat(each).mean())


def moved(network, directions, coordinates):
    there = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for direction, coordinate in zip(directions, coordinates, strict=True):
        for name, part in direction.items():
            there[name] += coordinate * part
    return there


def test_the_centre_is_the_networks_own_loss_to_the_last_bit(network):
    found = surface(network, BATCHES, plane(network), steps=3)
    assert found.centre == (1, 1)
    assert found.values["train/loss"][1, 1] == plain(network)
    wrong = sum(int((network(x).argmax(1) != y).sum()) for x, y in BATCHES)
    assert found.values["train/error"][1, 1] == 100 * wrong / 12


def test_every_point_is_the_network_with_moved_weights(network):
    directions = plane(network)
    found = surface(network, {"train": BATCHES, "test": BATCHES[:1]}, directions, steps=3, span=(-0.5, 1.0))
    before = state_of(network)
    network.load_state_dict(moved(network, directions, (1.0, -0.5)))
    expected = plain(network), plain(network, BATCHES[:1])
    network.load_state_dict(before[0])
    assert found.values["train/loss"][2, 0] == pytest.approx(expected[0], rel=1e-6)
    assert found.values["test/loss"][2, 0] == pytest.approx(expected[1], rel=1e-6)


def test_a_quadratic_models_surface_is_the_closed_form():
    class Quadratic(nn.Module):
        """Logits (z, 0) with z = log(exp(w'Aw / 2 + w'b) - 1), so that cross entropy with label 1 is the quadratic."""

        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1, 4, dtype=torch.double))

        def forward(self, x):
            value = 0.5 * (self.w @ A @ self.w.T) + self.w @ B + 2.0
            return torch.cat([torch.log(torch.expm1(value)), torch.zeros_like(value)], 1).expand(len(x), 2)

    draws = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, dtype=torch.double, generator=draws)
    A, B = root @ root.T, 0.1 * torch.randn(4, 1, dtype=torch.double, generator=draws)
    directions = [{"w": torch.randn(1, 4, dtype=torch.double, generator=draws)} for _ in range(2)]
    batches = [(torch.zeros(3, 1), torch.ones(3, dtype=torch.long))]
    found = surface(Quadratic(), batches, directions, steps=5)
    for i, alpha in enumerate(found.axes[0]):
        for j, beta in enumerate(found.axes[1]):
            w = alpha * directions[0]["w"] + beta * directions[1]["w"]
            exact = float(0.5 * w @ A @ w.T + w @ B + 2.0)
            assert found.values["train/loss"][i, j] == pytest.approx(exact, rel=1e-5)  # logits become fp32
    assert found.values["train/loss_standard_error"][0, 0] == pytest.approx(0.0, abs=1e-6)


def test_the_standard_error_is_that_of_the_mean(network):
    found = surface(network, BATCHES, plane(network)[:1], steps=3).values["train/loss_standard_error"]
    with torch.no_grad():
        each = torch.cat([nn.functional.cross_entropy(network(x), y, reduction="none") for x, y in BATCHES])
    assert found[1] == pytest.approx(float(each.double().std()) / 12**0.5, rel=1e-6)


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
    copy = make("resnet")
    for norm in (m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.train()
    assert found["batch"][1] == pytest.approx(plain(copy), rel=1e-6)
    copy = make("resnet")
    for norm in (m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
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
    raw = [
        surface(each, BATCHES, [random_direction(each, 0, "none")], steps=3, batch_norm="batch").values["train/loss"]
        for each in (network, scaled)
    ]
    assert abs(raw[0][0] - raw[1][0]) > 0.01 * raw[0][0]


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


def test_stop_and_resume_give_the_identical_file(network, tmp_path):
    directions = plane(network)
    surface(network, BATCHES, directions, steps=5, file=tmp_path / "whole.npz", facts={"direction_seeds": [0, 1]})
    part = tmp_path / "part.npz"
    with pytest.raises(KeyboardInterrupt):
        surface(network, BATCHES, directions, steps=5, file=part, facts={"direction_seeds": [0, 1]},
                on_point=stop_after(7))  # fmt: skip
    assert Surface.load(part).open == 18
    computed = []
    found = surface(network, BATCHES, directions, steps=5, file=part, facts={"direction_seeds": [0, 1]},
                    on_point=lambda: computed.append(1))  # fmt: skip
    assert len(computed) == 18
    assert found.open == 0
    assert part.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_an_error_leaves_the_network_as_it_was():
    network = BUILT["resnet"]
    before = state_of(network)
    with pytest.raises(RuntimeError):
        surface(network, [(torch.zeros(2, 5, 16, 16), torch.zeros(2, dtype=torch.long))], plane(network), steps=3)
    assert same_state(state_of(network), before)


def test_the_same_seed_gives_the_same_surface(network):
    first, again = (surface(network, BATCHES, plane(network, 4), steps=3).values["train/loss"] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, surface(network, BATCHES, plane(network, 9), steps=3).values["train/loss"])


def test_shares_of_several_ranks_merge_to_the_whole(network):
    directions = plane(network)
    whole = surface(network, BATCHES, directions, steps=5)
    shares = [surface(network, BATCHES, directions, steps=5, share=(rank, 3)) for rank in range(3)]
    assert [share.open for share in shares] == [16, 17, 17]
    together = merged(shares)
    assert together.open == 0
    for metric, values in whole.values.items():
        assert np.array_equal(together.values[metric], values)


@pytest.mark.parametrize("stopped_after", [1, 4, 6])
def test_a_rank_that_was_stopped_goes_on_with_its_own_points(tmp_path, stopped_after):
    network = BUILT["vgg"]
    directions = plane(network)
    with pytest.raises(KeyboardInterrupt):
        surface(network, BATCHES, directions, steps=4, share=(0, 2), file=tmp_path / "0.npz",
                on_point=stop_after(stopped_after))  # fmt: skip
    shares = [
        surface(network, BATCHES, directions, steps=4, share=(rank, 2), file=tmp_path / f"{rank}.npz")
        for rank in (0, 1)
    ]
    assert [share.open for share in shares] == [8, 8]
    assert merged(shares).open == 0
    done = []
    surface(
        network, BATCHES, directions, steps=4, share=(1, 2), file=tmp_path / "1.npz", on_point=lambda: done.append(1)
    )
    assert done == [], "a rank that has finished has nothing left"


def test_two_processes_give_the_same_file_as_one(tmp_path):
    network = BUILT["resnet"]
    with torch.random.fork_rng():
        files = [tmp_path / f"{processes}.npz" for processes in (1, 2)]
        for processes, file in enumerate(files, start=1):
            surface(network, BATCHES, plane(network), steps=3, file=file, processes=processes)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_refinement_computes_less_and_stays_close(tmp_path):
    network = BUILT["resnet"]
    directions = plane(network)
    whole = surface(network, BATCHES, directions, steps=17, span=(-0.25, 0.25))
    part = surface(
        network, BATCHES, directions, steps=17, span=(-0.25, 0.25), tolerance=0.05, file=tmp_path / "part.npz"
    )
    assert part.open == 0
    assert 25 <= int((part.state == COMPUTED).sum()) < 200
    same = part.state == COMPUTED
    assert np.array_equal(part.values["train/loss"][same], whole.values["train/loss"][same])
    off = np.abs(part.values["train/loss"] / whole.values["train/loss"] - 1)[part.state == INTERPOLATED]
    assert off.max() < 0.05
    assert np.isnan(part.computed["train/loss"][~same]).all(), "shapes are measured on what was computed"
    assert (surface(network, BATCHES, directions, steps=9, tolerance=1e-9).state == COMPUTED).all()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
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
    ],
)
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
    """timm's batch norm holds an activation, which folding would lose."""
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    ).eval()  # fmt: skip
    directions = [random_direction(network, 0)]
    exact, fold = (
        surface(network, BATCHES, directions, steps=3, fold=how).values["train/loss"] for how in (False, True)
    )
    np.testing.assert_allclose(fold, exact, rtol=1e-5)


def test_a_network_in_double_precision_is_computed_in_it():
    network = make("vgg").double()
    batches = [(images.double(), labels) for images, labels in BATCHES]
    found = surface(network, batches, [random_direction(network, 0)], steps=3)
    with torch.no_grad():
        each = [nn.functional.cross_entropy(network(x), y, reduction="none") for x, y in batches]
    assert found.values["train/loss"][1] == float(torch.cat(each).mean())


def test_a_loss_that_is_no_number_is_a_hole():
    network = BUILT["vgg"]
    direction = {name: part * 1e38 for name, part in random_direction(network, 0).items()}
    found = surface(network, BATCHES, [direction], steps=3)
    assert found.holes == 2
    assert found.state.tolist() == [COMPUTED] * 3
    assert np.isfinite(found.values["train/loss"][1])
    assert OPEN not in found.state
