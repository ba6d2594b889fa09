"""Surgery on a network's blocks: routes and order, undone on exit, also after an error.

Only plain attributes change (Block.route, Network.order): parameters, buffers and state_dict keys are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from modules.blocks.block import ROUTES, DropPer, Route
from modules.blocks.network import Network


@contextmanager
def routed(network: Network, routes: Mapping[str, Route]) -> Iterator[Network]:
    """Gives the named blocks a route (`both`, `shortcut` or `branch`) until exit.

    Raises ValueError for an unknown block or route, before anything is changed, TypeError for no `Network`.
    """
    _refuse_others(network, "routes")
    for name, route in routes.items():
        if route not in ROUTES:
            raise ValueError(f"route of {name!r} must be one of {', '.join(ROUTES)}, got {route!r}")
    blocks = {name: network.block(name) for name in routes}
    before = {name: block.route for name, block in blocks.items()}
    try:
        for name, block in blocks.items():
            block.route = routes[name]
        yield network
    finally:
        for name, block in blocks.items():
            block.route = before[name]


@contextmanager
def removed(network: Network, names: Iterable[str]) -> Iterator[Network]:
    """Deletes the named blocks until exit: only their shortcut is left (Veit et al. 2016, section 4.1).

    names: several, or one as a string. Raises as `routed` does.
    """
    names = [names] if isinstance(names, str) else names
    with routed(network, dict.fromkeys(names, "shortcut")):
        yield network


@contextmanager
def reordered(network: Network, order: Sequence[str]) -> Iterator[Network]:
    """Visits the blocks in another order until exit (Veit et al. 2016, section 4.3).

    Raises ValueError if `order` is not a permutation of the network's block names, TypeError for no `Network`.
    """
    _refuse_others(network, "an order")
    if sorted(order) != sorted(network.blocks):
        raise ValueError(f"order must name each of the {len(network.blocks)} blocks once, got {', '.join(order)}")
    before = network.order
    network.order = tuple(order)
    try:
        yield network
    finally:
        network.order = before


def set_survival(
    network: Network,
    last: float,
    rule: Literal["linear", "uniform"] = "linear",
    per: DropPer = "batch",
) -> Network:
    """Turns stochastic depth on: a survival probability in (0, 1] for every block of the network.

    rule: `linear` is p_l = 1 - l / L * (1 - last) with l from 1, so that the first block is dropped too (Huang et al.
        2016, equation 4; timm's rule starts at 0); `uniform` gives every block `last`.
    Raises ValueError for a probability outside (0, 1], an unknown rule, or a block that is not merged by adding.
    """
    _refuse_others(network, "stochastic depth")
    if not 0.0 < last <= 1.0:
        raise ValueError(f"survival probability must lie in (0, 1], got {last}")
    if rule not in ("linear", "uniform"):
        raise ValueError(f"survival rule must be linear or uniform, got {rule!r}")
    if per not in ("batch", "sample"):
        raise ValueError(f"stochastic depth drops per batch or per sample, got {per!r}")
    for name, block in network.named_blocks():
        if block.merge != "add":
            raise ValueError(f"stochastic depth needs residual blocks, but {name} is merged by {block.merge!r}")
    depth = len(network.blocks)
    for index, (_, block) in enumerate(network.named_blocks(), start=1):
        block.survival_prob = 1.0 - index / depth * (1.0 - last) if rule == "linear" else last
        block.drop_per, block.is_kept = per, None
    network.kept_blocks = 0
    return network


def set_kept_blocks(network: Network, number: int) -> Network:
    """Trains with exactly `number` random blocks per mini-batch, any subset alike (Veit et al. 2016, section 5).

    Skipped blocks are treated as those of stochastic depth. The paper does not say what it does at test time: here all
    blocks are used, each branch times number / blocks, the share of mini-batches that kept it.
    Raises ValueError for a number outside 1..blocks, or a block that is not merged by adding.
    """
    depth = len(network.blocks)
    if not 1 <= number <= depth:
        raise ValueError(f"kept_blocks must lie in 1..{depth}, the number of blocks, got {number}")
    set_survival(network, number / depth, "uniform")
    network.kept_blocks = number
    return network


def _refuse_others(network: object, what: str) -> None:
    if not hasattr(network, "named_blocks"):  # a compiled network has it and is no Network
        kind = f"{type(network).__module__}.{type(network).__name__}"
        raise TypeError(
            f"{what} needs a network with blocks, got {kind}; "
            "make one of a model with modules.foreign.adoption.adopt(model, images)"
        )
