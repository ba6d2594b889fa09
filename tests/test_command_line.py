"""The command line: one clear line for bad input before anything is trained, help at once, a dry run."""

import io
import os
import pickle
import re
import shlex
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from class_folders import write_folder
from PIL import Image

from ablations.harness.command_line import parse
from ablations.remove_layers import ABLATION
from modules import build
from modules.weights import save_weights

ARMS = "preact_resnet, original_resnet, stochastic_depth, vgg, vgg_bn"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def refused(command, tmp_path, monkeypatch):
    """Runs a command that is wrong: exit code 2, one line, and nothing trained; gives the parts that the line lacks."""

    def run(words, *parts):
        monkeypatch.setattr("ablations.harness.execution.carry_out", None)  # a test must not wait for a training
        code, out, err = command(*words)
        assert code == 2, (code, out, err)
        assert err.startswith("remove_layers: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        assert not out
        assert not (tmp_path / "runs" / "trained").exists()
        return [part for part in parts if part not in err]

    return run


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--budgett", "smoke"], ["unknown flag --budgett", "did you mean --budget?"]),
        (["--budgett=smoke"], ["unknown flag --budgett", "did you mean --budget?"]),
        (["--trainer.device", "2"], ["unknown flag --trainer.device", "did you mean --trainer.devices?"]),
        (["--qqqqqqqq", "2"], ["unknown flag --qqqqqqqq", "--help"]),
        (["--bud", "smoke"], ["unknown flag --bud"]),
        (["digits"], ["digits"]),
        (["--budget", "tiny"], ["--budget", "tiny", "smoke"]),
        (["--data", "imagenette"], ["--data", "imagenette", "cifar10"]),
        (["--arms", "resnet"], ["unknown arm 'resnet'", ARMS]),
        (["--claims", "RL1", "RL9"], ["unknown claim 'RL9'", "RL1, RL2, RL3, RL4"]),
        (["--seeds", "0"], ["--seeds 0"]),
        (["--seeds", "many"], ["seeds", "many"]),
        (["--seeds", "99"], ["99 seeds", "1 to 40"]),
        (["--image-size", "0"], ["--image-size 0"]),
        (["--wandb", "maybe"], ["--wandb", "maybe", "offline"]),
        (["--config", "/no/such.yaml"], ["/no/such.yaml"]),
        (["--trainer.devices", "3"], ["batch size 64 does not divide among 3 devices"]),
        (["--trainer.devices", "2", "--trainer.num_nodes", "3"], ["--trainer.num_nodes", "one machine"]),
        (["--trainer.devices", "two"], ["--trainer.devices two"]),
        (["--trainer.devices", "0"], ["--trainer.devices 0"]),
        (["--trainer.devices", "1000000000"], ["--trainer.devices 1000000000"]),
        (["--trainer.devices", "[]"], ["--trainer.devices []"]),
        (["--trainer.max_epochs", "3"], ["--trainer.max_epochs", "--budget"]),
        (["--trainer.fast_dev_run", "true"], ["--trainer.fast_dev_run", "--budget smoke"]),
        (["--trainer.plugins=X"], ["--trainer.plugins", "objects"]),
        (["--trainer.accumulate_grad_batches", "0"], ["--trainer.accumulate_grad_batches 0", "1 or more"]),
        (["--trainer.accumulate_grad_batches", "22"], ["--trainer.accumulate_grad_batches 22", "18 batches"]),
        (["--trainer.limit_train_batches", "0"], ["--trainer.limit_train_batches 0", "1 or more"]),
        (["--trainer.limit_test_batches", "0.5"], ["--trainer.limit_test_batches 0.5", "one of 1 batches"]),
        (["--trainer.val_check_interval", "50"], ["--trainer.val_check_interval 50", "1 to 18"]),
        (["--trainer.val_check_interval", "soon"], ["--trainer.val_check_interval soon"]),
        (["--trainer.limit_train_batches", "few"], ["--trainer.limit_train_batches", "few is not a whole number"]),
        (["--trainer.accelerator", "abacus"], ["abacus"]),
        (["--trainer.strategy", "telepathy"], ["telepathy"]),
        (["--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"], ["ddp_spawn", "such as ddp"]),
        (["--trainer.precision", "64-true"], ["precision", "32-true, bf16-mixed", "64-true"]),
        (["--trainer.gradient_clip_val", "much"], ["gradient_clip_val", "much"]),
        (["--workers", "2", "--trainer.devices", "2", "--trainer.accelerator", "cpu"], ["--workers", "one device"]),
        (["--workers", "0"], ["--workers 0", "1 or more"]),
        (["--workers", "1000000000"], ["--workers 1000000000", "cores"]),
        (["--search", "1000000000"], ["--search 1000000000", "at most 1000"]),
        (["--image-size", "1000000000"], ["--image-size 1000000000", "at most 8192"]),
        (["--seeds", "1000000000"], ["1000000000 seeds", "1 to 40"]),
        (["--seeds", "9" * 5000], ["--seeds"]),
        (["--fresh", "maybe"], ["--fresh", "maybe is not yes or no"]),
        (["--dry-run=maybe"], ["--dry-run", "maybe is not yes or no"]),
        (["--config"], ["--config"]),
        (["--config="], ["not a file"]),
        (["--config", "/dev/null"], ["/dev/null", "not a file"]),
        (["--config", "a" * 5000], ["File name too long"]),
        (["--probe", "3"], ["unknown flag --probe"]),
        (["--network", "resnet20"], ["--weights"]),
        (["--weights", "random"], ["--network"]),
        (["--network", "resnet21", "--weights", "random"], ["unknown network 'resnet21'", "close are resnet"]),
        (["--network", "resnet20", "--weights", "pretrained"], ["timm:"]),
        (["--network", "resnet20", "--weights", "/no/such.safetensors"], ["/no/such.safetensors"]),
        (["--network", "resnet20", "--weights", "random", "--arms", "vgg"], ["unknown arm 'vgg'"]),
        (["--network", "timm:", "--weights", "random"], ["timm:MODEL"]),
        (["--network", "timm:resnet19", "--weights", "random"], ["resnet19", "did you mean resnet18?"]),
        (["--network", "timm:dla46x_c", "--weights", "random"], ["DLA cannot be divided into blocks"]),
        (["--network", "unet_small", "--weights", "random"], ["unet_small", "label for every pixel"]),
        (["--network", "timm:vgg11_bn", "--weights", "random"], ["vgg11_bn does not take images of shape (1, 16, 16)"]),
        (["--network", "vgg15", "--weights", "random"], ["vgg15 does not take images of shape (1, 16, 16)"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "",
)
def test_a_wrong_word_is_one_line(refused, words, parts):
    assert refused(words, *parts) == []


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_wrong_word_is_wrong_in_a_dry_run_too(refused, dry):
    assert refused([*dry, "--arms", "vgg", "resnet"], "unknown arm 'resnet'") == []


# --- data ---


def write_parquet(file, labels, size=(16, 16)):
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "PNG")
    images = [{"bytes": stream.getvalue(), "path": f"{row}.png"} for row in range(len(labels))]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": labels}), file)


@pytest.mark.parametrize("name", ["cifar10", "mnist", "svhn", "folder", "parquet"])
def test_missing_data_are_named(refused, tmp_path, name):
    assert (
        refused(["--data", name, "--data-root", tmp_path / "nowhere"], str(tmp_path / "nowhere"), "no such folder")
        == []
    )
    (tmp_path / "empty").mkdir()
    assert refused(["--data", name, "--data-root", tmp_path / "empty"], str(tmp_path / "empty")) == []


def test_a_data_root_that_is_a_file_is_no_folder(refused, tmp_path):
    (tmp_path / "file").touch()
    assert refused(["--data", "cifar10", "--data-root", tmp_path / "file"], "no such folder") == []


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: b"no parquet at all", lambda _: b""])
def test_damaged_parquet_is_named(refused, tmp_path, damage):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}-0.parquet", [0, 1] * 40)
    file = tmp_path / "train-0.parquet"
    file.write_bytes(damage(file.read_bytes()))
    assert refused(["--data", "parquet", "--data-root", tmp_path], str(file), "not a readable parquet file") == []


def test_a_label_out_of_range_is_named(refused, tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [0, 1] * 40)
    write_parquet(tmp_path / "test-0.parquet", [0, 1, 7])
    assert (
        refused(["--data", "parquet", "--data-root", tmp_path], "test-0.parquet, row 2", "label 7 is outside 0..1")
        == []
    )
    write_parquet(tmp_path / "test-0.parquet", [0, -1])
    assert refused(["--data", "parquet", "--data-root", tmp_path], "row 1", "label -1 is outside 0..1") == []


def test_mixed_image_sizes_are_named(refused, tmp_path):
    write_folder(tmp_path, sizes=[(16, 16), (20, 20)])
    assert refused(["--data", "folder", "--data-root", tmp_path], "16 x 16", "20 x 20", "1.png") == []


# --- weights ---


def test_weights_that_do_not_fit_are_named(refused, tmp_path):
    save_weights(build("resnet20", 10, 3), tmp_path / "colour.safetensors")
    words = ["--network", "resnet20", "--weights"]
    assert refused([*words, tmp_path / "colour.safetensors"], "do not fit", "of another shape: stem.conv1.weight") == []
    save_weights(build("resnet32", 10, 1), tmp_path / "deeper.safetensors")
    assert refused([*words, tmp_path / "deeper.safetensors"], "unexpected: blocks.stage1_block4") == []
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "deeper.safetensors").read_bytes()[:1000])
    assert (
        refused([*words, tmp_path / "damaged.safetensors"], "damaged.safetensors", "not a readable safetensors file")
        == []
    )
    assert refused([*words, tmp_path], "no weights file") == []


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_weights_that_would_run_code_are_refused(refused, tmp_path):
    state = {**build("resnet20", 10, 1).state_dict(), "trap": Trap(tmp_path / "sprung")}
    torch.save(state, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("torch.pt", "plain.pt"):
        assert refused(["--network", "resnet20", "--weights", tmp_path / name], str(tmp_path / name)) == []
        assert not (tmp_path / "sprung").exists(), "code from the file was run"
    assert refused(["--network", "timm:resnet18", "--weights", tmp_path / "torch.pt"], "torch.pt is refused") == []
    assert not (tmp_path / "sprung").exists()


# --- where to write ---


def test_an_out_that_cannot_be_written_is_named(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert refused(["--out", out], "cannot write to --out", str(out)) == []
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_at_once_leaves_nothing_behind(refused, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    assert refused([], "No space left on device") == []
    assert not [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]


def test_an_out_without_space_is_named(refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 100 << 20))
    assert refused([], "100 MiB left", "200 MiB are needed") == []


# --- help and dry run ---


def test_help_comes_without_the_heavy_libraries(python):
    code = (
        "import sys, runpy\n"
        "sys.argv = ['ablations/remove_layers.py', '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n"
        "    heavy = ('torch', 'lightning', 'torchvision', 'timm', 'wandb', 'scipy', 'sklearn', 'matplotlib')\n"
        "    print('HEAVY', [name for name in heavy if name in sys.modules], file=sys.stderr)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0
    assert done.stderr.strip() == "HEAVY []"
    for words in (
        "--budget",
        "--data",
        "--seeds",
        "--arms",
        "--dry-run",
        "--trainer.OPTION",
        "RL1",
        "python ablations/",
    ):
        assert words in done.stdout


def test_trainer_help_lists_lightnings_options(command):
    code, out, _ = command("--trainer.help")
    assert code == 0
    for option in ("--trainer.devices", "--trainer.strategy", "--trainer.precision", "--trainer.gradient_clip_val"):
        assert option in out


def rows(out):
    """arm -> the words of its row in the table of a dry run."""
    return {line.split()[0]: line for line in out.splitlines() if line.startswith("  ") and " M " in line}


def test_a_dry_run_trains_nothing_and_tells_the_cost(command, tmp_path):
    code, out, err = command("--budget", "smoke", "--dry-run")
    assert (code, err) == (0, "")
    assert "smoke budget, digits, 2 seeds" in out
    found = rows(out)
    assert list(found) == ARMS.split(", ")
    network = build("resnet_cifar", 10, 1, depth=14, width=8)
    assert f"{sum(p.numel() for p in network.parameters()):,}" in found["original_resnet"]
    for line in found.values():
        assert re.search(r" [\d,]+ +\d+\.\d M +1 +\d+ 32-true +2 of \d+ s$", line), line
    assert "already trained" not in out
    assert "expected:" in out
    assert not (tmp_path / "runs" / "trained").exists()
    assert not (tmp_path / "runs" / "ablations").exists()


def test_a_dry_run_knows_what_is_trained(command, smoke, tmp_path):
    out, told = smoke
    assert "already trained" not in told
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    words = ["--budget", "smoke", "--trainer.accelerator", "cpu", "--dry-run", "--out", out]
    code, told, _ = command(*words)
    assert code == 0
    assert all(line.endswith("2, 2 already trained") for line in rows(told).values())
    assert "expected: 0 s" in told
    _, told, _ = command(*words, "--seeds", "3", "--arms", "vgg")
    assert list(rows(told)) == ["vgg"]
    assert re.search(r"3 of \d+ s, 2 already trained", told)
    _, told, _ = command(*words, "--fresh")
    assert "already trained" not in told
    (tmp_path / "options.yaml").write_text("fresh: 'no'\n")
    _, told, _ = command(*words, "--config", tmp_path / "options.yaml")
    assert all(line.endswith("2, 2 already trained") for line in rows(told).values())
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*") if file != out} == {
        file: time for file, time in before.items() if file != out
    }


def test_the_program_itself_ends_with_2(python, tmp_path):
    done = python("ablations/remove_layers.py", "--budget", "smoke", "--seed", "3", "--out", tmp_path / "runs")
    assert done.returncode == 2
    assert done.stderr == "remove_layers: unknown flag --seed; did you mean --seeds?\n"
    assert not done.stdout
    assert not (tmp_path / "runs").exists()


def test_options_from_a_file(command, tmp_path):
    (tmp_path / "options.yaml").write_text("budget: smoke\narms: [vgg]\nseeds: 5\ntrainer:\n  accelerator: cpu\n")
    code, out, err = command("--config", tmp_path / "options.yaml", "--seeds", "3", "--dry-run")
    assert code == 0, err
    assert "smoke budget, digits, 3 seeds" in out
    assert list(rows(out)) == ["vgg"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
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
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_wrong_file_of_options_is_one_line(refused, tmp_path, text, parts):
    (tmp_path / "options.yaml").write_text(text)
    assert refused(["--config", tmp_path / "options.yaml"], *parts) == []


def test_a_file_of_options_that_is_none_is_named(refused, tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"seeds: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, part in (("bytes", "no UTF-8"), ("large", "2 MiB"), ("pipe", "not a file"), ("no", "no such file")):
        assert refused(["--config", tmp_path / f"{name}.yaml"], f"{name}.yaml", part) == []


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


# --- failures after the start ---


def test_a_failure_says_which_run_and_how_to_go_on(command, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("ablations.harness.job.train", fail)
        code, _, err = command("--budget", "smoke", "--arms", "preact_resnet", "--seeds", "1")
    assert code == 1
    assert "out of memory" in err
    assert "preact_resnet seed 0" in err
    assert "resume with:" in err


@pytest.mark.parametrize(
    "words", [["--fresh"], ["--fresh", "yes"], ["--fresh=yes"], ["--config", "FILE"]], ids=" ".join
)
def test_to_resume_is_not_to_begin_again(command, tmp_path, monkeypatch, words):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    (tmp_path / "options.yaml").write_text("fresh: true\n")
    words = [word.replace("FILE", str(tmp_path / "options.yaml")) for word in words]
    monkeypatch.setattr("ablations.harness.job.train", fail)
    _, _, err = command("--budget", "smoke", "--arms", "vgg", "--seeds", "1", *words)
    resumed = shlex.split(err.splitlines()[-1])
    assert not parse(ABLATION, resumed[resumed.index("remove_layers") + 1 :]).fresh
    assert ("--fresh" in err.splitlines()[-1]) == ("--config" in words)


def test_a_full_disk_is_told_not_traced(command, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device", "/runs/x")

    monkeypatch.setattr("ablations.harness.job.train", fail)
    code, _, err = command("--budget", "smoke", "--arms", "preact_resnet", "--seeds", "1")
    assert code == 1
    assert "No space left on device" in err
    assert "resume with:" in err
    assert "Traceback" not in err


# --- strangers ---
