"""Where a traced forward is narrow: the values that all later ones depend on, and what lies between two of them.

A section from one such value to the next is a residual sum, a growing concatenation, paths side by side, or one step.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, fx, nn

from modules.foreign.tracing import concatenated

SIZES = frozenset(["shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"])
SIZE_METHODS = frozenset(["size", "dim", "numel", "new_zeros", "new_ones", "new_empty", "get_device"])
SIZE_FUNCTIONS = frozenset([len, torch.zeros_like, torch.ones_like, torch.empty_like])
ADDITIONS = frozenset([operator.add, torch.add])

Kind = Literal["add", "concat", "parallel", "step"]


class Section(NamedTuple):
    """What lies between two narrow values.

    start, end: those values. nodes: all that computes the second from the first, in order. shortcut, branch: of kinds
    `add` and `concat`, the nodes of either operand, without start; the shortcut is empty if it is the identity.
    operands: the last values of the two.
    """

    start: fx.Node
    end: fx.Node
    nodes: list[fx.Node]
    kind: Kind
    shortcut: tuple[fx.Node, ...] = ()
    branch: tuple[fx.Node, ...] = ()
    operands: tuple[fx.Node, ...] = ()

    @property
    def scope(self) -> str:
        """The module in whose forward the operands meet; of a concatenation, the one that made what is added."""
        if self.kind == "concat":
            return common_scope(node.meta["scope"] for node in self.branch)
        return str(self.end.meta["scope"])


def reads_size(node: fx.Node) -> bool:
    """Whether the node asks a tensor for what does not depend on its values."""
    if node.op == "call_method":
        return node.target in SIZE_METHODS
    if node.op != "call_function":
        return False
    if node.target is operator.getitem and node.meta["number"] is not None:  # of what a module gave beside a tensor
        return bool(node.all_input_nodes[0].meta["data"])
    return node.target in SIZE_FUNCTIONS or (node.target is getattr and node.args[1] in SIZES)


def sections(model: nn.Module, graph: fx.Graph) -> list[Section]:
    """The sections of a graph with noted shapes (`tracing.Values`), in order; together they are the whole forward.

    Sets each node's `meta["data"]`: whether it depends on the values of the images, not on their size alone.
    Raises ValueError if the model gives more than one tensor.
    """
    nodes = list(graph.nodes)
    for node in nodes:
        inputs = any(given.meta["data"] for given in node.all_input_nodes)
        node.meta["data"] = node.op == "placeholder" or (inputs and not reads_size(node))
    output = nodes[-1].args[0]
    if not isinstance(output, fx.Node) or output.meta["shape"] is None:
        raise ValueError("it gives more than one tensor")
    if not output.meta["data"]:
        raise ValueError("what it gives does not depend on the images")
    found: list[Section] = []
    start, between = nodes[0], list[fx.Node]()
    waiting = {node: sum(user.meta["data"] for user in node.users) for node in nodes if node.meta["data"]}
    live = {start}
    for node in nodes[1:-1]:
        if not node.meta["data"]:
            continue
        between.append(node)
        for given in node.all_input_nodes:
            if given.meta["data"]:
                waiting[given] -= 1
                if not waiting[given]:
                    live.discard(given)
        if waiting[node]:
            live.add(node)
        if live == {node} and node.meta["shape"] is not None:
            found.append(_section(model, start, node, between))
            start, between = node, []
    return found


def common_scope(scopes: Iterable[str]) -> str:
    """The innermost module that holds all of them."""
    paths = zip(*(scope.split(".") if scope else [] for scope in scopes), strict=False)
    return ".".join(names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, paths))


def weights(model: nn.Module, nodes: Iterable[fx.Node]) -> list[Tensor]:
    """The parameters that the nodes use, each once."""
    found: dict[int, Tensor] = {}
    for node in nodes:
        for used in (node, *node.all_input_nodes):
            if used.op == "call_module" and used is node:
                found |= {id(p): p for p in model.get_submodule(str(used.target)).parameters()}
            elif used.op == "get_attr" and "constant" not in used.meta:
                tensor = operator.attrgetter(str(used.target))(model)
                if isinstance(tensor, nn.Parameter):
                    found[id(tensor)] = tensor
    return list(found.values())


def _section(model: nn.Module, start: fx.Node, end: fx.Node, nodes: list[fx.Node]) -> Section:
    operands = [each for each in end.args if isinstance(each, fx.Node) and each.meta["data"]] if _adds(end) else []
    if len(operands) == 2 and operands[0] is not operands[1]:
        sides = [_behind(each, start, nodes) for each in operands]
        chosen = _shortcut(model, start, end, sides)
        if chosen is not None:
            shortcut, branch = sides[chosen], sides[1 - chosen]
            ends = (operands[chosen], operands[1 - chosen])
            return Section(start, end, nodes, "add", tuple(shortcut), tuple(branch), ends)
        return Section(start, end, nodes, "parallel")
    parts = concatenated(end)
    if parts is None:
        return Section(start, end, nodes, "step")
    if len(parts[0]) == 2 and parts[0][0] is start and parts[1] == 1:
        branch = _behind(parts[0][1], start, nodes)
        if branch:
            return Section(start, end, nodes, "concat", (), tuple(branch), (start, parts[0][1]))
    return Section(start, end, nodes, "parallel")


def _adds(node: fx.Node) -> bool:
    if node.kwargs:
        return False
    return node.target in ADDITIONS if node.op == "call_function" else node.op == "call_method" and node.target == "add"


def _behind(node: fx.Node, start: fx.Node, nodes: list[fx.Node]) -> list[fx.Node]:
    """Those of the nodes that this one is computed by, itself included, in order."""
    wanted = {node}
    for each in reversed(nodes):
        if each in wanted:
            wanted.update(each.all_input_nodes)
    return [each for each in nodes if each in wanted]


def _shortcut(model: nn.Module, start: fx.Node, end: fx.Node, sides: list[list[fx.Node]]) -> int | None:
    """Which operand is the shortcut: the block's input itself, else a chain with fewer weights than the other.

    None if neither is, or both need the same values beyond the input.
    """
    if set(sides[0]) & set(sides[1]):
        return None
    if not sides[0] or not sides[1]:
        return 0 if not sides[0] else 1
    sizes = [sum(p.numel() for p in weights(model, side)) for side in sides]
    if sizes[0] == sizes[1]:
        return None
    fewest = sizes.index(min(sizes))
    chain = all(sum(given.meta["data"] for given in node.all_input_nodes) == 1 for node in sides[fewest])
    return fewest if chain else None


def stride(before: tuple[int, ...], after: tuple[int, ...]) -> int | None:
    """The stride with which every n-th pixel of maps (N, C, H, W) gives the second shape; None if none does."""
    if len(before) != 4 or len(after) != 4:
        return None
    step = max(1, round(before[2] / after[2]))
    fits = all(math.ceil(before[axis] / step) == after[axis] for axis in (2, 3))
    return step if fits else None
