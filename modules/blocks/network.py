"""A network is a stem, a chain of named blocks, and a head.

The chain is flat. A block may hold further blocks (the paths of an Inception block, the levels of a U-Net), and so may
the stem (a spatial transformer); these have dotted names, the path of the module with a leading `blocks.` left out:
`inception3a.branch.5x5`, `level1.branch.level2`, `stem.transformer`. Routes, deletion and features take either kind of
name; only blocks of the chain itself can change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from modules.blocks.block import Block


class InputSize(NamedTuple):
    """The widths and heights in pixels that a network takes: `least`, then every `step`; step 0 means `least` alone."""

    least: int = 1
    step: int = 1

    def check(self, size: torch.Size) -> None:
        """Raises ValueError naming the size and the allowed ones if an input (N, C, H, W) does not fit."""
        for pixels in size[2:]:
            if pixels < self.least or (pixels != self.least if self.step == 0 else (pixels - self.least) % self.step):
                raise ValueError(f"input of {size[-2]} x {size[-1]} pixels; this network takes {self}")

    def __str__(self) -> str:
        if self.step == 0:
            return f"{self.least} x {self.least} pixels only"
        every = f" and every {self.step} more" if self.step > 1 else ""
        return f"at least {self.least} x {self.least} pixels{every}"


class TrainingOutputs(NamedTuple):
    """What a network with auxiliary heads gives in training: the logits, and those of each auxiliary head."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]


class Network(nn.Module):
    """head(block_n(... block_1(stem(x)))), the shape of every architecture of the suite.

    blocks: ordered mapping from name to block; names such as `stage1_block2` also name the weights
        (`blocks.stage1_block2.branch.conv1.weight`).
    auxiliary: heads that read the output of the block they are named after; in training forward then gives
        `TrainingOutputs`, in evaluation they do not exist.
    input_size: checked at every forward; raises ValueError.
    order: the names in the order in which forward visits them; `modules.blocks.surgery.reordered` changes it.
    recompute: 0, or the number of neighbouring blocks whose activations are thrown away in training and computed anew
        for the gradient (Chen et al. 2016, arXiv:1604.06174): less memory, a third more time, the same numbers up to
        rounding.
    kept_blocks: 0, or the number of blocks that are drawn for each mini-batch of training, the others being skipped;
        `modules.blocks.surgery.set_kept_blocks` sets it.
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Mapping[str, Block],
        head: nn.Module,
        *,
        auxiliary: Mapping[str, nn.Module] | None = None,
        input_size: InputSize = InputSize(),  # noqa: B008 - immutable
        recompute: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict(blocks)
        self.head = head
        if auxiliary:
            self.auxiliary = nn.ModuleDict(auxiliary)
        self.input_size = input_size
        self.order: tuple[str, ...] = tuple(blocks)
        if recompute < 0:
            raise ValueError(f"recompute must be a number of blocks, 0 for none, got {recompute}")
        self.recompute = recompute
        self.kept_blocks = 0

    def forward(self, x: Tensor) -> Tensor | TrainingOutputs:
        self.input_size.check(x.shape)
        if self.training and self.kept_blocks:
            self._draw_blocks()
        x = self.stem(x)
        if self.training and self.recompute and torch.is_grad_enabled():
            return self._recomputed(x)
        heads = self._auxiliary_heads()
        found = []
        blocks = self.blocks._modules  # one look instead of two for each of many blocks
        for name in self.order:
            x = blocks[name](x)
            if name in heads:
                found.append(heads[name](x))
        return TrainingOutputs(self.head(x), tuple(found)) if heads else self.head(x)

    def _draw_blocks(self) -> None:
        # From the CPU generator, as blocks that draw alone do; ranks may draw on their own.
        kept = set(torch.randperm(len(self.blocks))[: self.kept_blocks].tolist())
        for index, (_, block) in enumerate(self.named_blocks()):
            block.is_kept = index in kept

    def _auxiliary_heads(self) -> Mapping[str, nn.Module]:
        return dict(self.auxiliary.items()) if self.training and "auxiliary" in self._modules else {}

    def _recomputed(self, x: Tensor) -> Tensor | TrainingOutputs:
        heads, found = self._auxiliary_heads(), []
        group: list[Block] = []
        for name in self.order:
            group.append(self.block(name))
            if len(group) == self.recompute or name == self.order[-1] or name in heads:
                x = checkpoint(_chain(group), x, use_reentrant=False, context_fn=partial(_twice, group))
                group = []
            if name in heads:
                found.append(heads[name](x))
        return TrainingOutputs(self.head(x), tuple(found)) if heads else self.head(x)

    def block(self, name: str) -> Block:
        """The block of that name, of the chain or inside another; raises ValueError naming the blocks there are."""
        found = self.blocks[name] if name in self.blocks else dict(self.every_block()).get(name)
        if found is None:
            raise ValueError(f"no block {name!r}; blocks are {', '.join(n for n, _ in self.every_block())}")
        assert isinstance(found, Block)
        return found

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """(name, block) of the chain in the order of construction."""
        for name in self.blocks:
            yield name, self.block(name)

    def every_block(self) -> Iterator[tuple[str, Block]]:
        """(name, block) of the chain, of blocks inside blocks, and of the stem."""
        for path, module in self.named_modules():
            if isinstance(module, Block):
                yield path.removeprefix("blocks."), module


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode until exit, also after an error; then every module is in its own mode again."""
    modes = {module: module.training for module in network.modules()}
    try:
        network.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _chain(blocks: list[Block]) -> Callable[[Tensor], Tensor]:
    def visit(x: Tensor) -> Tensor:
        for block in blocks:
            x = block(x)
        return x

    return visit


def _twice(blocks: list[Block]) -> tuple[Any, Any]:
    """The contexts of the first and the second computation: batch norm must count a batch only once."""
    return nullcontext(), _statistics_kept(blocks)


@contextmanager
def _statistics_kept(blocks: list[Block]) -> Iterator[None]:
    norms = [m for block in blocks for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:  # the running statistics are saved for the gradient, so they must be there, and not move
            norm.momentum = 0.0
            norm.num_batches_tracked = None
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
