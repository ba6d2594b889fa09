"""Networks that this suite did not build, from timm or torchvision, as stem, named blocks and head.

Blocks are found by what the model's forward does (`modules.foreign.units`), not by its classes. Every parameter and
buffer stays the model's own tensor, so weights are loaded into the model before (or after) it is adopted, under the
names they were saved with. Nothing is taken on trust: the network's logits must equal the model's to the last bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from modules.blocks.block import Block, Merge, shape_match
from modules.blocks.network import Network, evaluating
from modules.errors import first_line
from modules.foreign.libraries import example_for, library_model
from modules.foreign.sections import stride
from modules.foreign.traced import Maker, Part
from modules.foreign.units import Anatomy, anatomy
from modules.weights import load_weights

Key = tuple[str, str]  # of a part: the block's name, and which of its parts
STEM, HEAD = ("", "stem"), ("", "head")


def adopt(model: nn.Module, example: Tensor) -> Network:
    """Expresses a model as a `Network` that shares all its parameters and buffers.

    example: an input of the model, (N, C, H, W) with N > 1, on the model's device; used to find the units and to check
    that the logits are equal. Blocks carry the model's own names, with underscores for dots (layer1_0, blocks_3_attn).
    In-place activations of the model are set to work out of place, which changes no value.
    Raises ValueError, in one line, if the model's forward is not a chain of units.
    """
    for module in model.modules():
        if getattr(module, "inplace", False):  # would overwrite what a deleted block, a probe or a hook still reads
            setattr(module, "inplace", False)  # noqa: B010
    try:
        network = _network(model, *anatomy(model, example))
        own = set(model.modules())
        for module in network.modules():
            if module not in own:
                module.training = model.training
        _check_equal(model, network, example)
    except ValueError as error:
        raise ValueError(f"{_type(model)} cannot be divided into blocks: {error}") from error
    return network


def _network(model: nn.Module, found: Anatomy, training: Anatomy | None) -> Network:
    """The network of the units that were found, in evaluation and in training."""
    maker = Maker(model, found.graph)
    parts, others = _parts(found), _parts(training) if training is not None else {}
    carries = _carried(maker, parts)
    carries_in_training = _carried(maker, others)

    def module(key: Key) -> nn.Module | None:
        other = (others[key], carries_in_training.get(key, [])) if training is not None else None
        return maker.module(parts[key], carries.get(key, []), other)

    def alone(key: Key) -> nn.Module | None:
        """A module of the model itself, where the part is no more than that."""
        found = module(key)
        return found[0] if isinstance(found, nn.Sequential) and len(found) == 1 else found

    blocks: OrderedDict[str, Block] = OrderedDict()
    for unit in found.units:
        before, after = unit.start.meta["shape"], unit.branch[-1].meta["shape"]
        shortcut, post = alone((unit.name, "shortcut")), module((unit.name, "post"))
        branch = module((unit.name, "branch"))
        merge: Merge = "concat" if unit.section.kind == "concat" else "add"
        if unit.section.kind == "step":
            merge, post = "replace", alone((unit.name, "post"))
            if not unit.is_convolution:
                branch = alone((unit.name, "branch"))
            if before != after:
                shortcut = shape_match(before[1], after[1], stride(before, after) or 1)
        assert branch is not None
        blocks[unit.name] = Block(
            branch,
            shortcut,
            pre=module((unit.name, "pre")),
            post=post,
            merge=merge,
            changes_shape=merge != "concat" and before != after,
            branch_channels=after[1] if merge == "concat" else 0,
        )
    return Network(module(STEM) or nn.Identity(), blocks, module(HEAD) or nn.Identity())


def build_foreign(
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    pretrained: bool = False,
    weights: str | Path | None = None,
    told: Callable[[str], object] = lambda taken: None,
    image_size: int | None = None,
    undivided: Callable[[str], object] | None = None,
    **arguments: object,
) -> Network:
    """Builds a model of timm or torchvision, `timm:resnet18` or `torchvision:resnet18`, as a `Network`.

    pretrained: load the library's own weights, through it (may need the internet). weights: a file saved for the model,
    under its own names; told: is given what of it was taken. image_size: for models that are built for one size.
    undivided: is given in one line why a model cannot be divided, which is then taken whole, as a network without
    blocks, whose head it is; by default such a model is refused.
    arguments: the library's own, e.g. drop_path_rate. Raises ValueError for a name or argument that the library does
    not know, weights that do not fit, or a model that cannot be divided into blocks.
    """
    model = library_model(name, num_classes, in_channels, pretrained, image_size, **arguments)
    if weights is not None:
        told(load_weights(model, weights))
    try:
        return adopt(model, example_for(model, in_channels, image_size))
    except ValueError as error:
        if undivided is None:
            raise
        undivided(str(error))
        return Network(nn.Identity(), {}, model)


def _type(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"


def _parts(found: Anatomy) -> dict[Key, Part]:
    """The parts of every block and of stem and head, in the order in which they are run."""
    start = next(iter(found.graph.nodes))
    parts = {STEM: Part(start, found.stem[-1] if found.stem else start, found.stem)}
    end = parts[STEM].end
    for unit in found.units:
        section = unit.section
        shortcut = section.operands[0] if section.operands else unit.start
        branch = section.operands[1] if section.operands else unit.end
        scope = unit.path if section.kind != "step" else unit.path.rpartition(".")[0]
        parts[unit.name, "pre"] = Part(end, unit.start, unit.pre, scope)
        parts[unit.name, "shortcut"] = Part(unit.start, shortcut, section.shortcut, scope)
        parts[unit.name, "branch"] = Part(unit.start, branch, unit.branch, scope)
        end = unit.post[-1] if unit.post else unit.end
        parts[unit.name, "post"] = Part(unit.end, end, unit.post, scope)
    output = list(found.graph.nodes)[-1].args[0]
    assert isinstance(output, fx.Node)
    parts[HEAD] = Part(end, output, found.head)
    return parts


def _carried(maker: Maker, parts: dict[Key, Part]) -> dict[Key, list[fx.Node]]:
    """The sizes that cross from one part to another, by the part that reads them: one that every route runs."""
    found: dict[Key, list[fx.Node]] = {}
    for part in parts.values():
        for node in maker.needs(part):
            (read,) = node.all_input_nodes
            owners = [key for key, each in parts.items() if read is each.start or read in each.nodes]
            always = [key for key in owners if key[1] not in ("shortcut", "branch")]
            if not always:
                raise ValueError(f"{part.scope or 'its head'} needs a size from inside {owners[0][0]}")
            if node not in found.setdefault(always[0], []):
                found[always[0]].append(node)
    return found


def _check_equal(model: nn.Module, network: Network, example: Tensor) -> None:
    """Compares the logits in evaluation mode: of the example, and of more images, of another size if they fit."""
    larger = torch.randn(
        example.shape[0] + 1, example.shape[1], example.shape[2] + 32, example.shape[3] + 32,
        generator=torch.Generator().manual_seed(1),
    ).to(example)  # fmt: skip
    with evaluating(model), evaluating(network), torch.no_grad(), _nothing_hidden(model):
        for images in (example, larger):
            try:
                expected = model(images)
            except Exception:  # whatever a layer raises for an input it was not made for
                images = torch.cat([example, example[:1]])
                expected = model(images)
            try:
                found = network(images)
            except Exception as error:
                raise ValueError(f"run in parts, it fails ({first_line(error)})") from error
            if not torch.equal(expected, found):
                raise ValueError(f"run in parts, it gives other logits for images {tuple(images.shape)}")


@contextmanager
def _nothing_hidden(model: nn.Module) -> Iterator[None]:
    """Fills parameters that are all zero until exit: a last layer that begins at zero gives equal logits for anything.

    Call it under `torch.no_grad`.
    """
    zeros = [parameter for parameter in model.parameters() if not parameter.any()]
    generator = torch.Generator().manual_seed(2)
    try:
        for parameter in zeros:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
        yield
    finally:
        for parameter in zeros:
            parameter.zero_()
