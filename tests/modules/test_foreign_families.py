"""Models of other families than ResNets, adopted by what they do: their logits, blocks, routes and weights."""

from __future__ import annotations

import copy
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from ablations.probes.lesions import lesions
from modules import Network, removed, reordered, routed
from modules.blocks.network import evaluating
from modules.foreign.adoption import adopt, build_foreign

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
VIT = {"img_size": 64, "depth": 2}
DENSE = {"block_config": (2, 3), "growth_rate": 8}

# timm's name, its arguments, how many blocks are merged in which way, the first and the last block
FAMILIES = {
    "vision_transformer": ("vit_tiny_patch16_224", VIT, {"add": 4}, "blocks_0_attn", "blocks_1_mlp"),
    "mlp_mixer": (
        "mixer_s32_224", {"img_size": 64}, {"add": 16}, "blocks_0_mlp_tokens", "blocks_7_mlp_channels",
    ),
    "convnext": ("test_convnext", {}, {"add": 9}, "stages_0_blocks_0", "stages_3_blocks_1"),
    "densenet": (
        "densenet121", DENSE, {"concat": 5}, "features_denseblock1_denselayer1", "features_denseblock2_denselayer3",
    ),
    # 3 of its units change the shape and have no shortcut of their own
    "mobilenetv3": ("mobilenetv3_small_050", {}, {"add": 7, "replace": 3}, "blocks_1_0", "blocks_4_2"),
    "regnet": ("regnetx_002", {}, {"add": 13}, "s1_b1", "s4_b7"),
    # the sizes of the maps cross from the patches to the blocks
    "pvt_v2": (
        "pvt_v2_b0", {"depths": (1, 1, 1, 1)}, {"add": 8}, "stages_0_blocks_0_attn", "stages_3_blocks_0_mlp",
    ),
    # paths side by side, whose module is a block
    "vovnet": ("ese_vovnet19b_slim_dw", {}, {"replace": 4}, "stages_0_blocks_0", "stages_3_blocks_0"),
    # nothing but a sequence that is repeated
    "lcnet": ("lcnet_035", {}, {"replace": 13}, "blocks_0_0", "blocks_5_1"),
}  # fmt: skip

# of tests/benchmarks/foreign_families.py, 0.2 s each
QUICK = ("cspnext", "dla", "efficientnet", "mambaout", "nfnet", "starnet")


def made(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=11, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and the scales of branches, which may begin at 0
                parameter.uniform_(0.5, 1.5)
            elif not parameter.any():  # a last layer may, too
                parameter.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Network]:
    name, arguments, *_ = FAMILIES[request.param]
    model = made(name, **arguments)
    return request.param, model, adopt(model, IMAGES)


@torch.no_grad()
def run(network: nn.Module, images: Tensor = IMAGES) -> Tensor:
    found: Tensor = network(images)
    return found


def test_blocks_and_their_names(pair: tuple[str, nn.Module, Network]) -> None:
    family, _, network = pair
    _, _, merges, first, last = FAMILIES[family]
    names = list(network.blocks)
    assert Counter(block.merge for _, block in network.named_blocks()) == merges
    assert (names[0], names[-1]) == (first, last)


def test_same_logits_for_other_images(pair: tuple[str, nn.Module, Network]) -> None:
    family, model, network = pair
    fixed = "img_size" in FAMILIES[family][1]
    for shape in ((2, 3, 64, 64), (1, 3, 64, 64), (5, 3, 64, 64), *(() if fixed else ((3, 3, 96, 128),))):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        assert torch.equal(run(network, images), run(model, images)), shape


def test_weights_are_the_models_own(pair: tuple[str, nn.Module, Network]) -> None:
    family, model, network = pair
    fresh = timm.create_model(FAMILIES[family][0], num_classes=11, **FAMILIES[family][1])
    assert list(model.state_dict()) == list(fresh.state_dict())
    assert {id(p) for p in network.parameters()} == {id(p) for p in model.parameters()}
    ours, theirs = network.state_dict(), model.state_dict()
    assert {t.data_ptr() for t in ours.values()} == {t.data_ptr() for t in theirs.values()}


def test_every_block_can_be_deleted_on_its_own_and_with_all(pair: tuple[str, nn.Module, Network]) -> None:
    _, _, network = pair
    logits = run(network)
    for name in network.blocks:
        with removed(network, [name]):
            found = run(network)
        assert found.shape == logits.shape, name
        assert not torch.equal(found, logits), name
    with removed(network, network.blocks):
        assert run(network).shape == logits.shape
    assert torch.equal(run(network), logits)


@torch.no_grad()
def test_lesions_share_work_and_answer_as_full_passes_do(pair: tuple[str, nn.Module, Network]) -> None:
    _, _, network = pair
    chains = [lesions.chain(network, {name: "shortcut"}) for name in network.blocks]
    found = dict(lesions.logits_of_chains(network, chains, IMAGES))
    for index, name in enumerate(network.blocks):
        with removed(network, [name]):
            assert torch.equal(found[index], run(network)), name


def test_copies_answer_alike(pair: tuple[str, nn.Module, Network]) -> None:
    """A probe copies a network, and hands it to other processes."""
    _, model, network = pair
    packed = io.BytesIO()
    torch.save(network, packed)
    packed.seek(0)
    for copied in (copy.deepcopy(network), torch.load(packed, weights_only=False)):
        assert torch.equal(run(copied), run(model))
        assert not {id(p) for p in copied.parameters()} & {id(p) for p in model.parameters()}


def test_training_draws_alike() -> None:
    """With every kind of dropping; also where the forward itself asks whether it trains."""
    for name, arguments in (
        ("vit_tiny_patch16_224", {**VIT, "drop_path_rate": 0.3, "drop_rate": 0.2, "proj_drop_rate": 0.2}),
        ("densenet121", {**DENSE, "drop_rate": 0.2}),
        ("resnet10t", {"drop_rate": 0.5}),
    ):
        model = made(name, **arguments)
        network = adopt(model, IMAGES)
        buffers = {key: value.clone() for key, value in model.named_buffers()}
        found = []
        for part in (model, network):
            model.load_state_dict(buffers, strict=False)
            torch.manual_seed(2)
            found.append(part.train()(IMAGES).detach())
            part.eval()
        torch.testing.assert_close(*found)
        assert not torch.equal(found[1], run(network)), name


# Surgery by hand, in the original model.


def test_deletion_passes_the_input_on() -> None:
    for name, arguments, path, blocks in (
        ("test_convnext", {}, "stages.1.blocks.1", ["stages_1_blocks_1"]),
        ("vit_tiny_patch16_224", VIT, "blocks.1", ["blocks_1_attn", "blocks_1_mlp"]),
        ("mobilenetv3_small_050", {}, "blocks.1.1", ["blocks_1_1"]),
        ("lcnet_035", {}, "blocks.4.1", ["blocks_4_1"]),
    ):
        model = made(name, **arguments)
        network = adopt(model, IMAGES)
        with removed(network, blocks):
            found = run(network)
        parent, _, last = path.rpartition(".")
        model.get_submodule(parent)._modules[last] = nn.Identity()
        assert torch.equal(found, run(model)), name


def test_deletion_in_a_densenet_leaves_zeros() -> None:
    model = made("densenet121", **DENSE)
    network = adopt(model, IMAGES)
    with removed(network, ["features_denseblock2_denselayer2"]):
        found = run(network)
    layer = model.get_submodule("features.denseblock2.denselayer2")
    layer.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    assert torch.equal(found, run(model))


def test_deletion_of_a_shape_changing_unit_subsamples_and_pads() -> None:
    model = made("mobilenetv3_small_050")
    network = adopt(model, IMAGES)
    block = network.block("blocks_1_0")
    assert block.changes_shape
    x = torch.randn(1, 8, 16, 16)
    y = block(x, "shortcut")
    assert y.shape == (1, 16, 8, 8)
    assert torch.equal(y[:, :8], x[:, :, ::2, ::2])
    assert not y[:, 8:].any()


class WithoutFirstShortcut(nn.Module):
    """A block of a vision transformer whose attention does not add its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, **_: object) -> Tensor:
        block = self.block
        x = block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        y: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return y


def test_the_branch_alone() -> None:
    model = made("vit_tiny_patch16_224", **VIT)
    network = adopt(model, IMAGES)
    with routed(network, {"blocks_0_attn": "branch"}):
        found = run(network)
    model.get_submodule("blocks")._modules["0"] = WithoutFirstShortcut(model.get_submodule("blocks.0"))
    assert torch.equal(found, run(model))


def test_blocks_change_places() -> None:
    model = made("vit_tiny_patch16_224", **VIT)
    network = adopt(model, IMAGES)
    first, second = list(network.blocks)[:2], list(network.blocks)[2:]
    with reordered(network, [*second, *first]):
        found = run(network)
    blocks = model.get_submodule("blocks")._modules
    blocks["0"], blocks["1"] = blocks["1"], blocks["0"]
    assert torch.equal(found, run(model))


def test_sizes_are_those_of_the_images_seen_last() -> None:
    network = adopt(made("pvt_v2_b0", depths=(1, 1, 1, 1)), IMAGES)
    fresh = adopt(made("pvt_v2_b0", depths=(1, 1, 1, 1)), IMAGES)
    larger = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(4))
    assert torch.equal(run(network, larger), run(fresh, larger))
    assert torch.equal(run(network, IMAGES), run(fresh, IMAGES))


def test_weights_files_have_timms_names(tmp_path: Path) -> None:
    model = made("vit_tiny_patch16_224", **VIT)
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    network = build_foreign("timm:vit_tiny_patch16_224", 11, weights=tmp_path / "vit.pth", **VIT).eval()
    assert torch.equal(run(network), run(model))


# What is refused.


def test_the_table_of_families_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the quickest that are not tested above; the program itself goes through all of them."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    table = importlib.import_module("foreign_families")
    if timm.__version__ != table.TIMM:
        pytest.skip(f"the table is of timm {table.TIMM}, this is {timm.__version__}")
    expected = json.loads(table.EXPECTED.read_text())
    assert sum(isinstance(blocks, int) for blocks in expected.values()) >= table.TARGET
    models = table.models()
    rows = [table.row(family, models[family]) for family in QUICK]
    assert table.moved(rows, expected) == []
    other = {**expected, "dla": "its forward", "nfnet": 3, "starnet": "no chain"}
    told = ["dla: its forward -> no chain of units", "nfnet: 3 -> 4", "starnet: no chain -> 6"]
    assert [line.partition(": 4 of")[0] for line in sorted(table.moved(rows, other))] == told


class Deciding(nn.Module):
    """Its forward looks at the values."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else x


class Pair(nn.Module):
    """It gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return y, y + 1


class Drawing(nn.Module):
    """Its forward draws random numbers, so that no two agree."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.body(x), 0.5, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made("hrnet_w18_small"), "HighResolutionNet cannot be divided into blocks: .*4 of its .* layers"),
        (lambda: made("dla46x_c"), "DLA cannot be divided into blocks: .* layers"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), "no chain of units: 0 of its 1 layers"),
        (Deciding, "Deciding cannot be divided into blocks: its forward cannot be traced"),
        (Pair, "it gives more than one tensor"),
        (Drawing, "it gives other logits"),
    ],
)
def test_refused_in_one_line(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        adopt(make(), IMAGES)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_last_layer_of_zeros_hides_nothing() -> None:
    drawing = Drawing()
    model = nn.Sequential(drawing, nn.Flatten(), nn.Linear(3 * 64 * 64, 5))
    with torch.no_grad():
        model[2].weight.zero_()
    with pytest.raises(ValueError, match="it gives other logits"):
        adopt(model, IMAGES)
    assert not model[2].weight.any()


def test_a_network_whose_training_differs_can_be_evaluated_only() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))

        def forward(self, x: Tensor) -> object:
            y = self.body(x)
            return (y, y.mean()) if self.training else y

    network = adopt(Auxiliary(), IMAGES)
    with evaluating(network):
        run(network)
    with pytest.raises(RuntimeError, match="can only be evaluated"):
        network.train()(IMAGES)
