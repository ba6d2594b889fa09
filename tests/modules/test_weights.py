"""Weights in files: round trips, one clear line for every file that does not fit, and no code from a file."""

import os
import pickle
from argparse import Namespace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modules import Network, build
from modules.weights import load_weights, read_weights, save_weights


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    made = build("resnet20", width=2)
    made(torch.randn(4, 3, 8, 8))  # running statistics that are not the defaults
    return made


@pytest.fixture
def other() -> Network:
    torch.manual_seed(1)
    return build("resnet20", width=2)


def same(one: nn.Module, two: nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["weights.safetensors", "known_by_its_content.bin"])
def test_safetensors_round_trip(
    network: Network, other: Network, tmp_path: Path, name: str, memory_format: torch.memory_format
) -> None:
    path = tmp_path / name
    assert not same(network, other)
    save_weights(network.to(memory_format=memory_format), path)
    load_weights(other, str(path))
    assert same(network, other)
    assert set(load_file(path)) == set(read_weights(path)) == set(network.state_dict())
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dict(network: Network, other: Network, tmp_path: Path, legacy: bool) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    load_weights(other, tmp_path / "w.pt")
    assert same(network, other)


def test_interrupted_write_leaves_the_old_file(
    network: Network, other: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(network, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_weights(other, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_save_needs_the_folder(network: Network, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        save_weights(network, tmp_path / "missing" / "w.safetensors")


# What does not fit.


def refused(network: Network, path: Path) -> str:
    """The one line of the error; the network is left as it was."""
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_weights(network, path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    return message


def test_missing_file_and_folder(network: Network, tmp_path: Path) -> None:
    assert "no weights file" in refused(network, tmp_path / "none.safetensors")
    assert "is no file" in refused(network, tmp_path)


@pytest.mark.parametrize(("name", "content", "says"), [
    ("w.safetensors", b"", "not a readable safetensors file"),
    ("w.safetensors", b"garbage, not a header", "not a readable safetensors file"),
    ("w.pt", b"", "empty or damaged"),
    ("w.pt", b"garbage", "no plain state dict"),
    ("w.pt", b"PK\x03\x04 not much of a zip file", "empty or damaged"),
])  # fmt: skip
def test_damaged_files(network: Network, tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refused(network, tmp_path / name)


def test_half_a_file(network: Network, tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pt"):
        path = tmp_path / name
        save_weights(network, path) if name.endswith("tensors") else torch.save(network.state_dict(), path)
        whole = path.read_bytes()
        for length in range(0, len(whole), len(whole) // 50):
            path.write_bytes(whole[:length])
            assert str(path) in refused(network, path), length


def test_missing_and_unexpected_keys(network: Network, tmp_path: Path) -> None:
    state = network.state_dict()
    kept = {key: state[key] for key in list(state)[5:]}
    torch.save({**kept, "classifier.weight": torch.ones(2)}, tmp_path / "w.pt")
    message = refused(network, tmp_path / "w.pt")
    assert "missing: stem.conv1.weight (2, 3, 3, 3), stem.bn1.weight (2,) <- classifier.weight?, stem.bn1" in message
    assert "and 2 more; unexpected: classifier.weight" in message


def test_shapes_are_named(network: Network, tmp_path: Path) -> None:
    save_weights(build("resnet20", num_classes=7, width=2), tmp_path / "w.safetensors")
    message = refused(network, tmp_path / "w.safetensors")
    assert "of another shape: head.fc.weight (7, 8) instead of (10, 8), head.fc.bias (7,) instead of (10,)" in message


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}, {0: torch.ones(3)}, {"model": {}}, torch.ones(3)]
)
def test_no_state_dict(network: Network, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert "no state dict" in refused(network, tmp_path / "w.pt")


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_pickle_is_not_run(network: Network, tmp_path: Path, plain: bool) -> None:
    trace, path = tmp_path / "code_was_run", tmp_path / "w.pt"
    content = {"state_dict": {**network.state_dict(), "extra": Malicious(trace)}}
    if plain:
        path.write_bytes(pickle.dumps({"extra": Malicious(trace)}))
    else:
        torch.save(content, path)
    assert "unpickling more could run code" in refused(network, path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:.*jit.trace:FutureWarning")
def test_what_a_refused_file_holds_is_named(network: Network, tmp_path: Path) -> None:
    """Training programs keep their arguments beside the weights, which is the most common reason."""
    torch.save(network, tmp_path / "w.pt")
    assert "refused" in refused(network, tmp_path / "w.pt")
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "w.pt")
    assert "TorchScript program; save its state_dict()" in refused(network, tmp_path / "w.pt")
    torch.save({"state_dict": network.state_dict(), "args": Namespace(lr=0.1)}, tmp_path / "w.pt")
    message = refused(network, tmp_path / "w.pt")
    assert "it holds argparse.Namespace" in message
    assert message.endswith("save the state dict alone, or as safetensors")
