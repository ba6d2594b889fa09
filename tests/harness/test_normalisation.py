"""`--mean` and `--std`: what their words mean, and that everything else is refused in one line."""

from pathlib import Path

import pytest

from ablations.harness.command.command_line import WrongInput, parse
from ablations.harness.foreign.normalisation import IMAGENET, as_trained, asked
from ablations.remove_layers import ABLATION

NETWORK = ["--network", "resnet20", "--weights", "random"]


@pytest.mark.parametrize(("words", "mean", "std"), [
    ("--mean imagenet", *IMAGENET),
    ("--mean half", (0.5,), (0.5,)),
    ("--mean none", (0.0,), (1.0,)),
    ("--mean 0.1 0.2 0.3 --std 0.4 0.5 0.6", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    ("--mean 0.1,0.2,0.3 --std 0.4", (0.1, 0.2, 0.3), (0.4,)),
    ("--mean imagenet --std 0.25", IMAGENET[0], (0.25,)),
    ("--mean 0.5 --std none", (0.5,), (1.0,)),
    ("--mean=0 --std=1e-3", (0.0,), (0.001,)),
])  # fmt: skip
def test_numbers_and_words(words: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    found = parse(ABLATION, [*NETWORK, *words.split()]).normalisation
    assert (found.mean, found.std) == (mean, std)
    assert found.source == words.replace("=", " ")


@pytest.mark.parametrize(
    ("text", "mean"), [("mean: [0.5, 0.4, 0]\nstd: [1, 0.5, 2]", (0.5, 0.4, 0.0)), ("mean: [half]", (0.5,))]
)
def test_a_file_of_options_holds_numbers(tmp_path: Path, text: str, mean: tuple[float, ...]) -> None:
    (tmp_path / "options.yaml").write_text(text)
    found = parse(ABLATION, [*NETWORK, "--config", str(tmp_path / "options.yaml")]).normalisation
    assert found.mean == mean


def test_without_the_flags_nothing_is_asked() -> None:
    assert parse(ABLATION, NETWORK).normalisation is None


@pytest.mark.parametrize(("words", "says"), [
    ("--mean 0.5", "--mean 0.5 goes with --std"),
    ("--std 0.5", "--std goes with --mean"),
    ("--mean imagenet half", "--mean imagenet: give numbers from 0 to 1"),
    ("--mean imagnet", "--mean imagnet: give numbers from 0 to 1, as pixels are, or one of imagenet, half, none"),
    ("--mean imagenett --std 1", "--mean imagenett: give numbers from 0 to 1, as pixels are, or one of imagenet, half"),
    ("--mean 123.7 116.3 103.5 --std 58 57 57", "--mean 123.7: give numbers from 0 to 1"),
    ("--mean nan --std 1", "--mean nan: give numbers"),
    ("--mean 0.5 --std 0", "--std 0: give numbers above 0"),
    ("--mean 0.5 --std -1", "--std"),
    ("--mean 0.5 --std inf", "--std inf: give numbers"),
    ("--mean 0.5 --std 1e-50", "--std 1e-50: give numbers"),
    ("--mean , --std 1", "--mean is empty"),
    ("--mean", "--mean"),
])  # fmt: skip
def test_what_no_pixels_can_have_is_refused(words: str, says: str) -> None:
    with pytest.raises(WrongInput) as caught:
        parse(ABLATION, [*NETWORK, *words.split()])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trained_networks_have_statistics_of_their_own() -> None:
    with pytest.raises(WrongInput, match="--mean and --std go with --network"):
        parse(ABLATION, ["--mean", "imagenet"])


def test_a_number_for_every_channel_or_one_for_all() -> None:
    found = asked(["half"], [])
    assert found.for_channels(3).mean == (0.5, 0.5, 0.5)
    assert found.for_channels(1).std == (0.5,)
    found = asked(["imagenet"], [])
    with pytest.raises(ValueError, match=r"--mean has 3 numbers \(--mean imagenet\), and the images have 1 channel"):
        found.for_channels(1)


def test_libraries_say_how_they_train() -> None:
    vit, resnet = as_trained("timm:vit_tiny_patch16_224"), as_trained("torchvision:resnet18")
    assert vit.mean == (0.5, 0.5, 0.5)
    assert "timm's own for vit_tiny_patch16_224" in vit.source
    assert (resnet.mean, resnet.std) == IMAGENET
    assert as_trained("resnet20") is None
