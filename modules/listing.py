"""The catalogue: every registered network with its paper, cost and recipe, and the blocks of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from modules.architecture import Architecture
from modules.blocks.cost import Cost, cost, cost_by_part
from modules.blocks.features import shapes
from modules.blocks.meta import QuickShapes
from modules.blocks.network import Network
from modules.catalogue import ARCHITECTURES, build, resolve
from modules.foreign.libraries import is_foreign, library_model
from modules.training.recipe import Recipe

Row = Mapping[str, str | int | bool | list[int]]


def networks() -> list[Row]:
    """One row for each registered network, as published: name, paper, parameters, multiply-adds, input, blocks, recipe.

    Counted on the meta device, without memory. multiply_adds: per sample; input: channels, height, width in pixels.
    """
    rows: list[Row] = []
    known: dict[str, tuple[Cost, int]] = {}  # several names may stand for one network
    for name, architecture in ARCHITECTURES.items():
        same = f"{resolve(name)} {architecture.num_classes} {_input(architecture)}"
        if same not in known:
            network = _published(name)
            known[same] = cost(network, _input(architecture)), len(network.blocks)
        counted, num_blocks = known[same]
        rows.append(
            {
                "name": name,
                "paper": architecture.paper,
                "parameters": counted.parameters,
                "multiply_adds": counted.multiply_adds,
                "input": list(_input(architecture)),
                "blocks": num_blocks,
                "recipe": in_words(architecture.recipe),
            }
        )
    return rows


def blocks(name: str) -> list[Row]:
    """One row for the stem, each block and the head: name, merge, output, parameters, multiply-adds, changes_shape.

    output: shape for one sample of the published input. Raises ValueError for an unknown name.
    """
    network = _published(name)
    input_shape = _input(ARCHITECTURES[name])
    outputs = shapes(network, input_shape)
    rows: list[Row] = []
    for part, counted in cost_by_part(network, input_shape).items():
        block = network.block(part) if part in network.blocks else None
        rows.append(
            {
                "name": part,
                "merge": block.merge if block else "",
                "output": list(outputs[part]),
                "parameters": counted.parameters,
                "multiply_adds": counted.multiply_adds,
                "changes_shape": block is not None and block.changes_shape,
            }
        )
    return rows


def keys(name: str) -> list[Row]:
    """One row for each name of the state dict that weights for this network must have: name, shape, type.

    As published, so that the last layer and the first may have other sizes on other data. A model of timm or
    torchvision, `timm:NAME`, has its library's names. Raises ValueError for an unknown name.
    """
    state = (library_model(name) if is_foreign(name) else _published(name)).state_dict()
    return [
        {"name": key, "shape": list(t.shape), "type": str(t.dtype).removeprefix("torch.")} for key, t in state.items()
    ]


def in_words(recipe: Recipe) -> str:
    """A recipe on one line."""
    schedule: str = recipe.schedule
    if schedule == "milestones":
        times = "+".join(f"{100 * m:.3g}" for m in recipe.milestones)
        schedule = f"x{recipe.milestone_factor:g} at {times} %" if times else "constant"
    momentum = f"{'nesterov' if recipe.nesterov else 'momentum'} {recipe.momentum:g}"
    return (
        f"{recipe.epochs} epochs of {recipe.batch_size}, lr {recipe.learning_rate:g} {schedule}, "
        f"{momentum}, decay {recipe.weight_decay:g}"
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned plain text under their common keys; numbers to the right."""
    lines = [list(rows[0]), *([_cell(key, value) for key, value in row.items()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    to_the_right = [isinstance(value, int) and not isinstance(value, bool) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_the_right, strict=True)
        ).rstrip()
        for line in lines
    )


def _published(name: str) -> Network:
    architecture = ARCHITECTURES.get(name)
    sizes = (architecture.num_classes, architecture.in_channels) if architecture else ()
    with torch.device("meta"), QuickShapes():
        return build(name, *sizes).eval()


def _input(architecture: Architecture) -> tuple[int, int, int]:
    return architecture.in_channels, architecture.image_size, architecture.image_size


def _cell(key: str, value: object) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value))
    if key == "multiply_adds" and isinstance(value, int):
        unit, letter = next(((u, c) for u, c in ((1e9, "G"), (1e6, "M")) if value >= u), (1e3, "K"))
        return f"{value / unit:,.2f} {letter}"
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)
