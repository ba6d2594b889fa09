"""A model's forward as a graph of module calls and functions, traced without running it (torch.fx)."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from modules.errors import first_line

# What a deleted block, a probe or a hook still reads must not be overwritten; the values stay the same.
OUT_OF_PLACE = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}  # fmt: skip
OUT_OF_PLACE_METHODS = frozenset(["add_", "sub_", "mul_", "div_", "relu_", "clamp_", "sigmoid_"])


class _Tracer(fx.Tracer):
    """Enters the modules that `opens` says, and remembers in which one it failed."""

    def __init__(self, opens: Callable[[nn.Module], bool]) -> None:
        super().__init__(autowrap_functions=_untraceable_functions())
        self.opens = opens
        self.entered: list[nn.Module] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.opens(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.entered.append(m)
        found = super().call_module(m, forward, args, kwargs)
        self.entered.pop()  # not after an error
        return found


class _Root(nn.Module):
    """Calls the model with one argument, so that its other ones have their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


PREFIX = "model."


def trace(model: nn.Module, opened: Collection[nn.Module] | None = None) -> fx.Graph:
    """The graph of the model's forward in its present mode.

    opened: the modules whose inside is seen, the model always; by default all that have children. A module whose
    forward cannot be traced is called as a whole. Targets are the model's own names, and each node's
    `meta["scope"]` is the name of the module whose forward it stands in ("" for the model).
    Raises ValueError with one line if the model's own forward cannot be traced.
    """
    closed: set[nn.Module] = set()

    def opens(module: nn.Module) -> bool:
        if module is model:
            return True
        if module in closed or _is_untraceable(module):
            return False
        return any(True for _ in module.children()) if opened is None else module in opened

    while True:
        tracer = _Tracer(opens)
        try:
            graph = tracer.trace(_Root(model))
            break
        except Exception as error:  # a forward that looks at values or sizes raises anything
            failed = tracer.entered[-1] if tracer.entered else model
            if failed is model:
                raise ValueError(f"its forward cannot be traced ({first_line(error)})") from error
            closed.add(failed)
    for node in graph.nodes:
        if node.op == "get_attr" and not str(node.target).startswith(PREFIX):  # made in the forward, so in no module
            node.meta["constant"] = getattr(tracer.root, str(node.target))
        if node.op in ("call_module", "get_attr"):
            node.target = str(node.target).removeprefix(PREFIX)
        inside = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        if node.op == "call_module":
            inside = inside[:-1]
        node.meta["scope"] = (inside[-1] if inside else "").removeprefix("model").removeprefix(".")
    _normalise(graph, model)
    return graph


def signature(graph: fx.Graph) -> str:
    """What the graph computes, whatever its nodes are called."""
    position = {node: index for index, node in enumerate(graph.nodes)}
    return "\n".join(
        f"{node.op} {node.target} {fx.node.map_arg((node.args, node.kwargs), lambda each: position[each])}"
        for node in graph.nodes
        if node.op != "placeholder"
    )


def _untraceable_functions() -> tuple[Callable[..., Any], ...]:
    """The functions that timm says must be called, not looked into."""
    layers = sys.modules.get("timm.layers")
    return tuple(layers.get_notrace_functions()) if layers is not None else ()


def _is_untraceable(module: nn.Module) -> bool:
    layers = sys.modules.get("timm.layers")
    return layers is not None and bool(layers.is_notrace_module(type(module)))


def _normalise(graph: fx.Graph, model: nn.Module) -> None:
    """Out of place, without assertions and identities; concatenations that grow by one part are written as such."""
    for node in list(graph.nodes):
        if node.op == "call_module" and type(model.get_submodule(str(node.target))) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "call_function":
            node.target = OUT_OF_PLACE.get(node.target, node.target)
            if node.kwargs.get("inplace"):
                node.kwargs = {**node.kwargs, "inplace": False}
            if node.target is torch._assert:
                graph.erase_node(node)
        elif node.op == "call_method" and node.target in OUT_OF_PLACE_METHODS:
            node.target = node.target.removesuffix("_")
    _nest_concatenations(graph)
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output") and node.target is not operator.setitem:
            graph.erase_node(node)


def concatenated(node: fx.Node) -> tuple[list[fx.Node], int] | None:
    """The parts and the dimension of a concatenation, None for another node."""
    if node.op != "call_function" or node.target not in (torch.cat, torch.concat, torch.concatenate):
        return None
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if not isinstance(parts, list | tuple) or not isinstance(dim, int):
        return None
    if not all(isinstance(part, fx.Node) for part in parts):
        return None
    return [part for part in parts if isinstance(part, fx.Node)], dim


def _nest_concatenations(graph: fx.Graph) -> None:
    """cat([a, b, c]) becomes cat([cat([a, b]), c]) where cat([a, b]) is computed before, and cat([a]) becomes a.

    The layers of a DenseNet each concatenate all features anew; so they become a chain.
    """
    known: dict[tuple[tuple[fx.Node, ...], int], fx.Node] = {}
    for node in list(graph.nodes):
        found = concatenated(node)
        if found is None:
            continue
        parts, dim = found
        if len(parts) == 1:
            node.replace_all_uses_with(parts[0])
            known[(parts[0],), dim] = parts[0]
            continue
        for length in range(len(parts), 1, -1):
            if (tuple(parts[:length]), dim) in known:
                rest = [known[tuple(parts[:length]), dim], *parts[length:]]
                if len(rest) == 1:
                    node.replace_all_uses_with(rest[0])
                else:
                    node.args, node.kwargs = (rest, dim), {}
                break
        known.setdefault((tuple(parts), dim), node)


class Values(fx.Interpreter):
    """Runs a graph once and notes each node's value: the shape of a tensor, a whole number, else None."""

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[Any, Any]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return _mutable(args), _mutable(kwargs)

    def run_node(self, n: fx.Node) -> Any:
        found = n.meta["constant"] if "constant" in n.meta else super().run_node(n)
        n.meta["shape"] = tuple(found.shape) if isinstance(found, Tensor) else None
        n.meta["number"] = found if isinstance(found, int) and not isinstance(found, bool) else None
        return found


def _mutable(value: Any) -> Any:
    """Lists of fx as lists, which a forward may append to."""
    if isinstance(value, dict):
        return {key: _mutable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_mutable(each) for each in value]
    return tuple(_mutable(each) for each in value) if type(value) is tuple else value
