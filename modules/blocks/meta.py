"""Quick passes on the meta device: what only fills a tensor or keeps its shape does not need PyTorch's shape rules.

Those rules are written in Python and cost more than all convolutions of a network on the meta device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
KEEPS_SHAPE = frozenset([aten.relu.default, aten.sigmoid.default, aten.tanh.default])
FILLS = frozenset([aten.normal_.default, aten.uniform_.default, aten.fill_.Scalar, aten.zero_.default])
NORMALISES = frozenset([aten.native_batch_norm.default, aten._native_batch_norm_legit_no_training.default])


class QuickShapes(TorchDispatchMode):
    """Within it, tensors on the meta device are neither filled nor looked at by layers that keep their shape.

    multiply_adds: of what was computed within it, by PyTorch's formulas; FlopCounterMode has the same ones, and asks
    for each operation which module it belongs to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if func in FILLS:
                return args[0]
            if func in KEEPS_SHAPE:
                return torch.empty_like(args[0])
            if func in NORMALISES:
                return torch.empty_like(args[0]), None, None
        found = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.multiply_adds += formula(*args, **(kwargs or {}), out_val=found) // 2
        return found
