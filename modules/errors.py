"""What an error of other people's code says, for a line of our own."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of the error's message that is not blank, or the name of its class if there is none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
