"""The command line: one clear line for bad input before anything is trained, help at once, a dry run."""

import re
import shlex
from unittest.mock import Mock

import pytest
from refusals import assert_refused

from ablations.harness.command.command_line import parse
from ablations.remove_layers import ABLATION
from modules import build

ARMS = "preact_resnet, stochastic_depth, vgg, vgg_bn, plain_twin, residual_twin"


@pytest.mark.parametrize(("words", "parts"), [
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
    (["--first-seed", "-1"], ["--first-seed -1", "0 or more"]),
    (["--train-images", "0"], ["--train-images 0", "1 or more"]),
    (["--train-images", "9"], ["train_images is 9", "10 (one of each class) to 1211"]),
    (["--train-images", "1212"], ["train_images is 1212", "10 (one of each class) to 1211"]),
    (["--seeds", "many"], ["seeds", "many"]),
    (["--seeds", "99"], ["99 seeds", "1 to 40"]),
    (["--image-size", "0"], ["--image-size 0"]),
    (["--wandb", "maybe"], ["--wandb", "maybe", "offline"]),
    (["--config", "/no/such.yaml"], ["/no/such.yaml"]),
    (["--trainer.devices", "3"], ["batch size 32 does not divide among 3 devices"]),
    (["--trainer.devices", "2", "--trainer.num_nodes", "3"], ["--trainer.num_nodes", "one machine"]),
    (["--trainer.devices", "two"], ["--trainer.devices two"]),
    (["--trainer.devices", "0"], ["--trainer.devices 0"]),
    (["--trainer.devices", "1000000000"], ["--trainer.devices 1000000000"]),
    (["--trainer.devices", "[]"], ["--trainer.devices []"]),
    (["--trainer.max_epochs", "3"], ["--trainer.max_epochs", "--budget"]),
    (["--trainer.fast_dev_run", "true"], ["--trainer.fast_dev_run", "--budget smoke"]),
    (["--trainer.plugins=X"], ["--trainer.plugins", "objects"]),
    (["--trainer.accumulate_grad_batches", "0"], ["--trainer.accumulate_grad_batches 0", "1 or more"]),
    (["--trainer.accumulate_grad_batches", "40"], ["--trainer.accumulate_grad_batches 40", "37 batches"]),
    (["--trainer.limit_train_batches", "0"], ["--trainer.limit_train_batches 0", "1 or more"]),
    (["--trainer.limit_test_batches", "0.5"], ["--trainer.limit_test_batches 0.5", "one of 1 batches"]),
    (["--trainer.val_check_interval", "50"], ["--trainer.val_check_interval 50", "1 to 37"]),
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
], ids=lambda value: " ".join(value) if value and value[0].startswith("-") else "")  # fmt: skip
def test_a_wrong_word_is_one_line(words, parts):
    assert_refused(words, *parts, ablation=ABLATION)


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_wrong_word_is_wrong_in_a_dry_run_too(dry):
    assert_refused([*dry, "--arms", "vgg", "resnet"], "unknown arm 'resnet'", ablation=ABLATION)


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
    flags = ("--budget", "--data", "--seeds", "--arms", "--dry-run", "--trainer.OPTION")
    for words in (*flags, "RL1", "python ablations/"):
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
    network = build("resnet_cifar", 10, 1, depth=8, width=8, order="full_preactivation")
    assert f"{sum(p.numel() for p in network.parameters()):,}" in found["residual_twin"]
    for line in found.values():
        assert re.search(r" [\d,]+ +\d+\.\d M +1 +\d+ 32-true +2 of \d+ s$", line), line
    assert "already trained" not in out
    assert "expected:" in out
    assert not (tmp_path / "runs" / "trained").exists()
    assert not (tmp_path / "runs" / "ablations").exists()


def test_a_dry_run_knows_what_is_trained(command, smoke_copy, tmp_path):
    out, told = smoke_copy
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


# --- failures after the start ---


TRAIN = "ablations.harness.execution.perform.train"


@pytest.mark.parametrize(("error", "told"), [
    (RuntimeError("out of memory"), "out of memory"),
    (OSError(28, "No space left on device", "/runs/x"), "No space left on device"),
])  # fmt: skip
def test_a_failure_says_which_run_and_how_to_go_on(command, monkeypatch, error, told):
    monkeypatch.setattr(TRAIN, Mock(side_effect=error))
    code, _, err = command("--budget", "smoke", "--arms", "preact_resnet", "--seeds", "1")
    assert code == 1
    for words in (told, "preact_resnet seed 0", "resume with:"):
        assert words in err
    assert "Traceback" not in err or isinstance(error, RuntimeError), "a full disk is told, not traced"


@pytest.mark.parametrize(
    "words", [["--fresh"], ["--fresh", "yes"], ["--fresh=yes"], ["--config", "FILE"]], ids=" ".join
)
def test_to_resume_is_not_to_begin_again(command, tmp_path, monkeypatch, words):
    (tmp_path / "options.yaml").write_text("fresh: true\n")
    words = [word.replace("FILE", str(tmp_path / "options.yaml")) for word in words]
    monkeypatch.setattr(TRAIN, Mock(side_effect=RuntimeError("out of memory")))
    _, _, err = command("--budget", "smoke", "--arms", "vgg", "--seeds", "1", *words)
    resumed = shlex.split(err.splitlines()[-1])
    assert not parse(ABLATION, resumed[resumed.index("remove_layers") + 1 :]).fresh
    assert ("--fresh" in err.splitlines()[-1]) == ("--config" in words)
