"""Data files of every layout, damaged byte by byte and wrong by construction."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from refusals import assert_refused, assert_taken, examples
from written_files import encoded, idx, random_images, write_folder, write_parquet

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
SPLITS = ("train", "test")
COUNT = 12


VALID = {form: encoded(random_images(1, 8)[0], form) for form in FORMATS}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes changed, cut off, left out or doubled; now and then nothing but noise or nothing at all."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["change", "cut", "leave out", "double", "ones", "noise"]))
        if how == "change" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif how == "cut":
            del data[at:]
        elif how == "leave out":
            del data[at : at + draw(st.integers(1, 16))]
        elif how == "double":
            data[at:at] = data[at : at + 64]
        elif how == "ones":
            data[at : at + 4] = b"\xff" * 4
        else:
            data = bytearray(draw(st.binary(max_size=200)))
    return bytes(data)


def write_folders(root: Path) -> Path:
    return write_folder(root, [(8, 8)] * (COUNT // 2), ("cat", "dog"))


def test_good_data_are_taken(tmp_path: Path) -> None:
    for form in FORMATS:
        for split in SPLITS:
            write_parquet(tmp_path / f"{split}-0.parquet", [VALID[form]] * COUNT, [0, 1] * (COUNT // 2))
        assert_taken(["--data=parquet", f"--data-root={tmp_path}"])
    assert_taken(["--data=folder", f"--data-root={write_folders(tmp_path / 'images')}"])
    write_idx(tmp_path, IDX)
    assert_taken(["--data=mnist", f"--data-root={tmp_path}"])


@pytest.mark.parametrize("content", [b"", b"no such file"])
def test_what_is_no_file_of_its_kind_is_never_taken(tmp_path: Path, content: bytes) -> None:
    """Beside bytes damaged at random, of which some are still good, so that a test may not ask for a refusal."""
    for split in SPLITS:
        write_parquet(tmp_path / f"{split}-0.parquet", [content] * COUNT, [0, 1] * (COUNT // 2))
    assert_refused(["--data=parquet", f"--data-root={tmp_path}"], f"{tmp_path}/", "-0.parquet, row 0")
    (tmp_path / "test-0.parquet").write_bytes(content)
    assert_refused(["--data=parquet", f"--data-root={tmp_path}"], f"{tmp_path}/test-0.parquet: not a readable")
    image = write_folders(tmp_path / "images") / "train" / "dog" / "3.png"
    image.write_bytes(content)
    assert_refused(["--data=folder", f"--data-root={tmp_path}/images"], f"{image}: not a readable image")
    for name in IDX:
        assert_refused_as_idx(name, content)


# --- parquet ---


@examples(40)
@given(st.data(), st.sampled_from(FORMATS), st.integers(0, COUNT - 1), st.sampled_from(SPLITS))
def test_damaged_images_in_parquet(data: st.DataObject, form: str, row: int, split: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for each in SPLITS:
            images = [VALID[form]] * COUNT
            if each == split:
                images[row] = data.draw(damaged(VALID[form]))
            write_parquet(Path(folder) / f"{each}-0.parquet", images, [0, 1] * (COUNT // 2))
        assert_refused(["--data=parquet", f"--data-root={folder}"], f"{folder}/{split}-0", may_be_good=True)


@examples(40)
@given(st.data(), st.sampled_from(SPLITS))
def test_damaged_parquet(data: st.DataObject, split: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for each in SPLITS:
            file = write_parquet(Path(folder) / f"{each}-0.parquet", [VALID["PNG"]] * COUNT, [0, 1] * (COUNT // 2))
            if each == split:
                file.write_bytes(data.draw(damaged(file.read_bytes())))
        assert_refused(["--data=parquet", f"--data-root={folder}"], f"{folder}/{split}-0", may_be_good=True)


LABELS = st.integers(-(2**63), -1) | st.integers(1000, 2**63 - 1)


@examples(15)
@given(LABELS, st.integers(0, COUNT - 1), st.sampled_from(SPLITS))
def test_labels_in_parquet(label: int, row: int, split: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for each in SPLITS:
            labels = [0, 1] * (COUNT // 2)
            if each == split:
                labels[row] = label
            write_parquet(Path(folder) / f"{each}-0.parquet", [VALID["PNG"]] * COUNT, labels)
        assert_refused(["--data=parquet", f"--data-root={folder}"], folder)


VALUES = {
    "bytes": (pa.binary(), b"x"),
    "text": (pa.string(), "x"),
    "number": (pa.float32(), 1.0),
    "list": (pa.large_list(pa.binary()), [b"x"]),
    "nothing": (pa.null(), None),
    "struct of text": (pa.struct([("bytes", pa.string())]), {"bytes": "x"}),
    "struct of nothing": (pa.struct([("bytes", pa.binary())]), {"bytes": None}),
    "struct of lists": (pa.struct([("bytes", pa.list_(pa.int8()))]), {"bytes": [1]}),
    "no struct": (pa.struct([("bytes", pa.binary())]), None),
    "words": (pa.dictionary(pa.int8(), pa.string()), "x"),
}


@examples(25)
@given(
    st.dictionaries(
        st.sampled_from(["image", "label", "img", "fine_label", "a.b", "", "bytes"]),
        st.sampled_from(sorted(VALUES)),
        max_size=3,
    ),
    st.integers(0, 3),
)
def test_columns_of_parquet(columns: dict[str, str], rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for split in SPLITS:
            made = {name: pa.array([VALUES[kind][1]] * rows, VALUES[kind][0]) for name, kind in columns.items()}
            pq.write_table(pa.table(made), Path(folder) / f"{split}-0.parquet")
        assert_refused(["--data=parquet", f"--data-root={folder}"], folder)


# --- class folders ---


@examples(30)
@given(st.data(), st.sampled_from(FORMATS), st.sampled_from(SPLITS))
def test_damaged_images_in_folders(data: st.DataObject, form: str, split: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write_folders(Path(folder) / "images")
        (image := root / split / "dog" / "3.png").write_bytes(data.draw(damaged(VALID[form])))
        assert_refused(["--data=folder", f"--data-root={root}"], str(image), may_be_good=True)


MODES = {"RGBA": "PNG", "LA": "PNG", "I;16": "PNG", "I": "TIFF", "F": "TIFF", "L": "PNG", "1": "PNG", "CMYK": "TIFF"}


@examples(15)
@given(st.sampled_from(sorted(MODES)), st.sampled_from([1, 7, 8, 9, 64]), st.sampled_from(SPLITS))
def test_other_images_in_folders(mode: str, size: int, split: str) -> None:
    if mode == "CMYK" and size == 8:
        size = 9  # or it would be read as the others are
    with tempfile.TemporaryDirectory() as folder:
        root = write_folders(Path(folder) / "images")
        image = Image.new("L", (size, size)).convert(mode) if mode != "CMYK" else Image.new(mode, (size, size))
        image.save(root / split / "dog" / "3.png", MODES[mode])
        assert_refused(["--data=folder", f"--data-root={root}"], str(root))


SPECIAL = {
    "pipe": os.mkfifo,
    "device": lambda file: os.symlink("/dev/zero", file),
    "loop": lambda file: os.symlink(file, file),
    "parent": lambda file: os.symlink("..", file),
    "nowhere": lambda file: os.symlink("nowhere", file),
    "folder": os.mkdir,
    "junk": lambda file: Path(os.fsdecode(file)).write_bytes(b"junk"),
}
NAMES = [b"x.png", b"\xff\xfe.png", b"two\nlines.png", b"\x1b[31m.jpg", b" .gif", "ümläut.bmp".encode()]
NAMES.append(b"x" * 235 + b".png")


@examples(35)
@given(
    st.sampled_from(sorted(SPECIAL)),
    st.sampled_from(NAMES),
    st.sampled_from(SPLITS),
    st.sampled_from(["folder", "parquet"]),
)
def test_entries_that_are_no_images(what: str, name: bytes, split: str, layout: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if layout == "folder":
            root = write_folders(Path(folder) / "images")
            SPECIAL[what](os.fsencode(root / split / "dog") + b"/" + name)
        else:
            root = Path(folder)
            for each in SPLITS:
                write_parquet(root / f"{each}-0.parquet", [VALID["PNG"]] * COUNT, [0, 1] * (COUNT // 2))
            SPECIAL[what](os.fsencode(root) + b"/" + split.encode() + b"-" + name.rpartition(b".")[0] + b".parquet")
        assert_refused([f"--data={layout}", f"--data-root={root}"], str(root))


@examples(20)
@given(
    st.sampled_from(["cifar10", "cifar100", "svhn", "mnist", "folder", "parquet", "house_numbers", "birds"]),
    st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=40)
    | st.sampled_from(["x" * 300, "x/" * 3000, "/dev/zero", "/dev/null", "/proc/self/mem", ".", "..", "loop"]),
)
def test_roots_of_data(name: str, root: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "loop").symlink_to("loop")
        (Path(folder) / "empty").mkdir()
        assert_refused(
            [f"--data={name}", f"--data-root={folder}/empty/{root}" if root != ".." else f"--data-root={folder}"],
            folder,
        )


# --- idx files ---


IDX = {
    "train-images-idx3-ubyte": idx(np.zeros((COUNT, 8, 8))),
    "train-labels-idx1-ubyte": idx(np.arange(COUNT) % 10),
    "t10k-images-idx3-ubyte": idx(np.zeros((COUNT, 8, 8))),
    "t10k-labels-idx1-ubyte": idx(np.arange(COUNT) % 10),
}


def write_idx(root: Path, files: dict[str, bytes]) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)


def assert_refused_as_idx(name: str, content: bytes, may_be_good: bool = False) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder), {**IDX, name: content})
        assert_refused(["--data=mnist", f"--data-root={folder}"], folder, may_be_good=may_be_good)


@examples(30)
@given(st.data(), st.sampled_from(sorted(IDX)))
def test_damaged_idx(data: st.DataObject, name: str) -> None:
    assert_refused_as_idx(name, data.draw(damaged(IDX[name])), may_be_good=True)


@examples(25)
@given(
    st.sampled_from(sorted(IDX)),
    st.integers(0, 2**32 - 1) | st.sampled_from([0x801, 0x802, 0x803, 0x804, 0xD03, 0xE03, 0x1F8B0808]),
    st.lists(st.integers(0, 2**31 - 1) | st.sampled_from([0, 1, 14, 28, 2_000_000]), max_size=4),
    st.binary(max_size=300),
)
def test_idx_headers(name: str, magic: int, shape: list[int], content: bytes) -> None:
    header = magic.to_bytes(4, "big") + b"".join(size.to_bytes(4, "big") for size in shape)
    assert_refused_as_idx(name, header + content)


@examples(10)
@given(st.sampled_from(["train", "t10k"]), st.integers(1, 60).filter(lambda size: size != 8), st.booleans())
def test_idx_of_other_sizes(split: str, size: int, square: bool) -> None:
    assert_refused_as_idx(f"{split}-images-idx3-ubyte", idx(np.zeros((COUNT, size, size if square else 8))))
