"""Weights files of every kind, damaged byte by byte and wrong by construction."""

import io
import json
import os
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import assert_refused, assert_taken, examples
from safetensors.torch import save
from test_bad_data import damaged

from modules import build

NETWORK = "resnet20"
STATE = {name: tensor.clone() for name, tensor in build(NETWORK, 10, 1).state_dict().items()}
NAMES = sorted(STATE)


def pickled(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


VALID = {".safetensors": save(STATE), ".pt": pickled(STATE)}


def assert_refused_as_weights(suffix: str, content: bytes, may_be_good: bool = False) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"weights{suffix}"
        file.write_bytes(content)
        assert_refused([f"--network={NETWORK}", f"--weights={file}"], str(file), may_be_good=may_be_good)


def test_good_weights_are_taken(tmp_path: Path) -> None:
    for suffix, content in VALID.items():
        (tmp_path / f"weights{suffix}").write_bytes(content)
        assert_taken([f"--network={NETWORK}", f"--weights={tmp_path / f'weights{suffix}'}"])


@pytest.mark.parametrize("suffix", sorted(VALID))
@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_what_are_no_weights_are_never_taken(suffix: str, content: bytes) -> None:
    assert_refused_as_weights(suffix, content)


@examples(25)
@given(st.data(), st.sampled_from(sorted(VALID)))
def test_damaged_weights(data: st.DataObject, suffix: str) -> None:
    assert_refused_as_weights(suffix, data.draw(damaged(VALID[suffix])), may_be_good=True)


@examples(15)
@given(st.sampled_from([0, 1, 7, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2000), st.binary(max_size=200))
def test_headers_of_safetensors(length: int, content: bytes) -> None:
    assert_refused_as_weights(".safetensors", length.to_bytes(8, "little") + content)


@examples(15)
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F4", "I64", "U8", "??", None]),
                "shape": st.lists(st.integers(-1, 2**62), max_size=3),
                "data_offsets": st.lists(st.integers(-1, 2**62), min_size=1, max_size=3),
            }
        )
        | st.none(),
        max_size=3,
    )
)
def test_tables_of_safetensors(table: dict[str, object]) -> None:
    text = json.dumps(table).encode()
    assert_refused_as_weights(".safetensors", len(text).to_bytes(8, "little") + text + bytes(64))


KINDS = {
    "complex": lambda t: t.to(torch.complex64),
    "sparse": lambda t: t.to_sparse(),
    "quantised": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "meta": lambda t: t.to("meta"),
    "not a number": lambda t: t * float("nan"),
    "endless": lambda t: t + float("inf"),
    "text": lambda t: "weights",
    "number": lambda t: 3,
    "list": lambda t: [t],
    "none": lambda t: None,
    "other shape": lambda t: torch.cat([t, t]),
    "scalar": lambda t: t.mean(),
    "empty": lambda t: t[:0],
    "bool": lambda t: t > 0,
}


@examples(25)
@given(st.sampled_from([n for n in NAMES if n.endswith("weight")]), st.sampled_from(sorted(KINDS)))
def test_tensors_of_other_kinds(name: str, kind: str) -> None:
    assert_refused_as_weights(".pt", pickled({**STATE, name: KINDS[kind](STATE[name])}))


@examples(15)
@given(
    st.sampled_from([n for n in NAMES if not n.endswith("num_batches_tracked")]), st.text(max_size=12), st.booleans()
)
def test_names_of_other_networks(name: str, other: str, is_more: bool) -> None:
    state = dict(STATE)
    tensor = state[name] if is_more else state.pop(name)
    assert_refused_as_weights(".pt", pickled({**state, f"no.{other}": tensor}))


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["state_dict", "model", "ema", "a", "module.b"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(20)
@given(NESTED, st.booleans())
def test_pickles_of_other_things(content: object, by_torch: bool) -> None:
    assert_refused_as_weights(".pt", pickled(content) if by_torch else pickle.dumps(content))


def test_networks_are_no_state_dicts() -> None:
    network = torch.nn.Linear(2, 2)
    scripted = io.BytesIO()
    torch.jit.save(torch.jit.script(network), scripted)
    for content in (pickled(network), scripted.getvalue(), pickle.dumps(STATE[NAMES[0]])):
        assert_refused_as_weights(".pt", content)


@examples(10)
@given(
    st.sampled_from(
        ["", ".", "/dev/zero", "/dev/null", "loop", "pipe", "x" * 300, "x/" * 3000, "random ", "Pretrained"]
    )
)
def test_paths_of_weights(path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "loop").symlink_to("loop")
        os.mkfifo(Path(folder) / "pipe")
        where = path if path.startswith(("/dev", "random", "Pre")) or not path else f"{folder}/{path}"
        assert_refused([f"--network={NETWORK}", f"--weights={where}"])
