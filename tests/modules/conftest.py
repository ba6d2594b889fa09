"""What the tests of every family share."""

from collections.abc import Callable

import pytest

from modules import build


@pytest.fixture
def lacking() -> Callable[..., list[str]]:
    """Builds a network that cannot be built; gives the words that the one line of its ValueError lacks."""

    def refuse(name: str, arguments: dict[str, object], named: list[str]) -> list[str]:
        with pytest.raises(ValueError) as caught:
            build(name, **arguments)
        message = str(caught.value)
        assert "\n" not in message
        return [word for word in named if word not in message]

    return refuse
