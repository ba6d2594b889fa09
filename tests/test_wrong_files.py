"""Data, weights, --out and files of options that are wrong: one line that names them, before anything is trained."""

import io
import os
import pickle
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from refusals import assert_refused
from written_files import encoded, random_images, write_folder, write_parquet

from ablations.harness.command.command_line import parse
from ablations.remove_layers import ABLATION
from modules import build
from modules.weights import save_weights

# --- data ---


def write_labels(file, labels):
    write_parquet(file, [encoded(random_images(1, 16)[0])] * len(labels), labels)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "svhn", "folder", "parquet"])
def test_missing_data_are_named(tmp_path, name):
    assert_refused(["--data", name, "--data-root", tmp_path / "nowhere"], str(tmp_path / "nowhere"), "no such folder")
    (tmp_path / "empty").mkdir()
    assert_refused(["--data", name, "--data-root", tmp_path / "empty"], str(tmp_path / "empty"))


def test_a_data_root_that_is_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    assert_refused(["--data", "cifar10", "--data-root", tmp_path / "file"], "no such folder")


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"no parquet at all", lambda _: b""])
def test_damaged_parquet_is_named(tmp_path, damage):
    for split in ("train", "test"):
        write_labels(tmp_path / f"{split}-0.parquet", [0, 1] * 40)
    file = tmp_path / "train-0.parquet"
    file.write_bytes(damage(file.read_bytes()))
    assert_refused(["--data", "parquet", "--data-root", tmp_path], str(file), "not a readable parquet file")


def test_a_label_out_of_range_is_named(tmp_path):
    write_labels(tmp_path / "train-0.parquet", [0, 1] * 40)
    write_labels(tmp_path / "test-0.parquet", [0, 1, 7])
    assert_refused(["--data", "parquet", "--data-root", tmp_path], "test-0.parquet, row 2", "label 7 is outside 0..1")
    write_labels(tmp_path / "test-0.parquet", [0, -1])
    assert_refused(["--data", "parquet", "--data-root", tmp_path], "row 1", "label -1 is outside 0..1")


def test_mixed_image_sizes_are_named(tmp_path):
    write_folder(tmp_path, sizes=[(16, 16), (20, 20)])
    assert_refused(["--data", "folder", "--data-root", tmp_path], "16 x 16", "20 x 20", "1.png")


# --- weights ---


def test_weights_that_do_not_fit_are_named(tmp_path):
    save_weights(build("resnet20", 10, 3), tmp_path / "colour.safetensors")
    words = ["--network", "resnet20", "--weights"]
    assert_refused([*words, tmp_path / "colour.safetensors"], "do not fit", "of another shape: stem.conv1.weight")
    save_weights(build("resnet32", 10, 1), tmp_path / "deeper.safetensors")
    assert_refused([*words, tmp_path / "deeper.safetensors"], "unexpected: blocks.stage1_block4")
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "deeper.safetensors").read_bytes()[:1000])
    assert_refused([*words, tmp_path / "damaged.safetensors"], "damaged.safetensors", "not a readable safetensors file")
    assert_refused([*words, tmp_path], "is no file")


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_weights_that_would_run_code_are_refused(tmp_path):
    state = {**build("resnet20", 10, 1).state_dict(), "trap": Trap(tmp_path / "sprung")}
    torch.save(state, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("torch.pt", "plain.pt"):
        assert_refused(["--network", "resnet20", "--weights", tmp_path / name], str(tmp_path / name))
        assert not (tmp_path / "sprung").exists(), "code from the file was run"
    assert_refused(["--network", "timm:resnet18", "--weights", tmp_path / "torch.pt"], "torch.pt is refused")
    assert not (tmp_path / "sprung").exists()


# --- where to write ---


def test_an_out_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_refused(["--out", out], "cannot write to --out", str(out))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_at_once_leaves_nothing_behind(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    assert_refused(["--out", tmp_path / "runs"], "No space left on device")
    assert not [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]


def test_an_out_without_space_is_named(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 100 << 20))
    assert_refused([], "100 MiB left", "200 MiB are needed")


# --- files of options ---


def test_options_from_a_file(command, tmp_path):
    (tmp_path / "options.yaml").write_text("budget: smoke\narms: [vgg]\nseeds: 5\ntrainer:\n  accelerator: cpu\n")
    code, out, err = command("--config", tmp_path / "options.yaml", "--seeds", "3", "--dry-run")
    assert code == 0, err
    assert "smoke budget, digits, 3 seeds" in out
    assert re.search(r"^  vgg +vgg_cifar ", out, re.M)
    assert "residual_twin" not in out


@pytest.mark.parametrize(("text", "parts"), [
    ("dry_run: maybe", ["options.yaml: dry_run", "maybe is not yes or no"]),
    ("fresh: 1", ["fresh", "1 is not yes or no"]),
    ("fresh: null", ["fresh is empty"]),
    ("fresh: [true]", ["fresh", "is not yes or no"]),
    ("seeds: 7.5", ["seeds", "7.5 is not a whole number"]),
    ("seeds: true", ["seeds", "is not a whole number"]),
    ("seeds: seven", ["seeds", "seven is not a whole number"]),
    ("seeds: {a: 1}", ["seeds: give one value"]),
    ("search: null", ["search is empty"]),
    ("out: 3", ["out", "3 is not a text"]),
    ("budget: null", ["budget is empty"]),
    ("budget: tiny", ["budget", "tiny", "laptop"]),
    ("wandb: true", ["wandb", "offline"]),
    ("arms: vgg", ["arms: give a list, such as [vgg]"]),
    ("arms: [vgg, 3]", ["arms: element 2: 3 is not a text"]),
    ("claims: {RL1: true}", ["claims: give a list, such as [A, B]"]),
    ("sedes: 3", ["unknown option sedes", "did you mean seeds?"]),
    ("data-root: here", ["unknown option data-root", "did you mean data_root?"]),
    ("on: 3", ["unknown option True"]),
    ("seeds: 3\nseeds: 4", ["seeds stands there twice"]),
    ("- seeds\n- 3", ["options.yaml is a list"]),
    ("seeds", ["options.yaml is one value"]),
    ("", ["options.yaml is empty"]),
    ("seeds: [", ["options.yaml, line 1: no YAML"]),
    ("seeds: \0", ["no YAML"]),
    ("a: " + "[" * 100_000, ["options.yaml"]),
    ("seeds: &one 3\nsearch: *one", ["aliases"]),
    ("!!python/object/apply:os.system ['false']", ["no YAML"]),
    ("trainer: 3", ["trainer: give its options"]),
    ("trainer:", ["trainer: give its options"]),
    ("trainer: {max_epochs: 3}", ["trainer.max_epochs", "--budget"]),
    ("trainer: {devices: null}", ["trainer.devices is empty"]),
    ("trainer: {device: 3}", ["unknown option trainer.device", "did you mean trainer.devices?"]),
    ("trainer: {strategy: {class_path: os.system}}", ["trainer.strategy: give one value"]),
    ("trainer: {deterministic: maybe}", ["trainer.deterministic", "maybe is not yes or no or 'warn'"]),
    ("trainer: {gradient_clip_val: .inf}", ["--trainer.gradient_clip_val inf"]),
    ("probe: {limit: null}", ["probe.limit: give a number"]),
    ("probe: {draws: many}", ["--probe.draws many", "a whole number"]),
    ("probe: {nothing: 3}", ["--probe.nothing", "draws"]),
    ("config: other.yaml", ["unknown option config"]),
], ids=lambda value: value[:40] if isinstance(value, str) else "")  # fmt: skip
def test_a_wrong_file_of_options_is_one_line(tmp_path, text, parts):
    (tmp_path / "options.yaml").write_text(text)
    assert_refused(["--config", tmp_path / "options.yaml"], *parts)


def test_a_file_of_options_that_is_none_is_named(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"seeds: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, part in (("bytes", "no UTF-8"), ("large", "2 MiB"), ("pipe", "not a file"), ("no", "no such file")):
        assert_refused(["--config", tmp_path / f"{name}.yaml"], f"{name}.yaml", part)


@pytest.mark.parametrize(("word", "fresh"), [("'no'", False), ("no", False), ("'false'", False), ("yes", True)])
def test_words_for_yes_and_no_mean_what_they_say(tmp_path, word, fresh):
    (tmp_path / "options.yaml").write_text(f"fresh: {word}\n")
    assert parse(ABLATION, ["--config", str(tmp_path / "options.yaml")]).fresh is fresh
    assert parse(ABLATION, ["--fresh", word.strip("'")]).fresh is fresh
    assert parse(ABLATION, ["--fresh", f"--dry-run={word.strip(chr(39))}"]).dry_run is fresh


def test_a_file_sets_the_probe_and_the_command_says_more(tmp_path):
    (tmp_path / "options.yaml").write_text("probe: {limit: 500, draws: 3, fold: no}\n")
    found = parse(ABLATION, ["--config", str(tmp_path / "options.yaml"), "--probe.limit", "40"])
    assert found.probe == {"limit": "40", "draws": "3", "fold": "no"}
