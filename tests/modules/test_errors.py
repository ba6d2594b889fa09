"""The words of other people's errors: one line, and never none."""

import io

import pytest
from PIL import Image

from datamodules.errors import DataError, one_line
from datamodules.sources.decoding import opened
from modules.errors import first_line


@pytest.mark.parametrize(("message", "first", "whole"), [
    ("", "AssertionError", "AssertionError"),
    (" \n", "AssertionError", "AssertionError"),
    ("\n  expected 4\ngot 3", "expected 4", "expected 4 got 3"),
])  # fmt: skip
def test_words_of_an_error(message: str, first: str, whole: str) -> None:
    assert first_line(AssertionError(message)) == first
    assert one_line(AssertionError(message)) == whole


def test_an_error_of_a_reader_without_a_message_is_named() -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "PNG")
    with (
        pytest.raises(DataError, match=r"^photo: not a readable image \(MemoryError\)$"),
        opened(file.getvalue(), "photo"),
    ):
        raise MemoryError
