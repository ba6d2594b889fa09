"""Architectures on one block equation. `build(name)` gives a network; `ARCHITECTURES` is the registry.

Importing this package costs nothing: torch and the families come with the first name that is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modules.architecture import Architecture
    from modules.blocks.block import Block
    from modules.blocks.network import Network
    from modules.blocks.surgery import removed, reordered, routed, set_survival
    from modules.catalogue import ARCHITECTURES, build, fitted, recipe_for, resolve

__all__ = [
    "ARCHITECTURES", "Architecture", "Block", "Network", "build", "fitted", "recipe_for", "removed", "reordered",
    "resolve", "routed", "set_survival",
]  # fmt: skip

_HOMES = {
    "Block": "blocks.block",
    **dict.fromkeys(("removed", "reordered", "routed", "set_survival"), "blocks.surgery"),
}
"""Where a name stands that `catalogue` does not have."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'catalogue')}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
