"""Networks that the suite did not train, from timm or a file, through the command line."""

import json

import pytest
from class_folders import write_folder

from modules import build
from modules.weights import save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = {"records.csv", "verdicts.json", "ablation.json", "report.html", "figures", "probes"}


def probed(command, out, *words):
    """Probes a network from outside and checks its files; gives the folder and what was said."""
    code, told, err = command(*words, "--budget", "smoke", "--trainer.accelerator", "cpu", "--out", out)
    assert code == 0, err
    folders = list((out / "ablations" / "remove_layers").iterdir())
    assert len(folders) == 1
    assert {file.name for file in folders[0].iterdir()} == FILES
    assert list((folders[0] / "figures").glob("*.png"))
    verdicts = json.loads((folders[0] / "verdicts.json").read_text())
    assert {verdict["verdict"] for verdict in verdicts} == {"undecided"}
    assert not (out / "trained").exists(), "nothing is trained"
    return folders[0], told


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_a_network_of_timm_is_probed(command, tmp_path, name):
    """ResNet-18 on the digits, and VGG-11, which needs more than 16 pixels, on a few images of three channels."""
    from ablations.harness.records import read_csv

    words = ["--network", f"timm:{name}", "--weights", "random"]
    if name == "vgg11_bn":
        words += ["--data", "folder", "--data-root", write_folder(tmp_path / "few", sizes=[(32, 32)] * 3)]
    folder, _ = probed(command, tmp_path / "runs", *words)
    records = read_csv(folder / "records.csv")
    assert records.arms == (name,)
    assert len(records.where(probe="delete")) == 8
    assert len(records.where(probe="intact")) == 1
    assert all(0 <= value <= 100 for value in records.values())


def test_weights_of_a_file_are_probed_once(command, tmp_path):
    from ablations.harness.records import read_csv

    save_weights(build("resnet20", 10, 1), tmp_path / "mine.safetensors")
    words = ["--network", "resnet20", "--weights", tmp_path / "mine.safetensors"]
    folder, _ = probed(command, tmp_path / "runs", *words)
    assert "brought from outside" in json.dumps(json.loads((folder / "ablation.json").read_text())["not_done"])
    first = (folder / "records.csv").read_bytes()
    assert len(read_csv(folder / "records.csv").where(probe="delete")) == 9
    again, _ = probed(command, tmp_path / "runs", *words)
    assert again == folder
    assert (folder / "records.csv").read_bytes() == first
