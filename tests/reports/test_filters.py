"""The page of `reports/filters.py`: complete, self-contained, the same each time, honest about what it cannot do."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from page_reader import Page, assert_well_formed

from ablations.harness.command.command_line import WrongInput
from datamodules import load, make
from modules import Network, build
from modules.weights import save_weights
from reports.filters import main, parse, prepare
from reports.filters_page import sections as filter_sections

CIFAR = Path(__file__).parents[2] / "data" / "cifar10"


@pytest.fixture
def run_folder(tmp_path, digits):
    """The folder of a run of a small network that was not trained."""
    torch.manual_seed(0)
    arguments = {"depth": 8, "width": 4}
    folder = tmp_path / "resnet_cifar-digits-s0-00000000"
    folder.mkdir()
    save_weights(build("resnet_cifar", 10, 1, **arguments), folder / "weights.safetensors")
    identity = {"builder": "resnet_cifar", **arguments, "num_classes": 10, "in_channels": 1}
    data = {**digits.identity, "augment": asdict(digits.augment)}
    (folder / "config.json").write_text(json.dumps({"network": identity, "data": data, "seed": 0}))
    return folder


@pytest.fixture
def made(capsys):
    """Runs the command; gives the exit code, the page's text (or None) and what stood on stderr."""

    def make(*words):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return left.value.code, Path(out.rpartition("page: ")[2].strip()).read_text() if out else None, err

    return make


def test_the_page_of_a_run_is_whole(run_folder, made):
    code, page, err = made("--run", run_folder, "--images", 2, "--layers", "stem", "stage3_block1")
    assert (code, err) == (0, "")
    found = Page(run_folder / "filters" / "filters.html")
    assert_well_formed(found)
    pictures = found.all("img")
    assert len(pictures) > 100
    assert all(picture["alt"] and picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    assert len(list((run_folder / "filters" / "images").glob("*.png"))) == len(pictures)
    assert len(page) < 8e6
    for words in ("Kernels of the first layer", "Layer stem", "Strongest patches", "guided backprop.", "Grad-CAM",
                  "occlusion", "integrated gradients", "random weights", "Completeness", "How alike"):  # fmt: skip
        assert words in page
    gaps = [float(gap) for gap in re.findall(r"<td>([0-9.]+) %</td>", page)]
    assert len(gaps) == 4
    assert max(gaps) <= 1.0


def test_the_same_seed_gives_the_same_bytes(run_folder, made, tmp_path):
    words = ("--run", run_folder, "--images", 1, "--layers", "stem", "--channels", 0, 2, "--out", tmp_path / "page")
    _, first, _ = made(*words)
    assert made(*words)[1] == first
    assert made(*words, "--seed", 1)[1] != first
    assert "channel 2" in first
    assert "channel 1:" not in first


def test_regions_of_spatial_transformers_are_shown(made, tmp_path):
    code, page, _ = made(
        "--network", "st_cnn", "--weights", "random", "--images", 2, "--layers", "conv1", "--channels", 0,
        "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "Where the spatial transformers look" in page
    assert len(re.findall(r'alt="this network, stem.transformer.branch, image [12]: region"', page)) == 2


def test_the_line_is_drawn_around_what_is_sampled():
    network = build("st_cnn", in_channels=1, image_size=16, output_size=8).eval()
    theta = network.stem.get_submodule("transformer.branch.localisation.theta")
    with torch.no_grad():
        theta.bias.copy_(torch.tensor([0.5, 0, -0.5, 0, 0.5, 0.5]))  # the lower left quarter
    images = torch.rand(2, 1, 16, 16)
    (polygon, seen), _ = filter_sections.sampled(network, "stem.transformer.branch", images)
    assert torch.allclose(seen, images[0, :, 8:, :8], atol=1e-5)
    assert [min(x for x, _ in polygon), max(x for x, _ in polygon)] == pytest.approx([0.0, 0.5], abs=1e-5)
    assert [min(y for _, y in polygon), max(y for _, y in polygon)] == pytest.approx([0.5, 1.0], abs=1e-5)


def test_a_network_without_maps_says_so(made, tmp_path):
    code, page, _ = made("--network", "mlp10", "--weights", "random", "--images", 1, "--out", tmp_path)
    assert code == 0
    assert "the network has no convolution" in page
    assert page.count("no layer of this network gives maps") == 3
    assert "integrated gradients" in page


@pytest.mark.parametrize(("words", "message"), [
    ((), "give either --run FOLDER, or --network NAME"),
    (("--network", "lenet5"), "--network and --weights go together"),
    (("--network", "lenet5", "--weights", "random", "--images", 0), "--images 0: give 1 or more"),
    (("--network", "lenet5", "--weights", "random", "--layers", "conv9"), "layers with maps are"),
    (("--network", "lenet5", "--weights", "random", "--channels", 99), "has channels 0 to"),
    (("--network", "lenet5", "--weights", "missing.safetensors"), "no weights file missing.safetensors"),
    (("--network", "lenet5", "--weights", "random", "--data", "cifar10", "--data-root", "nowhere"), "nowhere"),
    (("--network", "unet", "--weights", "random"), "a label for every pixel"),
    (("--network", "resnet50", "--weights", "random", "--image", 3), "unknown flag --image"),
    (("--run", "nowhere"), "nowhere is no folder of a run"),
])  # fmt: skip
def test_a_wrong_command_is_told_in_one_line(made, tmp_path, words, message):
    code, page, err = made(*words, *(("--out", tmp_path / "page") if words else ()))
    assert (code, page) == (2, None)
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "page").exists(), "refused before any work"


def test_a_model_that_asserts_is_refused_in_words(tmp_path, digits):
    class Asserting(torch.nn.Module):
        def forward(self, x):
            torch._assert(x.shape[-1] > 64, "")  # as models of timm do

    network = Network(torch.nn.Identity(), {}, Asserting())
    request = parse(["--network", "mine", "--weights", "random", "--out", str(tmp_path)])
    with pytest.raises(WrongInput, match=r"mine does not take images of \(1, 16, 16\): AssertionError$"):
        prepare(request, "mine", network, digits)


def test_a_run_is_not_shown_other_data(run_folder, made):
    config = json.loads((run_folder / "config.json").read_text())
    config["data"]["digest"] = "other"
    (run_folder / "config.json").write_text(json.dumps(config))
    code, _, err = made("--run", run_folder)
    assert code == 2
    assert "was trained on digits, and digits in data is not that" in err


def test_data_made_on_the_fly_cannot_be_shown(run_folder, made, digits):
    config = json.loads((run_folder / "config.json").read_text())
    config["data"] = make(digits, "distorted_digits", kind="RTS", size=24).identity
    (run_folder / "config.json").write_text(json.dumps(config))
    for words in ((), ("--data", "digits")):
        code, page, err = made("--run", run_folder, *words)
        assert (code, page) == (2, None)
        assert f"was trained on {config['data']['name']}, which is made on the fly" in err
        assert "the ablation's report has pictures" in err
        assert err.count("\n") == 1


def test_a_damaged_run_is_named(run_folder, made):
    (run_folder / "config.json").write_text('{"network": {}}')
    code, _, err = made("--run", run_folder)
    assert code == 2
    assert "config.json is damaged" in err


def test_the_request_keeps_what_was_asked_for():
    request = parse(["--network", "lenet5", "--weights", "random", "--channels", "1", "2", "--seed", "7"])
    assert (request.channels, request.seed, request.images, request.layers) == ([1, 2], 7, 6, [])


@pytest.mark.skipif(not CIFAR.exists(), reason="the CIFAR-10 files are not here")
def test_colour_and_streams_of_alexnet(made, tmp_path):
    assert load("cifar10", CIFAR).in_channels == 3
    code, page, _ = made(
        "--network", "alexnet_cifar", "--weights", "random", "--data", "cifar10", "--data-root", CIFAR,
        "--images", 1, "--layers", "conv1", "--channels", 0, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "colour saturation 0." in page
    assert "Gabor fit" in page


def test_how_a_network_from_outside_is_shown_images(tmp_path, monkeypatch, capsys):
    """The page says with which numbers, and warns of weights that answer no better than guessing."""
    monkeypatch.chdir(tmp_path)
    save_weights(build("resnet20", 10, 1), tmp_path / "mine.safetensors")
    words = ["--network", "resnet20", "--weights", "mine.safetensors", "--mean", "half", "--images", "2"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--layers", "stem", "--channels", "0", "--out", "page"])
    told, page = capsys.readouterr().out, Path("page/filters.html").read_text()
    for where in (told, page):
        assert "Images normalised with mean 0.5, std 0.5 (--mean half)." in where
        assert "Warning: The intact network errs on" in where
