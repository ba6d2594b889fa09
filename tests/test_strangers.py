"""Networks that the suite did not train, from timm or a file, through the command line."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from written_files import write_folder

from ablations.activation_order import ABLATION as activation_order
from ablations.harness.command.command_line import Options
from ablations.harness.foreign import network as external
from ablations.harness.foreign.normalisation import IMAGENET, Normalisation
from ablations.harness.store.records import read_csv, read_records
from modules import build
from modules.weights import save_weights
from reports.pages import evidence

FILES = {"records.csv", "verdicts.json", "ablation.json", "report.html", "figures", "probes"}


def probed(command, out, *words, **ablation):
    """Probes a network from outside and checks its files; gives the folder last written and what was said."""
    code, told, err = command(*words, "--budget", "smoke", "--trainer.accelerator", "cpu", "--out", out, **ablation)
    assert code == 0, err
    folder = Path(told.split("report: ")[1].strip()).parent
    assert {file.name for file in folder.iterdir()} | {"figures"} == FILES
    assert ablation or list((folder / "figures").glob("*.png"))
    assert json.loads((folder / "verdicts.json").read_text()) == []
    assert "no claim is on trial" in told
    assert not (out / "trained").exists(), "nothing is trained"
    return folder, told


def outside(folder):
    """What the files say of the network."""
    return json.loads((folder / "ablation.json").read_text())["foreign"]


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_a_network_of_timm_is_probed(command, tmp_path, name):
    """ResNet-18 on the digits, and VGG-11, which needs more than 16 pixels, on a few images of three channels."""
    words = ["--network", f"timm:{name}", "--weights", "random"]
    if name == "vgg11_bn":
        words += ["--data", "folder", "--data-root", write_folder(tmp_path / "few", sizes=[(32, 32)] * 3)]
    folder, _ = probed(command, tmp_path / "runs", *words)
    records = read_records(folder)
    assert records.arms == (name,)
    assert len(records.where(probe="delete")) == 8
    assert len(records.where(probe="intact")) == 1
    assert all(0 <= value <= 100 for value in records.values())


@pytest.fixture
def classifier(digits, tmp_path):
    """Weights of a ResNet-8 that classifies digits normalised with 0.5 and 0.25, its last layer solved for."""
    torch.manual_seed(0)
    network = build("resnet_cifar", 10, 1).eval()
    images, labels = digits.train.images.permute(0, 3, 1, 2), digits.train.labels
    head, network.head.fc = network.head.fc, torch.nn.Identity()
    with torch.no_grad():
        found = network((images / 255 - 0.5) / 0.25)
        found = torch.cat([found, torch.ones(len(found), 1)], dim=1)
        solved = torch.linalg.lstsq(found, torch.nn.functional.one_hot(labels, 10).float()).solution
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])
    network.head.fc = head
    save_weights(network, tmp_path / "mine.safetensors")
    return network, tmp_path / "mine.safetensors"


@torch.no_grad()
def error(network, data, mean, std):
    """Test error in %, by hand."""
    images = (data.test.images.permute(0, 3, 1, 2) / 255 - mean) / std
    return 100 * float((network.eval()(images).argmax(1) != data.test.labels).double().mean())


def test_the_normalisation_decides_and_is_told(command, tmp_path, classifier, digits):
    """Another --mean is another page and is never answered with what was measured before."""
    network, file = classifier
    words = ["--network", "resnet_cifar", "--weights", file]
    (own_mean,), (own_std,) = digits.mean, digits.std
    folders = {}
    for asked, mean, std in (
        ([], own_mean, own_std),
        (["--mean", "0.5", "--std", "0.25"], 0.5, 0.25),
        (["--mean", "half"], 0.5, 0.5),
        (["--mean", "none"], 0.0, 1.0),
    ):
        folder, told = probed(command, tmp_path / "runs", *words, *asked, ablation=activation_order)
        found = outside(folder)
        assert found["test_error"] == pytest.approx(error(network, digits, mean, std), abs=1e-9)
        assert found["normalisation"]["mean"] == [mean]
        source = " ".join(asked) or "statistics of the training images"
        assert f"images normalised with mean {mean:.4g}, std {std:.4g} ({source})" in told
        page = (folder / "report.html").read_text()
        assert source in page
        assert f"test error {found['test_error']:.2f} % intact (90 % is guessing)" in told
        assert "test error; guessing errs on 90 %" in page
        assert (
            ("warning: The intact network errs" in told)
            == (found["test_error"] > 45)
            == ("This network may not be" in page)
        )
        folders[folder] = found["test_error"]
    assert len(folders) == 4
    errors = list(folders.values())
    assert errors[1] < 45 < max(errors), "or neither side of the warning was seen"


def test_networks_of_a_library_are_shown_what_they_were_trained_with(digits):
    """And grey images what they are: timm's three numbers fit no single channel."""
    options = Options("smoke", "digits", Path("data"), Path("runs"), network="timm:resnet18", weights="random")
    grey = copy.copy(digits)
    own = (digits.mean, digits.std)
    found = external.load(options, grey).normalisation
    assert (found.mean, found.std) == own
    assert "timm's own for resnet18 has 3 channels, not 1" in found.source
    coloured = SimpleNamespace(
        name="photos", num_classes=10, in_channels=3, image_size=32, mean=(0.1,) * 3, std=(1.0,) * 3,
        identity={"digest": "0"},
    )  # fmt: skip
    found = external.load(options, coloured).normalisation
    assert (found.mean, found.std) == IMAGENET == (coloured.mean, coloured.std)
    half = replace(options, normalisation=Normalisation((0.5,), (0.5,), "--mean half"))
    found = external.load(half, coloured)
    assert coloured.mean == (0.5,) * 3
    assert found.run != external.load(options, coloured).run


def test_why_a_network_has_no_blocks_is_told(command, tmp_path, digits):
    """On the terminal, in ablation.json and on the page, and on that of what a network looks at."""
    words = ["--network", "timm:dla46x_c", "--weights", "random", "--budget", "smoke", "--trainer.accelerator", "cpu"]
    words += ["--data", "folder", "--data-root", write_folder(tmp_path / "few", sizes=[(64, 64)] * 3)]
    code, told, _ = command(*words, "--out", tmp_path, ablation=activation_order)
    assert code == 0
    why = "timm.models.dla.DLA cannot be divided into blocks: no chain of units: "
    assert f"  taken whole: {why}" in told
    (folder,) = (tmp_path / "ablations" / "activation_order").iterdir()
    assert outside(folder)["whole"].startswith(why)
    options = Options("smoke", "digits", Path("data"), Path("runs"), network="timm:dla46x_c", weights="random")
    (note,) = external.load(options, copy.copy(digits), needs_blocks=False).notes(None, 10)
    assert f"Taken whole: {outside(folder)['whole']}." in note
    assert f"({outside(folder)['whole']})" in (folder / "report.html").read_text()


@pytest.mark.parametrize("name", ["resnet20", "timm:resnet18"])
def test_weights_of_another_network_say_where_the_names_are(command, tmp_path, name):
    torch.save({"conv1.weights": torch.ones(16)}, tmp_path / "other.pt")
    code, told, err = command("--network", name, "--weights", tmp_path / "other.pt", "--out", tmp_path / "runs")
    assert (code, told, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"; python -m modules {name} --keys lists those wanted\n")


def test_claims_are_not_for_a_network_from_outside(command):
    code, _, err = command("--network", "resnet20", "--weights", "random", "--claims", "RL1")
    assert code == 2
    assert "--claims goes with training" in err


def test_a_script_without_an_intact_error_measures_it(command, tmp_path):
    """And keeps it: the second command asks the network nothing, unless --fresh or what is kept is no folder."""
    words = ["--network", "resnet20", "--weights", "random", "--budget", "smoke", "--out", tmp_path]
    written, folder = [], tmp_path
    for more in ([], [], ["--fresh"], []):
        if len(written) == 3:
            shutil.rmtree(folder / "probes")
            (folder / "probes").write_text("in the way")
        code, told, _ = command(*words, *more, ablation=activation_order)
        assert code == 0
        (folder,) = (tmp_path / "ablations" / "activation_order").iterdir()
        (kept,) = (folder / "probes").glob("intact-*.csv")
        written.append({file.name: file.stat().st_mtime_ns for file in (folder / "probes").glob("*.csv")})
        assert f"test error {outside(folder)['test_error']:.2f} % intact" in told
    first, second, fresh, anew = written
    assert second == first
    assert len(first) == 2
    assert fresh.keys() == anew.keys() == first.keys()
    assert all(first[name] < fresh[name] < anew[name] for name in first)
    assert read_csv(kept).values() == [outside(folder)["test_error"]]


def test_weights_of_a_file_are_probed_once_and_what_was_taken_is_told(command, tmp_path):
    state = build("resnet20", 10, 1).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "mine.pt")
    words = ["--network", "resnet20", "--weights", tmp_path / "mine.pt"]
    folder, told = probed(command, tmp_path / "runs", *words)
    taken = "state_dict, without the prefix module."
    assert f"taken of {tmp_path / 'mine.pt'}: {taken}" in told
    assert outside(folder)["taken"] == taken
    assert taken in (folder / "report.html").read_text()
    assert "was not trained here" in json.dumps(json.loads((folder / "ablation.json").read_text())["not_done"])
    first = (folder / "records.csv").read_bytes()
    assert len(read_csv(folder / "records.csv").where(probe="delete")) == 9
    again, _ = probed(command, tmp_path / "runs", *words)
    assert again == folder
    assert (folder / "records.csv").read_bytes() == first
    problems = []
    (trial,) = evidence.find(tmp_path / "runs" / "ablations", "own run", problems)
    assert (trial.verdicts, trial.where, problems) == ([], folder.name, []), "an index takes a trial without claims"
