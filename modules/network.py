"""A network is a stem, a flat chain of named blocks, and a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from modules.block import Block


class Network(nn.Module):
    """head(block_n(... block_1(stem(x)))), the shape of every architecture of the suite.

    blocks: ordered mapping from name to block; names such as `stage1_block2` also name the weights
        (`blocks.stage1_block2.branch.conv1.weight`).
    order: the names in the order in which forward visits them; `modules.surgery.reordered` changes it.
    """

    def __init__(self, stem: nn.Module, blocks: Mapping[str, Block], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict(blocks)
        self.head = head
        self.order: tuple[str, ...] = tuple(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x = self.blocks[name](x)
        return self.head(x)

    def block(self, name: str) -> Block:
        """The block of that name; raises ValueError naming the blocks there are."""
        if name not in self.blocks:
            raise ValueError(f"no block {name!r}; blocks are {', '.join(self.blocks)}")
        found = self.blocks[name]
        assert isinstance(found, Block)
        return found

    def named_blocks(self) -> Iterator[tuple[str, Block]]:
        """(name, block) in the order of construction."""
        for name in self.blocks:
            yield name, self.block(name)
