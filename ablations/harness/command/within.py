"""What may wait for ever is waited for no longer than a given time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def within(seconds: float, action: Callable[..., object], *arguments: Any) -> None:
    """Carries out the action in a thread, which is left alone after that time with a TimeoutError here."""
    raised: list[BaseException] = []

    def act() -> None:
        try:
            action(*arguments)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:.0f} s")
    if raised:
        raise raised[0]
