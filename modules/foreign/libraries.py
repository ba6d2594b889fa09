"""Models of timm and torchvision by name, `timm:NAME` and `torchvision:NAME`, each built by its library's own means."""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from modules.blocks.network import evaluating
from modules.errors import first_line
from modules.foreign.pretrained import answers, loading_weights

LIBRARIES = ("timm", "torchvision")
PIXELS = 64  # of the images that a model is divided by: five halvings leave 2


def is_foreign(name: str) -> bool:
    """Whether the name is that of a library's model."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_model(
    name: str,
    num_classes: int = 1000,
    in_channels: int = 3,
    pretrained: bool = False,
    image_size: int | None = None,
    **arguments: object,
) -> nn.Module:
    """The library's own model, untrained, or with its library's weights.

    image_size: in pixels, given to those models of timm that are built for one size of images. arguments: the
    library's own. Raises ValueError, in one line, for a name or argument that it does not know, and weights that it
    does not have or cannot load.
    """
    library, _, model_name = name.partition(":")
    if library not in LIBRARIES or not model_name:
        raise ValueError(f"a foreign network is named timm:MODEL or torchvision:MODEL, got {name!r}")
    if library == "torchvision":
        return _of_torchvision(model_name, num_classes, in_channels, pretrained, arguments)
    return _of_timm(model_name, num_classes, in_channels, pretrained, image_size, arguments)


def example_for(model: nn.Module, in_channels: int, image_size: int | None = None) -> Tensor:
    """Two images that the model takes: of 64 pixels, of `image_size`, or of the model's own size; drawn alike always.

    Raises ValueError if it takes none of them.
    """
    config = getattr(model, "pretrained_cfg", None) or {}
    own = config.get("input_size", (3, 224, 224))[-1]
    # Own generator: the check must not move the seed that a run starts from.
    generator = torch.Generator().manual_seed(0)
    reason = ""
    with evaluating(model), torch.no_grad():
        for pixels in dict.fromkeys((PIXELS, image_size or PIXELS, own)):
            images = torch.randn(2, in_channels, pixels, pixels, generator=generator)
            try:
                model(images[:1])
            except Exception as error:  # whatever a layer raises for an input it was not made for
                reason = first_line(error)
                continue
            return images
    raise ValueError(f"{type(model).__name__} takes no images of {own} x {own} pixels: {reason}")


def _of_timm(
    name: str,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    image_size: int | None,
    arguments: dict[str, object],
) -> nn.Module:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm has no model {name!r}{_close(name, timm.list_models())}")
    config = timm.get_pretrained_cfg(name)
    if image_size is not None and config is not None and config.fixed_input_size:
        arguments = {"img_size": image_size, **arguments}
    try:
        with loading_weights(name) if pretrained else nullcontext():
            model: nn.Module = timm.create_model(
                name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **arguments
            )
    except Exception as error:  # timm raises whatever its constructor or its download happens to raise
        raise ValueError(f"timm cannot build {name}: {first_line(error)}") from error
    return model


def _of_torchvision(
    name: str, num_classes: int, in_channels: int, pretrained: bool, arguments: dict[str, object]
) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)  # those that classify images
    if name not in known:
        raise ValueError(f"torchvision has no model {name!r} for images{_close(name, known)}")
    if in_channels != 3:
        raise ValueError(f"torchvision's {name} takes images of 3 channels; this data has {in_channels}")
    weights = models.get_model_weights(name).DEFAULT if pretrained else None
    if weights is not None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
        if not file.is_file() and not answers(weights.url):
            raise ValueError(
                f"torchvision cannot build {name}: its weights are not on this machine, and "
                f"{urlsplit(weights.url).netloc} does not answer"
            )
    try:
        model: nn.Module = models.get_model(name, weights=weights, num_classes=num_classes, **arguments)
    except Exception as error:  # its constructor or its download may raise anything
        raise ValueError(f"torchvision cannot build {name}: {first_line(error)}") from error
    return model


def _close(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
