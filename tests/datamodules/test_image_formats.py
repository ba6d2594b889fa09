"""What is opened as an image: a fixed list of formats, whose every pixel survives; junk is named wherever it lies."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from written_files import encoded, random_images, write_parquet

import datamodules
from datamodules.sources.decoding import FORMATS

SPLITS = ("train", "test")
Complaint = Callable[..., str]


# --- what is opened ---


def postscript(folder: Path) -> bytes:
    """A picture that is a program: whoever runs it leaves a file behind."""
    (folder / "pets.ps").touch()
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n%%EndComments\n"
        b"(" + bytes(folder / "sprung") + b") (w) file closefile\nshowpage\n%%EOF\n"
    )


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `gs` that says when it was started; the file it then leaves."""
    sprung = tmp_path / "sprung"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{sprung}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # asked for again
    return sprung


@pytest.mark.parametrize("row", [0, 7])
def test_no_program_is_started_for_a_picture(
    tmp_path: Path, pets: Path, ghostscript: Path, row: int, complaint: Complaint
) -> None:
    images = [encoded(image) for image in random_images(16)]
    images[row] = postscript(tmp_path)
    for split in SPLITS:
        write_parquet(tmp_path / "tiny" / f"{split}-0.parquet", images, [0, 1] * 8)
    said = complaint("parquet", tmp_path / "tiny")
    assert said.endswith(f"train-0.parquet, row {row}: not a readable image (unknown format)")
    name = "0.jpg" if row else "0.png"
    (pets / "train" / "cat" / name).write_bytes(postscript(tmp_path))
    assert f"{name}: not a readable image (unknown format)" in complaint("folder", pets)
    assert not ghostscript.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read(pets: Path, form: str) -> None:
    for split in SPLITS:
        for file in (pets / split).rglob("*.png"):
            file.write_bytes(encoded(random_images(1, 12)[0], form))
    assert datamodules.load("folder", pets).image_size == 12


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def animation(form: str) -> bytes:
    first, *more = [Image.fromarray(image) for image in random_images(3, 12)]
    return saved(first, form, save_all=True, append_images=more)


def deep_png() -> bytes:
    """Colours of 16 bits, which PIL reads as 8 without a word."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 12, 12, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(72)) for _ in range(12))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PALETTE = Image.new("P", (12, 12))
LOSSY = {
    "animated GIF": (lambda: animation("GIF"), "several pictures in one file"),
    "animated PNG": (lambda: animation("PNG"), "several pictures in one file"),
    "animated WebP": (lambda: animation("WEBP"), "several pictures in one file"),
    "pages of a TIFF": (lambda: animation("TIFF"), "several pictures in one file"),
    "16 bits of colour": (deep_png, "16 bits per colour; allowed: 8"),
    "16 bits of colour in a PPM": (lambda: b"P6 12 12 65535\n" + bytes(864), "16 bits per colour; allowed: 8"),
    "16 bits of grey": (lambda: saved(Image.new("I;16", (12, 12)), "PNG"), "PIL mode I;16; allowed: 1, L"),
    "a transparent colour": (lambda: saved(PALETTE, "PNG", transparency=0), "transparent pixels; allowed: opaque"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_nothing_is_lost_without_a_word(pets: Path, name: str, complaint: Complaint) -> None:
    make, message = LOSSY[name]
    (pets / "train" / "cat" / "2.png").write_bytes(make())
    assert f"2.png: {message}" in complaint("folder", pets)


def test_a_photograph_with_a_preview_is_one_picture(pets: Path) -> None:
    for split in SPLITS:
        for file in (pets / split).rglob("*.png"):
            file.write_bytes(animation("MPO"))
    assert datamodules.load("folder", pets).image_size == 12


def bomb() -> bytes:
    """A header that claims 10^10 pixels."""
    data = bytearray(deep_png())
    data[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(data)


JUNK = {"empty": b"", "text": b"no picture", "half": encoded(random_images(1, 12)[0])[:60], "bomb": bomb()}


@pytest.mark.parametrize("row", [0, 7])
@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_named_wherever_it_is(tmp_path: Path, row: int, junk: str, complaint: Complaint) -> None:
    images = [encoded(image) for image in random_images(16)]
    images[row] = JUNK[junk]
    for split in SPLITS:
        write_parquet(tmp_path / "tiny" / f"{split}-0.parquet", images, [0, 1] * 8)
    assert f"train-0.parquet, row {row}: not a readable image (" in complaint("parquet", tmp_path / "tiny")
