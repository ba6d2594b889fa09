"""Batch norm folded into the convolution before it, for evaluation in fewer operations."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def folded(network: AnyModule, dtype: torch.dtype = torch.float32) -> AnyModule:
    """A copy in evaluation mode whose convolutions have swallowed the batch norm that follows them, in `dtype`.

    Equal to the original up to rounding. Batch norms that no convolution precedes stay, in fp32 parameters.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        if type(parent).forward is not nn.Sequential.forward:
            continue
        names = list(parent._modules)
        for name, following in itertools.pairwise(names):
            layer, norm = parent._modules[name], parent._modules[following]
            # Exactly these: a subclass may do more, such as an activation, and one without statistics cannot be folded.
            if type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
                parent._modules[name] = fuse_conv_bn_eval(layer, norm)
                parent._modules[following] = nn.Identity()
    for module in network.modules():
        if not isinstance(module, nn.BatchNorm2d):
            module._apply(lambda t: t.to(dtype) if t.is_floating_point() else t, recurse=False)
    return network
