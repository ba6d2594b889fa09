"""Lesions: what a trained network answers when blocks are deleted, re-routed or visited in another order.

A lesion is a chain: the blocks a network visits, each with the route it takes. Chains are data, so one mechanism serves
single deletions, random deletions, deleted shortcuts and reordering. Chains that begin alike share that work: they are
sorted so that common prefixes are neighbours, and each batch is walked once through what neighbours share. In fp32 the
answers equal those of full forward passes to the last bit, because the same operations run on the same batches.

Nothing is written to the network: routes are passed along; only those of a block inside another block are set while
that other block is computed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from modules import Network, routed
from modules.blocks.block import Route
from modules.blocks.network import evaluating

Routes = tuple[tuple[str, Route], ...]


class Step(NamedTuple):
    """One block of the chain, its route, and the routes of blocks inside it."""

    name: str
    route: Route
    inner: Routes = ()


Chain = tuple[Step, ...]

# Short-cut first: the deletion of block k then follows that of block k - 1 and shares everything before block k, with
# one kept activation instead of one per depth.
_SORT = {"shortcut": 0, "branch": 1, "both": 2}


def chain(network: Network, routes: Mapping[str, Route] | None = None, order: Sequence[str] | None = None) -> Chain:
    """The network's blocks in the given order (default: its own), each with its given route (default: its own).

    routes: of blocks of the chain, or of blocks inside them by their dotted names.

    Raises ValueError for an unknown block, or an order that does not name each block once.
    """
    routes = routes or {}
    for name in routes:
        network.block(name)
    order = network.order if order is None else tuple(order)
    if sorted(order) != sorted(network.blocks):
        raise ValueError(f"order must name each of the {len(network.blocks)} blocks once, got {', '.join(order)}")
    inner: dict[str, list[tuple[str, Route]]] = {name: [] for name in order}
    for name, route in routes.items():
        if name not in inner:
            holder = name.partition(".")[0]
            if holder not in inner:
                raise ValueError(f"block {name!r} is not part of a block of the chain")
            inner[holder].append((name, route))
    return tuple(Step(name, routes.get(name, network.block(name).route), tuple(sorted(inner[name]))) for name in order)


def shared_prefix(first: Chain, second: Chain) -> int:
    """The number of steps that two chains have in common from the start."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def logits_of_chains(network: Network, chains: Sequence[Chain], images: Tensor) -> Iterable[tuple[int, Tensor]]:
    """Yields (index into `chains`, logits (N, classes)) in an order that shares work; call it under `torch.no_grad`."""
    position = {name: index for index, name in enumerate(network.blocks)}
    by_prefix = sorted(range(len(chains)), key=lambda i: [(position[n], _SORT[r], inner) for n, r, inner in chains[i]])
    ordered = [chains[i] for i in by_prefix]
    shared = [shared_prefix(a, b) for a, b in itertools.pairwise(ordered)] + [-1]
    kept = {0: network.stem(images)}  # depth -> activation that a later chain starts from
    start = 0
    for here, index in enumerate(by_prefix):
        x = kept[start]
        # Later chains start from these depths, as long as none before them starts lower.
        needed, lowest = set(), len(ordered[here]) + 1
        for length in shared[here:]:
            if length < lowest:
                needed.add(length)
                lowest = length
        kept = {depth: kept[depth] for depth in kept if depth in needed}
        for depth, (name, route, inner) in enumerate(ordered[here][start:], start=start + 1):
            with routed(network, dict(inner)) if inner else nullcontext():
                x = network.block(name)(x, route)
            if depth in needed:
                kept[depth] = x
        yield index, network.head(x)
        start = shared[here]


@torch.no_grad()
def error_rates(
    network: Network,
    chains: Sequence[Chain],
    batches: Iterable[tuple[Tensor, Tensor]],
    on_chain: Callable[[], object] = lambda: None,
) -> list[float]:
    """Top-1 error in percent of each chain over all batches of (images (N, C, H, W), labels (N,)).

    The network is evaluated in its evaluation mode, which is restored afterwards. `on_chain` is called after each pass.
    Raises ValueError if there are no samples.
    """
    wrong = torch.zeros(len(chains), dtype=torch.long)
    total = 0
    with evaluating(network):
        for images, labels in batches:
            total += len(labels)
            for index, logits in logits_of_chains(network, chains, images):
                wrong[index] += (logits.argmax(1) != labels).sum().cpu()
                on_chain()
    if not total:
        raise ValueError("no samples to evaluate on")
    return [100.0 * w / total for w in wrong.tolist()]


def interchangeable(network: Network, images: Tensor) -> list[list[str]]:
    """Groups of at least two blocks that keep their input's shape and share it, so that any order of them fits."""
    groups: dict[tuple[int, ...], list[str]] = {}
    with torch.no_grad(), evaluating(network):
        x = network.stem(images[:1])
        for name in network.order:
            y = network.block(name)(x, "shortcut")
            if y.shape == x.shape:
                groups.setdefault(tuple(x.shape), []).append(name)
            x = y
    return [names for names in groups.values() if len(names) > 1]


def swapped(order: Sequence[str], groups: Sequence[Sequence[str]], swaps: int, draw: torch.Generator) -> list[str]:
    """The order after `swaps` exchanges, each of two random blocks of one group (Veit et al. 2016, section 4.3)."""
    result = list(order)
    weights = torch.tensor([float(len(group) * (len(group) - 1)) for group in groups])
    for _ in range(swaps):
        group = groups[int(torch.multinomial(weights, 1, generator=draw))]
        first, second = torch.randperm(len(group), generator=draw)[:2].tolist()
        i, j = result.index(group[first]), result.index(group[second])
        result[i], result[j] = result[j], result[i]
    return result
