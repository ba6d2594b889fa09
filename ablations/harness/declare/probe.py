"""Probes: a question to a trained network, as a value; its settings are its fields, its answers have units.

    @dataclass(frozen=True, kw_only=True)
    class Depth(Probe):
        '''How many blocks a network has.'''

        units = {"depth": "blocks"}

        def ask(self, subject):
            yield Measurement(point("network"), "depth", len(subject.network.blocks))

Answers are kept by the probe alone - its name, version and settings - so that scripts share them, and a changed probe
asks again. `--probe.SETTING` and `--probe.NAME.SETTING` come from the fields.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

if TYPE_CHECKING:
    import torch

    from datamodules.images import ImageData
    from modules import Network


class Measurement(NamedTuple):
    """One value that a probe measured; point: as `records.point` writes it. Its unit is the probe's for the metric."""

    point: str
    metric: str
    value: float


@dataclass(frozen=True)
class Subject:
    """A trained network with all that a probe may use.

    arm, seed: of the run; a probe draws from generators seeded by the seed, and an arm is no more than a word for the
    user. on_pass: to be called after each pass over a batch, for the progress bar. snapshots: epoch -> weights after
    it, as many as the probe wants, none for a foreign network. folder: where a probe may keep files while it works and
    for the figures. processes: how many it may use. is_first: whether the seed is the first of its arm, of which alone
    a probe may keep what figures show of one seed; such a probe says `shows_first`.
    """

    network: Network
    data: ImageData
    arm: str
    seed: int
    device: torch.device
    on_pass: Callable[[], object] = lambda: None
    snapshots: Mapping[int, Path] = field(default_factory=dict)
    folder: Path = Path("probes")
    processes: int = 1
    is_first: bool = True

    def at(self, epoch: int) -> Network:
        """A copy of the network with its weights after that epoch; raises KeyError for one that was not kept."""
        from modules.weights import load_weights

        network = copy.deepcopy(self.network)
        load_weights(network, self.snapshots[epoch])
        return network


@dataclass(frozen=True, kw_only=True)
class Probe(ABC):
    """What is asked of trained networks; a subclass is a frozen dataclass whose fields are settings of plain values.

    of: the arms that are asked, all of them where empty; no part of the question. version: raised when the code changes
    what a probe with the same settings answers. units: metric -> unit, "" for a pure number. passes: how often
    it computes each test image, where `evaluations` does not say more. needs_blocks: whether it
    asks for blocks, and not just for logits. asks_foreign: whether networks that were not trained here are asked too.
    shows_first: whether the first seed answers more than others.
    A subclass raises ValueError, in `__post_init__`, for settings that make no sense.
    """

    of: tuple[str, ...] = ()
    version: ClassVar[int] = 1
    units: ClassVar[Mapping[str, str]] = {}
    passes: ClassVar[float] = 0.0
    needs_blocks: ClassVar[bool] = True
    asks_foreign: ClassVar[bool] = True
    shows_first: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name of the class in small letters: `delete_each` for DeleteEach."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def settings(self) -> dict[str, Any]:
        """What the answers depend on besides the network and its data."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "of"}

    @property
    def num_snapshots(self) -> int:
        """How many times in training weights are kept for it, the untrained and the trained ones included."""
        return int(getattr(self, "snapshots", 0))

    def asks(self, arm: str) -> bool:
        """Whether the networks of an arm are asked."""
        return not self.of or arm in self.of

    @abstractmethod
    def ask(self, subject: Subject) -> Iterable[Measurement]:
        """What the network answers."""

    def evaluations(self, blocks: int, num_test: int) -> float:
        """How many evaluations of an image it is worth, for the estimate of time; a step of training is worth three.

        blocks: of the network. num_test: test images.
        """
        return self.passes * num_test

    def prepared(self, network: Network | None) -> Self:
        """The probe with what it must know beforehand, such as digests of files that its settings name.

        network: the foreign one, or None. Raises ValueError, before anything is trained, if it cannot be asked.
        """
        return self


def refuse_below(probe: Probe, **least: float) -> None:
    """Raise ValueError naming the first setting that is below its least value; None passes."""
    for name, bound in least.items():
        if (value := getattr(probe, name)) is not None and value < bound:
            raise ValueError(f"--probe.{name} {value:g}: give {bound:g} or more")


def refuse_unknown(probe: Probe, **words: Iterable[str]) -> None:
    """Raise ValueError naming the first setting that is none of its words; a wish is none yet, and passes."""
    for name, allowed in words.items():
        value = getattr(probe, name)
        if isinstance(value, str) and value not in allowed:
            raise ValueError(f"--probe.{name} must be one of {', '.join(allowed)}, got {value!r}")


def written(probe: Probe) -> dict[str, Any]:
    """The probe as plain values, by which another process makes it again.

    Its class is named by its module, or by the file of the script that declares it, which no import finds.
    """
    kind = type(probe)
    where = kind.__module__ if _is_found(kind.__module__) else Path(inspect.getfile(kind)).resolve()
    return {"class": f"{where}:{kind.__qualname__}", "of": list(probe.of), "settings": probe.settings}


def _is_found(module: str) -> bool:
    """Whether another process finds the module by its name."""
    if module == "__main__" or "." not in module:
        return False
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin == sys.modules[module].__file__


def read(said: Mapping[str, Any]) -> Probe:
    """The probe that `written` wrote; raises ImportError or AttributeError if its class is not there any more."""
    where, _, name = said["class"].rpartition(":")
    kind = getattr(_script(where) if where.endswith(".py") else importlib.import_module(where), name)
    settings = {key: _frozen(value) for key, value in said["settings"].items()}
    probe: Probe = kind(of=tuple(said["of"]), **settings)
    return probe


def _frozen(value: Any) -> Any:
    """Tuples in place of the lists that JSON makes of them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _script(file: str) -> ModuleType:
    """The module of a script outside the package, loaded once."""
    name = f"script_{abs(hash(file))}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError(f"{file} is no script")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where its dataclasses look for it
        spec.loader.exec_module(module)
    return sys.modules[name]
