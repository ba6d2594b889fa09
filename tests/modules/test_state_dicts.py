"""Weights that other programs saved: found in their checkpoints, renamed, converted, or refused in one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modules import Network, build
from modules.weights import load_weights

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def trained() -> State:
    torch.manual_seed(0)
    made = build("resnet20", width=2)
    made(torch.randn(4, 3, 8, 8))  # running statistics that are not the defaults
    return made.state_dict()


@pytest.fixture
def fresh() -> Network:
    torch.manual_seed(1)
    return build("resnet20", width=2)


def equal(network: nn.Module, state: State) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def below(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def noise(state: State) -> State:
    return {name: torch.randn_like(t) if t.is_floating_point() else t.clone() for name, t in state.items()}


@pytest.mark.parametrize("prefix", ["module.", "model.", "network.", "_orig_mod.", "module._orig_mod.", "net.student."])
def test_a_prefix_is_left_out(trained: State, fresh: Network, tmp_path: Path, prefix: str) -> None:
    torch.save({"state_dict": below(prefix, trained)}, tmp_path / "w.pt")
    said = load_weights(fresh, tmp_path / "w.pt")
    assert equal(fresh, trained)
    assert "state_dict" in said
    assert all(word in said for word in re.findall("module|network|_orig_mod|student", prefix))


def test_parts_that_were_compiled_one_by_one(trained: State, fresh: Network, tmp_path: Path) -> None:
    torch.save({re.sub(r"(branch)\.", r"\1._orig_mod.", k): v for k, v in trained.items()}, tmp_path / "w.pt")
    assert load_weights(fresh, tmp_path / "w.pt") == "without _orig_mod."
    assert equal(fresh, trained)


def test_a_prefix_of_the_networks_own_stays(trained: State, tmp_path: Path) -> None:
    torch.save(below("model.", trained), tmp_path / "w.pt")
    network = nn.Module()
    network.model = build("resnet20", width=2)
    assert load_weights(network, tmp_path / "w.pt") == ""
    assert equal(network.model, trained)


def test_what_stands_beside_the_network_is_left_out(trained: State, fresh: Network, tmp_path: Path) -> None:
    torch.save({"state_dict": below("model.", trained) | {"loss.weight": torch.ones(3)}}, tmp_path / "w.pt")
    assert load_weights(fresh, tmp_path / "w.pt") == "state_dict, without the prefix model., without 1 other tensors"
    assert equal(fresh, trained)


def test_two_networks_in_one_file_are_refused(trained: State, fresh: Network, tmp_path: Path) -> None:
    torch.save(below("student.", trained) | below("teacher.", noise(trained)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"there 2 times, below student\., teacher\.; save one of them alone"):
        load_weights(fresh, tmp_path / "w.pt")


@pytest.mark.parametrize("keys", ["state_dict", "model", "model_state_dict", "state_dict_ema", "ema", "ema module"])
def test_a_state_dict_inside_a_checkpoint(trained: State, fresh: Network, tmp_path: Path, keys: str) -> None:
    content: Any = trained
    for key in reversed(keys.split()):
        content = {key: content, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "w.pt")
    assert load_weights(fresh, tmp_path / "w.pt") == keys.replace(" ", ", ")
    assert equal(fresh, trained)


def test_the_weights_come_before_their_running_means(trained: State, fresh: Network, tmp_path: Path) -> None:
    torch.save({"state_dict_ema": noise(trained), "state_dict": trained}, tmp_path / "w.pt")
    assert load_weights(fresh, tmp_path / "w.pt") == "state_dict (not state_dict_ema)"
    assert equal(fresh, trained)


def test_counters_of_batches_may_be_absent(trained: State, fresh: Network, tmp_path: Path) -> None:
    save_file({k: v for k, v in trained.items() if not k.endswith("tracked")}, tmp_path / "w.safetensors")
    assert load_weights(fresh, tmp_path / "w.safetensors") == "without num_batches_tracked"
    tensors = fresh.state_dict()
    assert all(torch.equal(tensors[k], v) for k, v in trained.items() if not k.endswith("tracked"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_another_size_are_converted(trained: State, fresh: Network, tmp_path: Path, dtype: Any) -> None:
    torch.save({k: v.to(dtype) for k, v in trained.items()}, tmp_path / "w.pt")  # the counters of batches too
    assert load_weights(fresh, tmp_path / "w.pt") == f"converted from {str(dtype).removeprefix('torch.')}"
    assert equal(fresh, {k: v.to(dtype).to(v.dtype) for k, v in trained.items()})


def replaced(state: State, name: str, change: Callable[[Tensor], Tensor]) -> State:
    return {**state, name: change(state[name])}


FC = "head.fc.weight"


@pytest.mark.parametrize(("name", "change", "says"), [
    (FC, lambda t: t.to(torch.complex64), "complex64"),
    (FC, lambda t: t.to_sparse(), "sparse"),
    (FC, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised"),
    (FC, lambda t: t.to("meta"), "without content"),
    (FC, lambda t: t.to(torch.float8_e4m3fn), "float8_e4m3fn; float32 is wanted"),
    (FC, lambda t: t.to(torch.int8), "int8; float32 is wanted"),
    (FC, lambda t: t > 0, "bool; float32 is wanted"),
    (FC, lambda t: t.double() * 1e300, "not finite"),
    (FC, lambda t: t / 0, "not finite"),
    ("stem.bn1.running_var", lambda t: t * float("nan"), "not finite"),
    ("stem.bn1.running_var", lambda t: t - 5, "variances below 0"),
    ("stem.bn1.num_batches_tracked", lambda t: t + 0.5, "float32; int64 is wanted"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_another_kind_are_one_line(
    trained: State, fresh: Network, tmp_path: Path, name: str, change: Callable[[Tensor], Tensor], says: str
) -> None:
    before = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    torch.save(replaced(trained, name, change), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"do not fit the network: {re.escape(name)} .*{says}") as caught:
        load_weights(fresh, tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert equal(fresh, before)


def test_nearest_names_stand_side_by_side(trained: State, fresh: Network, tmp_path: Path) -> None:
    """By their last words and their shapes: `layer1.0.bn1.weight`, not any vector of two numbers."""
    renamed = {
        re.sub(r"blocks\.stage(\d)_block(\d)\.branch", lambda m: f"layer{m[1]}.{int(m[2]) - 1}", k): v
        for k, v in trained.items()
    }
    torch.save({k.removeprefix("stem.").replace("head.fc", "linear"): v for k, v in renamed.items()}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="missing: stem") as caught:
        load_weights(fresh, tmp_path / "w.pt")
    for pair in ("stem.conv1.weight (2, 3, 3, 3) <- conv1.weight?", "stem.bn1.bias (2,) <- bn1.bias?"):
        assert pair in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 10**6, "new\nline", "\x1b[31mred", "", "."])
def test_a_line_is_bounded_whatever_the_names(trained: State, fresh: Network, tmp_path: Path, name: str) -> None:
    torch.save({**trained, **{f"{name}{i}": torch.ones([1] * 9) for i in range(100)}}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="unexpected") as caught:
        load_weights(fresh, tmp_path / "w.pt")
    assert len(str(caught.value)) < 600 + len(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", ["a" * 5000, "a/" * 3000])
def test_a_path_that_no_file_can_have(fresh: Network, path: str) -> None:
    with pytest.raises(ValueError, match="cannot be read: File name too long") as caught:
        load_weights(fresh, path)
    assert len(str(caught.value)) < 400
