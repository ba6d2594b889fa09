"""Flags that nobody meant, and files of options that hold something else."""

import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from refusals import FEW, assert_refused, assert_taken, examples

from ablations.harness.command.command_line import parser_for

FLAGS = sorted(
    flag
    for action in parser_for(FEW, with_trainer=False)._actions
    for flag in action.option_strings
    if flag[:2] == "--"
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
TYPED = ("--seeds", "--first-seed", "--image-size", "--train-images", "--workers", "--search")


def is_no_number(text: str) -> bool:
    """Whether YAML, which reads the values of flags, takes the text for something else than a number or nothing."""
    try:
        int(text)
        return False
    except ValueError:
        pass
    try:
        return not isinstance(yaml.safe_load(text), int | None)
    except (yaml.YAMLError, ValueError):
        return True


def test_good_flags_are_taken() -> None:
    assert_taken([])
    assert_taken(["--trainer.accelerator=cpu", "--trainer.devices=1", "--probe.limit=5"])
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(b"budget: smoke\nseeds: 2\ntrainer: {accelerator: cpu}\nfresh: true\n")
        file.flush()
        assert_taken(["--config", file.name])


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A flag with one letter more, less, or another."""
    flag = draw(st.sampled_from(FLAGS))
    at = draw(st.integers(2, len(flag) - 1))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz-_"))
    changed = draw(st.sampled_from([flag[:at] + flag[at + 1 :], flag[:at] + letter + flag[at:], flag[:at] + letter]))
    return changed if changed not in FLAGS and not changed.startswith("--probe.") and len(changed) > 2 else flag + "x"


@examples(30)
@given(misspelt(), st.sampled_from([[], ["1"], ["--budget", "smoke"]]))
def test_misspelt_flags(flag: str, more: list[str]) -> None:
    assert_refused([flag, *more])


@examples(40)
@given(st.sampled_from(TYPED), WORDS.filter(is_no_number) | st.floats().map(repr))
def test_numbers_that_are_none(flag: str, value: str) -> None:
    assert_refused([f"{flag}={value}"])


@examples(20)
@given(
    st.tuples(st.just("--seeds"), st.integers(max_value=0) | st.integers(min_value=41))
    | st.tuples(st.just("--first-seed"), st.integers(max_value=-1) | st.integers(min_value=10**7))
    | st.tuples(st.just("--train-images"), st.integers(max_value=9) | st.integers(min_value=1212))
    | st.tuples(st.just("--image-size"), st.integers(max_value=0) | st.integers(min_value=10**6))
    | st.tuples(st.just("--workers"), st.integers(max_value=0) | st.integers(min_value=10**9))
    | st.tuples(st.just("--search"), st.integers(max_value=-1) | st.integers(min_value=10**9))
)
def test_numbers_out_of_range(pair: tuple[str, int]) -> None:
    assert_refused([f"{pair[0]}={pair[1]}"])


@examples(30)
@given(st.sampled_from(["--budget", "--data", "--wandb", "--arms", "--claims", "--network", "--config"]), WORDS)
def test_words_that_are_no_choice(flag: str, value: str) -> None:
    weights = ["--weights=random"] if flag == "--network" else []
    assert_refused([f"{flag}=no-{value}", *weights])


@examples(20)
@given(st.sampled_from(FLAGS).filter(lambda flag: flag not in ("--help", "--print_config", "--version")), WORDS)
def test_flags_without_their_value(flag: str, value: str) -> None:
    bare = {"--download": "=maybe", "--wandb-weights": "=maybe", "--dry-run": "=maybe", "--fresh": "=maybe"}
    words = [flag + bare.get(flag, "")]
    assert_refused(words if flag in ("--arms", "--claims") or flag in bare else [*words, "--no-such-flag"])


TRAINER = {
    "accumulate_grad_batches": ["0", "-1", "x", "1.5", "null"],
    "limit_train_batches": ["0", "-1", "x", "0.0", "nan", "1.5"],
    "limit_test_batches": ["0", "-2", "1.5"],
    "limit_val_batches": ["-1", "x", "7.5"],
    "val_check_interval": ["0", "-1", "x", "1000000", "1.5", "0.0", "00:00:00:01", "{seconds: 1}"],
    "check_val_every_n_epoch": ["0", "-1", "x"],
    "gradient_clip_val": ["-1", "much", "nan", "inf", "0.0"],
    "gradient_clip_algorithm": ["median", "3", "value"],
    "precision": ["64-true", "8", "half", "[32]", "transformer-engine"],
    "devices": ["0", "-2", "two", "1.5", "[]", "{}", "99", "0,0"],
    "num_nodes": ["0", "-1", "2", "x"],
    "strategy": ["telepathy", "ddp_spawn", "3", "fsdp", "deepspeed", "{class_path: X}"],
    "accelerator": ["abacus", "3", "tpu", "hpu"],
    "overfit_batches": ["-1", "x", "1.5"],
    "fast_dev_run": ["true", "3", "x"],
    "log_every_n_steps": ["x", "-1"],
    "deterministic": ["maybe", "3"],
    "benchmark": ["maybe"],
    "profiler": ["telepathy"],
    "num_sanity_val_steps": ["-5", "x"],
    "reload_dataloaders_every_n_epochs": ["-1", "x"],
    "sync_batchnorm": ["maybe", "true"],
    "max_epochs": ["3"],
    "max_steps": ["3"],
    "max_time": ["00:00:00:01"],
    "logger": ["true"],
    "callbacks": ["[]"],
    "no_such_option": ["1"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TRAINER.items() for value in values])
def test_options_of_the_trainer(name: str, value: str) -> None:
    given = ["--trainer.gradient_clip_val=1"] if name == "gradient_clip_algorithm" and value != "value" else []
    told = () if value in ("tpu", "transformer-engine") else (name,)  # or the library that they need is named
    assert_refused(["--trainer.accelerator=cpu", *given, f"--trainer.{name}={value}"], *told)


@examples(20)
@given(st.sampled_from(["limit", "most_deleted", "draws", "no_such_setting"]), WORDS.filter(is_no_number))
def test_settings_of_the_probe(name: str, value: str) -> None:
    assert_refused([f"--probe.{name}={value}"])


# --- files of options ---

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WRONG = {
    "budget": [None, 3, True, "tiny", ["smoke"], {}],
    "data": [None, 3, True, "imagenette", ["digits"], {}],
    "data_root": [None, 3.5, True, ["data"], {}],
    "seeds": ["many", 7.5, True, [1], {}, 0, 10**9],
    "image_size": ["large", 7.5, True, [32], {}, 0, -3],
    "workers": ["all", 1.5, True, [1], {}, 0, -1],
    "search": ["wide", 1.5, None, [1], {}, -1],
    "arms": [3, "no_arm", {"a": 1}, [None], [["a"]], ["no_arm"]],
    "claims": [3, "RL9", {"a": 1}, [None], ["RL9"]],
    "network": [3, ["resnet20"], {}],
    "weights": [3, ["w"], {}, "random"],
    "wandb": [None, 3, "maybe", True],
    "dry_run": ["maybe", 3, None, [True], {}],
    "fresh": ["maybe", 3, None, [True], {}],
    "download": ["maybe", 3, None, [True], {}],
    "trainer": [3, "cpu", [1], {"devices": {}}, {"no_such_option": 1}, {"accelerator": "abacus"}],
    "config": [3, [1], {}],
}


def assert_refused_as_file(content: bytes, is_named: bool = True) -> None:
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(content)
        file.flush()
        assert_refused(["--config", file.name], *([file.name] if is_named else []))


@examples(60)
@given(st.sampled_from([(name, value) for name, values in WRONG.items() for value in values]))
def test_values_of_another_type(pair: tuple[str, object]) -> None:
    assert_refused_as_file(yaml.safe_dump({pair[0]: pair[1]}).encode(), is_named=False)  # some are refused as flags are


@examples(15)
@given(st.text(min_size=1, max_size=12).map(lambda name: f"no_{name}"), NESTED)
def test_keys_that_are_no_flags(name: str, value: object) -> None:
    assert_refused_as_file(yaml.safe_dump({name: value}).encode())


@examples(15)
@given(NESTED.filter(lambda value: value is not None and not isinstance(value, dict)))
def test_files_of_options_that_hold_none(value: object) -> None:
    assert_refused_as_file(yaml.safe_dump(value).encode())


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@examples(25)
@given(
    st.binary(min_size=1, max_size=60).filter(lambda data: b":" not in data and data.strip())
    | st.sampled_from(
        [
            b"budget: [", b"budget: smoke\n  seeds: 1", b"\xff\xfe\x00", b"budget: !!python/object/apply:os.abort []",
            b"a: &a [*a]", BOMB.encode(), b"{" * 5000, b"? " * 3000, b"- - - -", b"budget: smoke\n---\nbudget: smoke",
        ]
    )
)  # fmt: skip
def test_files_that_are_no_yaml(content: bytes) -> None:
    assert_refused_as_file(content)


def test_files_of_options_that_are_no_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(Path(folder) / "pipe")
        (Path(folder) / "loop").symlink_to("loop")
        for name in ("", "pipe", "loop", "nothing", "x" * 5000):
            assert_refused(["--config", str(Path(folder) / name)])
        assert_refused(["--config", "/dev/zero"])
