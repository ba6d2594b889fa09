"""Pretrained weights where their server does not answer: one line in seconds, or the weights of this machine."""

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from modules.foreign import pretrained
from modules.foreign.adoption import build_foreign


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The hub is an address that takes connections and never answers, and its cache is empty."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        # Read from the environment once, when the hub's client is imported, and used from where they then stand.
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(pretrained, "PATIENCE", 0.5)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield address


def cached(model: str, hub: Path) -> dict[str, torch.Tensor]:
    """Weights of a model in the hub's cache, as a download leaves them; gives them."""
    torch.manual_seed(3)
    state = timm.create_model(model).state_dict()
    folder = hub / f"models--{timm.get_pretrained_cfg(model).hf_hub_id.replace('/', '--')}"
    (folder / "snapshots" / "0123").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123")
    save_file(state, folder / "snapshots" / "0123" / "model.safetensors")
    return state


def test_a_server_that_never_answers_is_one_line(silent: str) -> None:
    """Unpatched it takes 83 seconds and more for each file that timm looks for."""
    with pytest.raises(ValueError, match=r"timm cannot build resnet10t: its weights are not on this machine") as caught:
        build_foreign("timm:resnet10t", pretrained=True)
    assert f"and {silent.removeprefix('http://')} does not answer" in str(caught.value)
    assert not constants.HF_HUB_OFFLINE


def test_weights_of_this_machine_need_no_server(silent: str, tmp_path: Path) -> None:
    state = cached("resnet10t", tmp_path / "hub")
    network = build_foreign("timm:resnet10t", 1000, pretrained=True)
    assert torch.equal(network.state_dict()["stem.conv1.0.weight"], state["conv1.0.weight"])
    assert not constants.HF_HUB_OFFLINE


def test_waiting_for_a_name_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up takes no time limit of its own."""
    monkeypatch.setattr(pretrained, "PATIENCE", 0.1)
    end, waited = Event(), []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: waited.append(end.wait(30)))
    assert not pretrained.answers("http://weights.invalid")
    assert not waited
    end.set()


def test_any_answer_is_one() -> None:

    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # knows no method: 501
        Thread(target=server.handle_request, daemon=True).start()
        assert pretrained.answers(f"http://127.0.0.1:{server.server_port}")


def test_weights_at_an_address_of_their_own(silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of older models are no files of the hub."""
    config = SimpleNamespace(hf_hub_id=None, url=f"{silent}/weights/old-0123.pth")
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="not on this machine"), pretrained.loading_weights("old"):
        pytest.fail("nothing is to be tried")
    (tmp_path / "checkpoints").mkdir()
    os.mknod(tmp_path / "checkpoints" / "old-0123.pth")
    with pretrained.loading_weights("old"):
        pass
