"""The one error that means: the data, or the way it was asked for, is wrong; and the words of other people's errors."""


class DataError(ValueError):
    """Raised with one line that says what is wrong, where, and what is allowed or how to get it.

    Names of files may hold line breaks and other characters that no terminal should get; they are written as escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


def one_line(error: BaseException) -> str:
    """The message of a foreign error without its line breaks, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
