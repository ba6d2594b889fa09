"""Models of torchvision and timm that are small and whose every layer matters."""

from collections.abc import Callable

import torch
from torch import nn

KEPT = (3, 11)  # colours and classes


def narrowed(model: nn.Module, factor: int) -> nn.Module:
    """The model with so many times fewer channels everywhere but for colours and classes; its layers stay."""
    for module in model.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            cut = tensor.detach()[tuple(slice(n if n in KEPT else n // factor) for n in tensor.shape[:2])]
            setattr(module, name, nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut)
    return model


@torch.no_grad()
def filled(make: Callable[[], nn.Module], factor: int = 1) -> nn.Module:
    """A network without its own (slow) initialisation, with weights that make every layer matter, batch norm too."""
    with torch.device("meta"):
        model = narrowed(make(), factor)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith("num_batches_tracked"):
            tensor.zero_()
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.1)
        else:
            tensor.uniform_(0.5, 1.5)
    return model
