"""The one error that means: the data, or the way it was asked for, is wrong; the program is not."""


class DataError(ValueError):
    """Raised with one line that says what is wrong, where, and what is allowed or how to get it."""
