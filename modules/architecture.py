"""What the registry knows of an architecture besides how to build it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Literal

from modules.blocks.network import Network
from modules.training.recipe import Recipe

Task = Literal["classify", "segment", "localise"]
Builder = Callable[..., Network]


@dataclass(frozen=True)
class Architecture:
    """A named architecture; calling it builds the network, as `modules.build` does.

    builder: a function of (num_classes, in_channels, **arguments). fixed: arguments that the name says and nobody may
    change. paper: authors, year, arXiv number. recipe: how it is trained unless told otherwise. image_size,
    in_channels, num_classes: of the published input and output, in pixels, channels and classes.
    """

    builder: Builder
    paper: str
    recipe: Recipe
    fixed: Mapping[str, object] = field(default_factory=dict)
    image_size: int = 32
    in_channels: int = 3
    num_classes: int = 10
    task: Task = "classify"

    def __call__(self, num_classes: int = 10, in_channels: int = 3, **arguments: object) -> Network:
        return self.builder(num_classes=num_classes, in_channels=in_channels, **{**self.fixed, **arguments})

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """What the builder takes besides num_classes and in_channels."""
        found = inspect.signature(self.builder).parameters
        return {name: p for name, p in found.items() if name not in ("num_classes", "in_channels")}


def taking(name: str, design: Any, *fields: str) -> Callable[[Builder], Builder]:
    """A builder that takes fields of a dataclass as arguments of their own, in the place of its argument `name`.

    design: their defaults, and the values of what cannot be given. fields: those that can, all if none are named.
    """
    given = fields or tuple(each.name for each in dataclasses.fields(design))

    def decorate(builder: Builder) -> Builder:
        @wraps(builder)
        def build(*sizes: int, **arguments: Any) -> Network:
            chosen = {key: arguments.pop(key) for key in given if key in arguments}
            return builder(*sizes, **arguments, **{name: dataclasses.replace(design, **chosen)})

        signature = inspect.signature(builder)
        own = [parameter for key, parameter in signature.parameters.items() if key != name]
        single = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=getattr(design, key)) for key in given]
        build.__signature__ = signature.replace(parameters=[*own, *single])  # type: ignore[attr-defined]
        return build

    return decorate
