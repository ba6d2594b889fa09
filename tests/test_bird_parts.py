"""The plans, the probe, the verdicts, the figures and the command line of `bird_parts`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ablations.harness.probing import Subject
from PIL import Image

import datamodules
from ablations.bird_parts import (
    ABLATION,
    BODY,
    CLAIMS,
    CNN,
    COUNTS,
    FOUR,
    HEAD,
    SHARP,
    TRAINED,
    TWO,
    UNTRAINED,
    apart,
    consistency,
    heads_and_bodies,
    looks_at,
    plan,
)
from ablations.harness.declare.ablation import BUDGETS, check
from ablations.harness.declare.precision import granted
from ablations.harness.launch import main
from ablations.harness.store.records import Record, Records, point
from ablations.harness.verdict import judge
from ablations.probes.transformers.poses import transformers
from datamodules.images import ImageData
from datamodules.made.made_data import MadeData
from datamodules.sources.birds import Parts
from datamodules.sources.pixels import Pixels
from modules import build, fitted, recipe_for
from modules.blocks.cost import cost
from modules.training.recipe import with_overrides
from modules.weights import save_weights

SEEDS = range(8)


def row(arm: str, seed: int, where: str, metric: str, value: float) -> Record:
    return Record("bird_parts", arm, seed, where, metric, float(value), "%", f"{arm}-{seed}")


def evidence(
    errors: tuple[float, ...] = (10, 6, 5, 8),
    first: tuple[float, float] = (80, 10),
    second: tuple[float, float] = (5, 70),
    before: tuple[float, float] = (30, 30),
) -> Records:
    """errors: of cnn, two, four, sharp, in %. first, second: at heads and at bodies, of two trained transformers."""
    rows = []
    for seed in SEEDS:
        for arm, value in zip((CNN, TWO, FOUR, SHARP), errors, strict=True):
            rows.append(row(arm, seed, "test", "test/top1_error", value + 0.01 * seed))
        for when, shares in ((TRAINED, (first, second)), (UNTRAINED, (before, before))):
            for number, (head, body) in enumerate(shares, start=1):
                where = point("window", when=when, transformer=number)
                rows.append(row(TWO, seed, where, f"looks/{HEAD}", head + 0.1 * seed))
                rows.append(row(TWO, seed, where, f"looks/{BODY}", body + 0.1 * seed))
    return Records(rows)


def verdicts(records: Records) -> dict[str, str]:
    found = judge(CLAIMS, records, list(SEEDS), "laptop", "invented")
    return {each["claim"]: each["verdict"] for each in found}


def test_every_claim_can_be_reproduced() -> None:
    assert verdicts(evidence()) == dict.fromkeys(("CU1a", "CU1b", "CU1c"), "reproduced")


@pytest.mark.parametrize(
    ("claim", "test", "records"),
    [
        ("CU1b", "apart", evidence(first=(45, 45), second=(45, 45))),
        ("CU1b", "apart", evidence(first=(90, 5), second=(90, 5), before=(2, 2))),
        ("CU1b", "learned", evidence(before=(90, 90))),
    ],
)
def test_every_test_alone_can_contradict_its_claim(claim: str, test: str, records: Records) -> None:
    found = {each["claim"]: each for each in judge(CLAIMS, records, list(SEEDS), "laptop", "invented")}
    assert found[claim]["verdict"] == "contradicted"
    outcomes = {each["name"]: each["outcome"] for each in found[claim]["tests"]}
    assert outcomes == {**dict.fromkeys(outcomes, "reproduced"), test: "contradicted"}


def test_each_of_two_transformers_has_a_part_of_its_own() -> None:
    assert apart(evidence(), TRAINED)[0] == 70
    assert apart(evidence(first=(10, 80), second=(70, 5)), TRAINED)[0] == 70, "the parts may be given out either way"


def test_a_window_looks_at_the_nearest_part_that_it_holds() -> None:
    windows = torch.tensor([[-1, -0.5, 0, 0.5], [-1, -0.5, 0, 0.5], [0, -0.5, 1, 0.5], [0, 0.5, 1, 1.5]]).double()
    centres = torch.tensor([[-0.5, 0.1], [-0.2, 0.2]]).double().expand(4, 2, 2)
    visible = torch.ones(4, 2, dtype=torch.bool)
    visible[1, 0] = False
    seen = looks_at(windows, centres, visible)
    assert seen.tolist() == [0, 1, -1, -1]
    assert consistency(seen, torch.tensor([0, 0, 1, 1])) == 25.0
    assert consistency(torch.tensor([0, 0, 1, -1]), torch.tensor([0, 0, 0, 1])) == 50.0


def test_heads_and_bodies_are_means_of_what_is_visible() -> None:
    places = torch.tensor([[[0.0, 0.2], [0.4, 0.6], [-0.5, -0.5], [0.9, 0.9]], [[0.0, 0.0]] * 4, [[2.0, 0.0]] * 4])
    visible = torch.tensor([[True, True, True, True], [False, True, False, True], [True] * 4])
    parts = Parts(("beak", "crown", "belly", "tail"), places, visible, torch.zeros(3, 4))
    centres, seen = heads_and_bodies(parts)
    assert torch.allclose(centres[0], torch.tensor([[0.2, 0.4], [-0.5, -0.5]], dtype=torch.float64))
    assert seen.tolist() == [[True, True], [True, False], [False, False]], "what was cut off is not seen"
    with pytest.raises(ValueError, match="no part of a body among beak; known are back"):
        heads_and_bodies(Parts(("beak",), places[:, :1], visible[:, :1], torch.zeros(3, 4)))


def subject(digits: ImageData, folder: Path) -> Subject:
    """Two transformers as they start; the truth is changed to one place for all heads and one for all bodies."""
    data = datamodules.make(digits, "two_parts", size=30)
    assert isinstance(data, MadeData)
    data.truth["test"]["boxes"] = torch.tensor([[-0.9, -1.0, -0.1, -0.2], [0.0, 0.2, 0.8, 1.0]]).expand(450, 2, 4)
    planned = plan("smoke", digits)
    arm = next(each for each in planned.arms if each.name == TWO)
    network = build(arm.network, data.num_classes, 1, **fitted(arm.network, arm.arguments, 30)).eval()
    start = folder / "start.safetensors"
    save_weights(network, start)
    return Subject(
        network, data, planned.settings, TWO, 0, torch.device("cpu"), snapshots={0: start}, folder=folder / "kept"
    )


def test_the_probe_finds_the_parts_that_windows_were_put_on(digits: ImageData, tmp_path: Path) -> None:
    asked = subject(digits, tmp_path)
    places = ([0.4, 0.6], [-0.5, -0.6])
    for place, transformer in zip(places, transformers(asked.network).values(), strict=True):
        with torch.no_grad():
            transformer.localisation.get_submodule("theta").get_parameter("bias").copy_(torch.tensor(place))
    rows = Records(row(TWO, 0, m.point, m.metric, m.value) for m in ABLATION.probe(asked))
    shares = {
        (when, number): [
            *rows.where(metric=f"looks/{HEAD}", when=when, transformer=number).values(),
            *rows.where(metric=f"looks/{BODY}", when=when, transformer=number).values(),
        ]
        for when in (UNTRAINED, TRAINED)
        for number in (1, 2)
    }
    assert shares[TRAINED, 1] == [0, 100]
    assert shares[TRAINED, 2] == [100, 0]
    assert shares[UNTRAINED, 1] == shares[UNTRAINED, 2] == [0, 0], "the tiles hold neither centre"
    assert apart(rows, TRAINED) == {0: 100.0}
    iou = {
        (when, number): [
            *rows.where(metric=f"iou/{HEAD}", when=when, transformer=number).values(),
            *rows.where(metric=f"iou/{BODY}", when=when, transformer=number).values(),
        ]
        for when in (UNTRAINED, TRAINED)
        for number in (1, 2)
    }
    # By hand: parts are 0.8 wide and windows 1, so that a part within a window has 0.64 / 1.
    assert iou[TRAINED, 1] == pytest.approx([0, 0.64], abs=1e-5)
    assert iou[TRAINED, 2] == pytest.approx([0.64, 0], abs=1e-5)
    common = 0.8 * 0.3
    assert iou[UNTRAINED, 1] == pytest.approx([common / (1.64 - common), 0], abs=1e-5)
    assert iou[UNTRAINED, 2] == pytest.approx([0, common / (1.64 - common)], abs=1e-5)
    assert rows.where(metric="consistency", when=TRAINED).values() == [100, 100]
    assert max(rows.where(metric="spread").values()) < 1e-6, "these windows stand still"
    with np.load(tmp_path / "kept" / "windows.npz", allow_pickle=False) as file:
        assert file["images"].shape == (12, 30, 30, 1)
        middles = (file[TRAINED][..., :2] + file[TRAINED][..., 2:]) / 2
        assert np.allclose(middles, np.array(places)[:, None], atol=1e-5)
        assert np.allclose(file[UNTRAINED][0], [-1, -0.5, 0, 0.5], atol=1e-5)


def test_networks_without_transformers_are_not_asked(digits: ImageData, tmp_path: Path) -> None:
    data = datamodules.make(digits, "two_parts", size=30)
    network = build("cnn", data.num_classes, 1, image_size=30, pool=2)
    asked = Subject(network, data, {"pictures": 12}, CNN, 0, torch.device("cpu"), folder=tmp_path / "kept")
    assert list(ABLATION.probe(asked)) == []
    assert not (tmp_path / "kept").exists()


def photographs(size: int) -> Any:
    """What a plan asks of CUB-200-2011 at `size` pixels."""
    test = Pixels(torch.zeros(4, 1, 1, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    return SimpleNamespace(name="birds", in_channels=3, image_size=size, test=test, identity={"num_train": 5994})


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("source", ["digits", "photographs"])
def test_plans_are_sound(budget: str, source: str, digits: ImageData) -> None:
    data: Any = digits if source == "digits" else photographs(224)
    planned = granted(plan(budget, data), bf16_is_fast=True)
    check(ABLATION, planned)
    assert [arm.name for arm in planned.arms] == [CNN, TWO, FOUR, SHARP]
    assert planned.seeds == (2 if budget == "smoke" else 7)
    for arm in planned.arms:
        recipe = with_overrides(recipe_for(arm.network), dict(arm.recipe))
        assert recipe.batch_size <= data.identity["num_train"]
        if budget == "paper":
            assert recipe.batch_size == (256 if source == "digits" else 128)
            steps = recipe.epochs * data.identity["num_train"] / recipe.batch_size
            assert steps == pytest.approx(150_000 if source == "digits" else 30_000, rel=0.002)
        arguments = fitted(arm.network, arm.arguments, arm.data.get("size", data.image_size))
        network = build(arm.network, 25, data.in_channels, **arguments)
        assert len(transformers(network)) == COUNTS.get(arm.name, 0)


@pytest.mark.parametrize(("budget", "size"), [("laptop", 30), ("short", 60)])
def test_the_control_costs_as_much_or_more(budget: str, size: int, digits: ImageData) -> None:
    arms = {arm.name: arm for arm in plan(budget, digits).arms}
    found = {}
    for name, arm in arms.items():
        assert arm.data["size"] == size
        found[name] = cost(build(arm.network, 25, 1, **fitted(arm.network, arm.arguments, size)), (1, size, size))
    dear = found[SHARP].multiply_adds
    assert found[CNN].multiply_adds < found[TWO].multiply_adds < dear
    assert found[FOUR].multiply_adds <= dear <= 1.15 * found[FOUR].multiply_adds
    assert max(c.parameters for c in found.values()) < 1.03 * min(c.parameters for c in found.values())


@pytest.mark.parametrize(
    ("budget", "size", "price"),
    [
        ("laptop", 224, "fewer multiply-adds than with transformers"),
        ("laptop", 448, "fewer multiply-adds than with transformers"),
        ("short", 224, "fewer multiply-adds than with transformers"),
        ("short", 448, "4 times the multiply-adds of reading one crop"),
    ],
)
def test_the_control_of_photographs_is_the_plain_network_and_says_its_cost(budget: str, size: int, price: str) -> None:
    arms = {arm.name: arm for arm in plan(budget, photographs(size)).arms}
    assert replace(arms[CNN], name=SHARP, note=arms[SHARP].note) == arms[SHARP]
    assert arms[SHARP].note.endswith(f"; {price}")

    def price_of(arm: str, pixels: int = size) -> int:
        network = build(arms[arm].network, 200, 3, **fitted(arms[arm].network, arms[arm].arguments, pixels))
        return cost(network, (3, pixels, pixels)).multiply_adds

    if price.startswith("4"):
        assert price_of(SHARP) == pytest.approx(4 * price_of(SHARP, 224), rel=0.01)
    else:
        assert price_of(SHARP) < price_of(TWO) < price_of(FOUR)


# -- the command line -------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        main(ABLATION, [*map(str, words), "--budget", "smoke", "--wandb", "disabled"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    return told


def write_birds(root: Path) -> Path:
    """Sixteen photographs of 36 pixels in two classes, half for testing, with three of the parts of CUB-200-2011."""
    home = root / "CUB_200_2011"
    lists: dict[str, list[str]] = {}
    for number in range(1, 17):
        name = f"00{1 + number % 2}.Bird"
        file = home / "images" / name / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (36, 36), (10 * number, 90, 200 * (number % 2))).save(file)
        lists.setdefault("images", []).append(f"{number} {name}/{file.name}")
        lists.setdefault("image_class_labels", []).append(f"{number} {1 + number % 2}")
        lists.setdefault("train_test_split", []).append(f"{number} {int(number > 8)}")
        lists.setdefault("bounding_boxes", []).append(f"{number} 4.0 4.0 20.0 16.0")
        places = [(9.0, 18.0, 1), (27.0, 18.0, number % 4 > 0), (30.0, 30.0, 1)]
        lists.setdefault("parts/part_locs", []).extend(
            f"{number} {part} {x} {y} {int(seen)}" for part, (x, y, seen) in enumerate(places, start=1)
        )
    lists["parts/parts"] = ["1 back", "2 left eye", "3 tail"]
    (home / "parts").mkdir()
    for name, lines in lists.items():
        (home / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_what_has_no_parts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], digits: ImageData) -> None:
    colour = SimpleNamespace(name="cifar10", in_channels=3, test=SimpleNamespace(labels=torch.zeros(4)))
    with pytest.raises(ValueError, match="cifar10: no parts are known in these images; allowed: single digits in grey"):
        plan("laptop", colour)  # type: ignore[arg-type]
    birds = write_birds(tmp_path / "small")
    words = ("--data", "birds", "--data-root", birds, "--image-size", 32, "--out", tmp_path / "runs")
    assert "--probe.parts is missing" in refused(capsys, *words)
    assert "nowhere" in refused(capsys, *words, "--probe.parts", tmp_path / "nowhere")
    (birds / "CUB_200_2011" / "train_test_split.txt").write_text(
        "".join(f"{number} {int(number > 7)}\n" for number in range(1, 17))
    )
    other = write_birds(tmp_path / "other")
    assert "parts of 8 test images, the data has 7" in refused(capsys, *words, "--probe.parts", other)
    told = refused(capsys, "--network", "resnet20", "--weights", "random", "--out", tmp_path / "runs")
    assert "takes no network from outside" in told
    told = refused(capsys, "--probe.pictures", 0, "--out", tmp_path / "runs")
    assert "--probe.pictures 0: give 1 or more" in told


def test_real_birds_are_asked_for_their_own_parts(tmp_path: Path) -> None:
    root = write_birds(tmp_path / "small")
    data = datamodules.load("birds", root, image_size=32, validation=0)
    planned = plan("smoke", data)
    arm = next(each for each in planned.arms if each.name == TWO)
    assert arm.arguments["output_size"] == 32
    network = build(arm.network, 2, 3, **fitted(arm.network, arm.arguments, 32)).eval()
    settings = {**planned.settings, "parts": str(root)}
    assert set(ABLATION.check(settings, None) or {}) == {"parts_digest"}
    asked = Subject(network, data, settings, TWO, 0, torch.device("cpu"), folder=tmp_path / "kept")
    rows = Records(row(TWO, 0, m.point, m.metric, m.value) for m in ABLATION.probe(asked))
    assert not rows.where(metric=f"iou/{HEAD}").values(), "there are no boxes of the parts of birds"
    assert rows.where(transformer=1, metric=f"looks/{BODY}").values() == [100], "every back is in the left tile"
    assert rows.where(transformer=2, metric=f"looks/{HEAD}").values() == [75], "a quarter of the eyes is hidden"


def test_figures_need_no_more_than_there_is(tmp_path: Path) -> None:
    assert ABLATION.figures(Records(), tmp_path) == []
    drawn = [figure.file for figure in ABLATION.figures(evidence(), tmp_path)]
    assert drawn == ["figures/errors.png", "figures/parts.png", "figures/windows.csv"]
    table = (tmp_path / "figures" / "windows.csv").read_text().splitlines()
    assert table[2].startswith("two transformers,1,trained,80.35,10.35,,")


def test_figures_name_seeds_that_diverged_and_the_overlap_with_parts(tmp_path: Path) -> None:
    where = point("window", when=TRAINED, transformer=1)
    overlaps = [row(TWO, seed, where, f"iou/{HEAD}", 0.5) for seed in SEEDS]
    lost = [row(arm, 8, "test", "test/top1_error", float("nan")) for arm in (TWO, SHARP)]
    whole = row(CNN, 8, "test", "test/top1_error", 10)
    records = Records([*evidence(), *overlaps, *lost, whole])
    captions = {figure.file: figure.caption for figure in ABLATION.figures(records, tmp_path)}
    assert "Left out, without a value: two seed 8; four seed 8; cnn_sharp seed 8." in captions["figures/errors.png"]
    assert "without a value: two seed 8; four." in captions["figures/parts.png"], "nothing is known of any four"
    assert "without a value: two seed 8; four." in captions["figures/windows.csv"]
    errors = ABLATION.figures(evidence(), tmp_path / "whole")[0]
    assert (errors.file, "without a value" in errors.caption) == ("figures/errors.png", False)
    table = (tmp_path / "figures" / "windows.csv").read_text().splitlines()
    assert ",IoU with the head,IoU with the body," in table[0]
    assert table[2] == "two transformers,1,trained,80.35,10.35,0.5,,,"
