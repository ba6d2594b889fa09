"""The units of a model, found by what its forward does: what a stage repeats and can do without.

A unit is a module in whose forward a residual sum or a growing concatenation is computed, or paths side by side meet;
another of the same class that is only passed through; or, in a model that has none of these, a convolution of a
sequence with what follows it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from modules.blocks.network import evaluating
from modules.errors import first_line
from modules.foreign.sections import Section, sections, stride, weights
from modules.foreign.tracing import Values, signature, trace

BESIDE = ("norm", "ls", "layer_scale", "drop")  # names of what stands beside a branch's work
GENERIC = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Unit(NamedTuple):
    """What becomes a block: kinds `add` and `concat` as the section says, kind `step` is passed through.

    pre, post: what is computed before and after, whatever the route. branch: the nodes of a step's unit.
    """

    name: str
    path: str
    section: Section
    pre: tuple[fx.Node, ...]
    branch: tuple[fx.Node, ...]
    post: tuple[fx.Node, ...]
    is_convolution: bool  # with what follows it, not a module of its own

    @property
    def start(self) -> fx.Node:
        """The value that the branch takes."""
        return self.section.start

    @property
    def end(self) -> fx.Node:
        """The value of the merge, before `post`."""
        return self.branch[-1] if self.section.kind == "step" else self.section.end


class Anatomy(NamedTuple):
    """A model's forward, divided: stem, units, head; the nodes of the first and the last in order."""

    graph: fx.Graph
    stem: tuple[fx.Node, ...]
    units: tuple[Unit, ...]
    head: tuple[fx.Node, ...]


class _Opening(NamedTuple):
    """opened: modules to look into. whole: names of modules that are a unit each. convolutions: that begin one."""

    opened: frozenset[nn.Module]
    whole: frozenset[str]
    convolutions: frozenset[str]


def anatomy(model: nn.Module, example: Tensor) -> tuple[Anatomy, Anatomy | None]:
    """The model's forward in evaluation and, if that can be traced and has the same units, in training.

    example: images (N, C, H, W). The model's modes, statistics and the random numbers drawn by others stay.
    Raises ValueError with one line if the forward cannot be traced or has no chain of units.
    """
    with evaluating(model):
        opening = _opening(model, example)
        evaluation = _divided(model, trace(model, opening.opened), example, opening)
    layers = [weight for weight in weights(model, evaluation.graph.nodes) if weight.dim() > 1]
    owned = [w for u in evaluation.units for w in weights(model, (*u.branch, *u.section.shortcut)) if w.dim() > 1]
    if len(evaluation.units) < 2 or 3 * len(owned) < len(layers):
        raise ValueError(
            f"no chain of units: {len(owned)} of its {len(layers)} layers lie in units that all later ones depend on"
        )
    return evaluation, _in_training(model, example, opening, evaluation)


def _in_training(model: nn.Module, example: Tensor, opening: _Opening, evaluation: Anatomy) -> Anatomy | None:
    try:
        with evaluating(model):  # which puts back the modes, those of training too
            graph = trace(model.train(), opening.opened)
        if signature(graph) == signature(evaluation.graph):
            return evaluation
        with evaluating(model), torch.random.fork_rng(devices=[]):  # shapes alone: no statistics move
            found = _divided(model, graph, example, opening)
    except ValueError:
        return None
    same = [(unit.name, unit.section.kind) for unit in found.units]
    return found if same == [(unit.name, unit.section.kind) for unit in evaluation.units] else None


# -- finding ----------------------------------------------------------------------------------------------------------


def _opening(model: nn.Module, example: Tensor) -> _Opening:
    found = _sections(model, trace(model), example)
    merging = {each.scope for each in found if each.kind in ("add", "concat")} - {""}
    meeting = {_named(model, each.scope) for each in found if each.kind == "parallel"} - merging
    kinds = {type(model.get_submodule(path)) for path in merging | meeting if path} - set(GENERIC)
    alike = {path for path, module in model.named_modules() if path and type(module) in kinds} - merging
    whole = {path for path in meeting | alike if path and _is_whole(found, path)} | _untraceable(model, found)
    whole = {path for path in whole if not any(_inside(other, path) for other in merging)}
    whole = {path for path in whole if not any(_inside(path, other) for other in whole - {path})}
    convolutions = set[str]()
    if not merging and not whole:
        whole = _repeated(model, found)
        convolutions = {path for path in whole if type(model.get_submodule(path)) is nn.Conv2d}
    opened = {above for path in merging | whole for above in _above(path)} | merging
    return _Opening(frozenset(model.get_submodule(path) for path in opened), frozenset(whole), frozenset(convolutions))


def _named(model: nn.Module, path: str) -> str:
    """The module, or what it is the sequence of."""
    while path and isinstance(model.get_submodule(path), GENERIC):
        path = _parent(path)
    return path


def _sections(model: nn.Module, graph: fx.Graph, example: Tensor) -> list[Section]:
    with torch.no_grad():
        try:
            Values(model, graph=graph).run(example)
        except Exception as error:  # whatever a layer raises
            raise ValueError(f"its traced forward does not run ({first_line(error)})") from error
    return sections(model, graph)


def _is_whole(found: list[Section], path: str) -> bool:
    """Whether the module takes one narrow value and gives one."""
    touched = [[_inside(_place(node), path) for node in each.nodes] for each in found]
    return any(map(any, touched)) and all(all(each) or not any(each) for each in touched)


def _place(node: fx.Node) -> str:
    """The module that the node is a call of, or in whose forward it stands."""
    return str(node.target if node.op == "call_module" else node.meta["scope"])


def _untraceable(model: nn.Module, found: list[Section]) -> set[str]:
    """Modules that were not looked into, of a class that a stage repeats."""
    kinds: dict[str, type[nn.Module]] = {}
    for each in found:
        if each.kind == "step" and each.end.op == "call_module":
            module = model.get_submodule(str(each.end.target))
            layers = sum(weight.dim() > 1 for weight in module.parameters())
            if layers and list(module.children()) and not isinstance(module, GENERIC):
                kinds[str(each.end.target)] = type(module)
    often = Counter(kinds.values())
    return {path for path, kind in kinds.items() if often[kind] > 1}


def _repeated(model: nn.Module, found: list[Section]) -> set[str]:
    """What sequences repeat: the outermost modules with layers of a class that occurs in them at least twice."""
    kinds = {
        path: type(module)
        for path, module in model.named_modules()
        if path and not isinstance(module, GENERIC) and isinstance(model.get_submodule(_parent(path)), GENERIC)
        and (type(module) is nn.Conv2d or list(module.children()))
        and any(weight.dim() > 1 for weight in module.parameters())
    }  # fmt: skip
    often = Counter(kinds.values())
    chosen = {path for path, kind in kinds.items() if often[kind] > 1 and _is_whole(found, path)}
    return {path for path in chosen if not any(_inside(path, other) for other in chosen - {path})}


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _above(path: str) -> list[str]:
    names = path.split(".")
    return [".".join(names[:length]) for length in range(1, len(names))]


def _inside(path: str, other: str) -> bool:
    """Whether the first module is the other or lies in it."""
    return path == other or path.startswith(f"{other}.")


# -- dividing ---------------------------------------------------------------------------------------------------------


def _divided(model: nn.Module, graph: fx.Graph, example: Tensor, opening: _Opening) -> Anatomy:
    found = _sections(model, graph, example)
    stem: list[Section] = []
    loose = stem  # sections that belong to no unit yet
    drafts: list[tuple[str, Section, list[Section], list[Section]]] = []  # path, section, before, after
    for each in found:
        path = _unit_path(each, opening)
        if path is None:
            loose.append(each)
            continue
        own: list[Section] = []
        if not drafts:
            while stem and _inside(str(stem[-1].end.meta["scope"]), path):
                own.insert(0, stem.pop())
        loose = []
        drafts.append((path, each, own, loose))
    often = Counter(path for path, *_ in drafts)
    units: list[Unit] = []
    taken: set[str] = set()
    before: list[Section] = []
    for number, (path, section, own, after) in enumerate(drafts):
        region = _parent(path) if path in opening.convolutions else path
        belonging = 0
        while belonging < len(after) and _inside(str(after[belonging].end.meta["scope"]), region):
            belonging += 1
        branch = list(section.branch) if section.kind in ("add", "concat") else list(section.nodes)
        kept = 0
        if path in opening.convolutions:
            while kept < belonging and after[kept].end.meta["shape"] == after[kept].start.meta["shape"]:
                kept += 1
            branch += _nodes(after[:kept])
        name = path if often[path] == 1 else f"{path}.{_part_name(model, path, section)}"
        if name in taken:
            name = f"{name}.{number}"
        taken.add(name)
        pre, post = _nodes([*before, *own]), _nodes(after[kept:belonging])
        units.append(
            Unit(
                name.replace(".", "_"),
                path,
                section,
                tuple(pre),
                tuple(branch),
                tuple(post),
                path in opening.convolutions,
            )
        )
        before = after[belonging:]
    return Anatomy(graph, tuple(_nodes(stem)), tuple(units), tuple(_nodes(before)))


def _unit_path(section: Section, opening: _Opening) -> str | None:
    """The module that the section is a unit of, None if it is none."""
    if section.kind in ("add", "concat"):
        return section.scope or None
    path = str(section.end.target)
    if section.kind != "step" or section.end.op != "call_module" or path not in opening.whole:
        return None
    before, after = section.start.meta["shape"], section.end.meta["shape"]
    return path if before == after or stride(before, after) else None


def _part_name(model: nn.Module, path: str, section: Section) -> str:
    """The child with most weights in the branch: attn, mlp."""
    sizes: Counter[str] = Counter()
    for node in section.branch:
        child = _place(node).removeprefix(path).strip(".").partition(".")[0]
        if child:
            sizes[child] += sum(p.numel() for p in weights(model, [node]) if p.dim() > 1)
            sizes[child] += not child.startswith(BESIDE)
    return sizes.most_common(1)[0][0] if sizes else "sum"


def _nodes(of: list[Section]) -> list[fx.Node]:
    return [node for each in of for node in each.nodes]
