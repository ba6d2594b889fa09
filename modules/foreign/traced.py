"""Parts of a traced forward as modules of their own, which share the model's modules, parameters and buffers."""

from __future__ import annotations

import copy
import copyreg
import importlib
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from modules.foreign.sections import reads_size
from modules.foreign.tracing import signature

LAYERS = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu", nn.MaxPool2d: "pool"}  # names instead of numbers


class Carried(nn.Module):
    """A size that one part reads and a later part needs, such as the height of maps that have become tokens.

    Called with it where it is read, and without where it is needed; it is that of the images seen last.
    Raises RuntimeError where it was never read: the part before must be run before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: Any = None

    def forward(self, value: Any = None) -> Any:
        if value is not None:
            self.known = value
        if self.known is None:
            raise RuntimeError("this part needs a size that an earlier one reads; run the stem and the blocks before")
        return self.known


class Part(NamedTuple):
    """Nodes of a graph that compute one value from another; carries: the sizes read here that others need."""

    start: fx.Node
    end: fx.Node
    nodes: tuple[fx.Node, ...]
    scope: str = ""  # below which the names begin


class Form(NamedTuple):
    """One mode's code: a function of the module and x, by its source and the names in it; targets: what it uses."""

    source: str
    names: dict[str, Any]
    targets: tuple[str, ...]
    signature: str


class Traced(nn.Module):
    """Runs a part of a traced forward: (N, ...) to (N, ...).

    members: the modules, parameters and buffers that the forms use, by name. persistent: the buffers that are saved.
    training_form: None if that mode cannot be run; then forward raises RuntimeError in it.
    """

    def __init__(
        self, members: Mapping[str, Any], form: Form, training_form: Form | None, persistent: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.forms = {False: form, True: training_form}
        self._compiled: dict[bool, Callable[..., Tensor]] = {}
        for path, member in members.items():
            *inside, name = path.split(".")
            holder: nn.Module = self
            for each in inside:
                if each not in holder._modules:
                    holder.add_module(each, nn.Module())
                holder = holder.get_submodule(each)
            if isinstance(member, nn.Module):
                holder.add_module(name, member)
            elif isinstance(member, nn.Parameter):
                holder.register_parameter(name, member)
            else:
                holder.register_buffer(name, member, persistent=path in persistent)

    def forward(self, x: Tensor) -> Tensor:
        if self.training not in self._compiled:
            form = self.forms[self.training]
            if form is None:
                raise RuntimeError("this network's forward differs in training; it can only be evaluated")
            names = dict(form.names)
            exec(form.source, names)
            self._compiled[self.training] = names["forward"]
        return self._compiled[self.training](self, x)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": {}}  # functions without a name are not pickled; they are made again


# Names of a form may be modules, such as torch, which pickle does not know: they are imported again.
copyreg.pickle(ModuleType, lambda module: (importlib.import_module, (module.__name__,)))


class Maker:
    """Makes modules of the parts of one model.

    carried: the nodes whose sizes cross from one part to another, each with what carries it.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model = model
        self.carried: dict[str, Carried] = {}
        calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        self.constants: dict[str, Tensor] = {}
        self.repeated = {path for path in calls if calls.count(path) > 1}

    def needs(self, part: Part) -> list[fx.Node]:
        """The sizes that the part needs and cannot read from its own values."""
        own, missing, seen = {part.start, *part.nodes}, [], set[fx.Node]()

        def visit(node: fx.Node) -> None:
            if node in own or node in seen or node.op == "get_attr":
                return
            seen.add(node)
            if _batch_size(node, part.start):
                return
            if _asks_images(node):
                if node.all_input_nodes[0] not in own:
                    missing.append(node)
                return
            for given in node.all_input_nodes:
                visit(given)

        for node in part.nodes:
            for given in node.all_input_nodes:
                visit(given)
        return missing

    def module(
        self, part: Part, carries: Iterable[fx.Node] = (), training: tuple[Part, list[fx.Node]] | None = None
    ) -> nn.Module | None:
        """A module that computes the part, None if there is nothing to compute.

        carries: the sizes that it reads for other parts. training: the same part, and sizes, of the graph in training.
        """
        carries = list(carries)
        if not part.nodes and not carries and not (training and training[0].nodes):
            return None
        form = self._form(part, carries)
        other = self._form(*training) if training is not None else None
        if other is not None and other.signature == form.signature:
            other = form
            chain = self._chain(part) if not carries else None
            if chain is not None:
                return chain
        targets = {*form.targets, *(other.targets if other is not None else ())}
        saved = self.model.state_dict(keep_vars=True)
        return Traced(
            {self._relative(path, part): self._member(path) for path in sorted(targets)},
            form,
            other,
            [self._relative(path, part) for path in targets if path in saved],
        )

    def _member(self, path: str) -> Any:
        if path in self.carried:
            return self.carried[path]
        if path in self.constants:
            return self.constants[path]
        *inside, name = path.split(".")
        member = getattr(self.model.get_submodule(".".join(inside)), name)
        return copy.deepcopy(member) if path in self.repeated and _is_plain_function(member) else member

    @staticmethod
    def _relative(path: str, part: Part) -> str:
        return path.removeprefix(f"{part.scope}.") if part.scope else path

    def _chain(self, part: Part) -> nn.Sequential | None:
        """The part as a sequence of the model's modules, None if it is more than that."""
        layers: list[tuple[str, nn.Module]] = []
        before = part.start
        for node in part.nodes:
            if node.op != "call_module" or node.args != (before,) or node.kwargs:
                return None
            path = str(node.target)
            module = self._member(path)
            name = self._relative(path, part).replace(".", "_")
            if name.isdigit():
                name = LAYERS.get(type(module), name)
            if path in self.repeated:
                if not _is_plain_function(module):
                    return None
                name += str(1 + sum(known.rstrip("0123456789") == name for known, _ in layers))
            layers.append((name, module))
            before = node
        names = [name for name, _ in layers]
        if len(set(names)) < len(names):
            return None
        sequence = nn.Sequential()
        for name, module in layers:
            sequence.add_module(name, module)
        return sequence

    def _form(self, part: Part, carries: list[fx.Node]) -> Form:
        graph = fx.Graph()
        own = {part.start, *part.nodes}
        made: dict[fx.Node, fx.Node] = {part.start: graph.placeholder("x")}
        targets: dict[str, None] = {}

        def get(node: fx.Node) -> fx.Node:
            if node in made:
                return made[node]
            if _batch_size(node, part.start) and not node.meta["data"] and node.all_input_nodes[0] not in made:
                made[node] = graph.call_method("size", (made[part.start], 0))
            elif _asks_images(node) and node.all_input_nodes[0] not in own:
                path = self.carry(node)
                targets[path] = None
                made[node] = graph.call_module(path)
            else:
                if node.meta["data"] and node not in own:
                    raise ValueError(f"{part.scope or 'a part'} needs {node.name} from another part")
                for given in node.all_input_nodes:
                    get(given)
                made[node] = graph.node_copy(node, lambda each: made[each])
                if "constant" in node.meta:
                    self.constants[str(node.target)] = node.meta["constant"]
                if node.op in ("call_module", "get_attr"):
                    targets[str(node.target)] = None
                    made[node].target = self._relative(str(node.target), part)
            return made[node]

        for node in part.nodes:
            get(node)
        for node in carries:
            value = get(node)
            path = self.carry(node)
            targets[path] = None
            graph.call_module(path, (value,))
        graph.output(made[part.end])
        code = graph.python_code("self")
        return Form(code.src, dict(code.globals), tuple(targets), signature(graph))

    def carry(self, node: fx.Node) -> str:
        """The name of what carries this size."""
        path = f"carried_{node.name}"
        self.carried.setdefault(path, Carried())
        return path


def _is_plain_function(module: Any) -> bool:
    """Whether a module called several times may be copied, so that hooks see each call apart."""
    return isinstance(module, nn.Module) and not list(module.children()) and not module.state_dict()


def _asks_images(node: fx.Node) -> bool:
    """Whether the node reads the size of a value that is computed from the images."""
    return not node.meta["data"] and reads_size(node) and bool(node.all_input_nodes[0].meta["data"])


def _batch_size(node: fx.Node, start: fx.Node) -> bool:
    """Whether the node is the number of images, which the part can ask its own input."""
    if node.meta["number"] is None or start.meta["shape"] is None or node.meta["number"] != start.meta["shape"][0]:
        return False
    if node.op == "call_method":
        return node.target == "size" and node.args[1:] == (0,)
    return node.target is operator.getitem and node.args[1:] == (0,) and reads_size(node.all_input_nodes[0])
