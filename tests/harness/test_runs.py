"""The identity of a run: everything that can change a number, nothing that cannot, and the same in every process."""

import json
from dataclasses import replace
from itertools import combinations

import pytest

from ablations.harness.store.runs import EXECUTION_OPTIONS, FORMAT, Run, digest, outcome
from modules.training.recipe import HE2015_CIFAR

DATA = {
    "name": "digits", "digest": "ab12", "num_train": 1212, "num_val": 135, "num_test": 450, "num_classes": 10,
    "in_channels": 1, "image_size": 16, "validation": 0.1, "split_seed": 0, "augment": {"pad": 1, "flip": False},
}  # fmt: skip
RUN = Run("resnet_cifar", {"depth": 20}, HE2015_CIFAR, DATA, 0)

CHANGES = {
    "seed": replace(RUN, seed=1),
    "depth": replace(RUN, arguments={"depth": 32}),
    "width": replace(RUN, arguments={"depth": 20, "width": 8}),
    "order": replace(RUN, arguments={"depth": 20, "order": "full_preactivation"}),
    "survival": replace(RUN, arguments={"depth": 20, "survival_prob": 0.5}),
    "family": replace(RUN, network="vgg_cifar", arguments={}),
    **{
        name: replace(RUN, recipe=replace(HE2015_CIFAR, **{name: value}))
        for name, value in {
            "epochs": 3, "batch_size": 64, "learning_rate": 0.05, "momentum": 0.8, "nesterov": True,
            "weight_decay": 0.0, "schedule": "linear", "milestones": (0.5,), "warmup_steps": 10, "warmup_rate": 0.01,
            "decay": "weights", "milestone_factor": 0.2, "final_fraction": 0.1, "localisation_factor": 0.1,
            "auxiliary_weight": 0.4, "augmentation": "none", "gradient_clip": 0.5, "precision": "bf16-mixed",
        }.items()
    },
    **{
        name: replace(RUN, data={**DATA, name: value})
        for name, value in {
            "digest": "ab13", "num_train": 1213, "num_classes": 11, "in_channels": 3, "image_size": 32,
            "validation": 0.2, "split_seed": 1, "augment": {"pad": 2, "flip": False},
        }.items()
    },
    "clipping": replace(RUN, trainer={"gradient_clip_val": 1.0}),
    "more clipping": replace(RUN, trainer={"gradient_clip_val": 2.0}),
    "accumulation": replace(RUN, trainer={"accumulate_grad_batches": 2}),
    "fewer batches": replace(RUN, trainer={"limit_train_batches": 3}),
    "synchronised": replace(RUN, trainer={"sync_batchnorm": True}),
    "double": replace(RUN, trainer={"precision": "64-true"}),
}  # fmt: skip


def test_every_recipe_field_is_tried():
    assert set(HE2015_CIFAR.__dataclass_fields__) - {"source"} <= set(CHANGES)


def test_whatever_changes_a_number_changes_the_identity():
    runs = {"": RUN, **CHANGES}
    for (one, first), (other, second) in combinations(runs.items(), 2):
        assert first.hash != second.hash, (one, other)
        assert first.identity() != second.identity()


@pytest.mark.parametrize("options", [
    {"devices": 2},
    {"accelerator": "cpu"},
    {"strategy": "ddp", "num_nodes": 4, "devices": 8},
    {"enable_progress_bar": True, "log_every_n_steps": 1, "profiler": "simple"},
    {"precision": "32-true"},
])  # fmt: skip
def test_where_to_compute_is_no_part_of_the_identity(options):
    assert replace(RUN, trainer=options).identity() == RUN.identity()
    assert replace(RUN, trainer=options).name == RUN.name


def test_execution_options_are_lightnings():
    import inspect

    from lightning import Trainer

    assert set(inspect.signature(Trainer).parameters) >= EXECUTION_OPTIONS


def test_the_source_of_a_recipe_is_no_part_of_the_identity():
    assert replace(RUN, recipe=replace(HE2015_CIFAR, source="elsewhere")).hash == RUN.hash


def test_defaults_are_written_out():
    identity = RUN.identity()
    assert identity["format"] == FORMAT
    assert identity["network"] == {
        "builder": "resnet_cifar", "depth": 20, "width": 16, "block": "basic", "order": "original", "shortcut": "A",
        "stride_on": "3x3", "average_shortcut": False, "skip": True, "shortcut_scale": 1.0, "branch_scale": 1.0,
        "shortcut_dropout": 0.0, "gate": "none", "gate_bias": 0.0, "survival_prob": 1.0, "survival_rule": "linear",
        "drop_per": "batch", "kept_blocks": 0, "num_classes": 10, "in_channels": 1,
    }  # fmt: skip
    assert (identity["recipe"]["momentum"], identity["recipe"]["precision"]) == (0.9, "32-true")
    assert identity["data"] == DATA
    assert (identity["seed"], identity["trainer"]) == (0, {})
    assert json.loads(json.dumps(identity)) == json.loads(json.dumps(identity, sort_keys=True)), "plain values"


@pytest.mark.parametrize(("network", "arguments"), [
    ("resnet20", {}),
    ("resnet_cifar", {"depth": 20, "width": 16}),
    ("resnet_cifar", {"width": 16, "survival_prob": 1.0, "depth": 20}),
])  # fmt: skip
def test_one_network_under_two_names_is_one_run(network, arguments, tmp_path):
    other = replace(RUN, network=network, arguments=arguments)
    assert other.identity() == RUN.identity()
    assert other.hash == RUN.hash
    assert other.folder(tmp_path) == RUN.folder(tmp_path), "one run has one folder"


def test_tuples_and_lists_are_one_run():
    one = Run("vgg_cifar", {"convs_per_group": (1, 1)}, HE2015_CIFAR, DATA, 0)
    assert replace(one, arguments={"convs_per_group": [1, 1]}).hash == one.hash


def test_precision_is_the_users_or_the_recipes():
    assert RUN.precision == "32-true"
    assert CHANGES["precision"].precision == "bf16-mixed"
    assert replace(CHANGES["precision"], trainer={"precision": "32-true"}).hash == RUN.hash
    assert replace(RUN, trainer={"precision": "bf16-mixed"}).hash == CHANGES["precision"].hash


@pytest.mark.parametrize(("short", "long"), [(32, "32-true"), ("32", "32-true"), ("bf16", "bf16-mixed")])
def test_short_forms_of_a_precision_are_no_other_precision(short, long):
    assert replace(RUN, trainer={"precision": short}).identity() == replace(RUN, trainer={"precision": long}).identity()


def test_the_name_says_network_data_and_seed(tmp_path):
    assert RUN.name == f"resnet_cifar-digits-s0-{RUN.hash}"
    assert len(RUN.hash) == 8
    assert int(RUN.hash, 16) >= 0
    assert RUN.folder(tmp_path) == tmp_path / "trained" / RUN.name


def test_an_unknown_network_has_no_identity():
    with pytest.raises(ValueError, match="resnet21"):
        replace(RUN, network="resnet21").identity()


def test_the_identity_is_the_same_in_every_process(python):
    code = (
        "from ablations.harness.store.runs import Run, digest\n"
        "from modules.training.recipe import HE2015_CIFAR\n"
        f"data = {dict(reversed(DATA.items()))!r}\n"
        "run = Run('resnet20', {}, HE2015_CIFAR, data, 0, {'devices': 3})\n"
        "print(run.name, digest({'b': (1, 2), 'a': {'y': None, 'x': 0.1}}))"
    )
    expected = f"{RUN.name} {digest({'a': {'x': 0.1, 'y': None}, 'b': [1, 2]})}"
    for seed in ("0", "12345"):
        found = python("-c", code, PYTHONHASHSEED=seed)
        assert found.stdout.strip() == expected, found.stderr


def test_outcomes_are_read_from_the_folder(tmp_path):
    assert outcome(tmp_path / "missing") is None
    assert outcome(tmp_path) is None
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "weights.safetensors").touch()
    assert outcome(tmp_path) is None, "weights without `done` are not finished"
    (tmp_path / "diverged").write_text('{"step": 7, "epoch": 1, "why": "no number"}')
    assert outcome(tmp_path) == {"state": "diverged", "step": 7, "epoch": 1, "why": "no number"}
    (tmp_path / "done").write_text('{"test/top1_error": 3.5}')
    assert outcome(tmp_path) == {"state": "done", "test/top1_error": 3.5}
