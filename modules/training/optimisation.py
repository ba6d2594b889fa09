"""What a recipe makes of a network's parameters and outputs: the optimiser and the loss."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import SGD

from modules.blocks.network import TrainingOutputs
from modules.training.recipe import Recipe


def optimiser(recipe: Recipe, network: nn.Module) -> SGD:
    """SGD as the recipe says, in PyTorch's fused form (one kernel for all tensors).

    A parameter belongs to a localisation network if a module named `localisation` holds it. Each group keeps its
    factor under `factor`, for schedules.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = recipe.localisation_factor if "localisation" in name.split(".") else 1.0
        weight_decay = recipe.weight_decay if recipe.decay == "all" or parameter.ndim > 1 else 0.0
        groups.setdefault((factor, weight_decay), []).append(parameter)
    return SGD(
        [
            {"params": parameters, "lr": recipe.learning_rate * factor, "weight_decay": weight_decay, "factor": factor}
            for (factor, weight_decay), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def training_loss(outputs: Tensor | TrainingOutputs, targets: Tensor, recipe: Recipe) -> Tensor:
    """Mean cross-entropy in fp32 of logits (N, K, ...) with targets (N, ...), plus the weighted auxiliary heads'."""
    if not isinstance(outputs, TrainingOutputs):
        return nn.functional.cross_entropy(outputs.float(), targets)
    loss = nn.functional.cross_entropy(outputs.logits.float(), targets)
    for logits in outputs.auxiliary:
        loss = loss + recipe.auxiliary_weight * nn.functional.cross_entropy(logits.float(), targets)
    return loss
