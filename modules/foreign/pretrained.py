"""Pretrained weights from a server: had from this machine, or not at all, where the server does not answer.

The hub's own client asks six times with ten seconds each for every file that it looks for, which is minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import torch

PATIENCE = 5.0  # seconds


@contextmanager
def loading_weights(name: str) -> Iterator[None]:
    """While timm builds the model `name` with its own weights: from this machine alone if the server does not answer.

    Raises ValueError after `PATIENCE` if the server does not answer and the weights are not here.
    """
    import timm
    from huggingface_hub import constants

    config: Any = timm.get_pretrained_cfg(name)
    by_url = config is not None and not config.hf_hub_id and bool(config.url)
    server = str(config.url) if by_url else constants.ENDPOINT
    if config is None or constants.HF_HUB_OFFLINE or answers(server):
        yield
        return
    told = f"its weights are not on this machine, and {urlsplit(server).netloc} does not answer"
    if by_url and not (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(server).path).name).is_file():
        raise ValueError(told)
    constants.HF_HUB_OFFLINE = True  # what the variable of that name sets, which is read only once
    try:
        yield
    except OSError as error:  # of the hub, all of whose are: not in its cache
        raise ValueError(told) from error
    finally:
        constants.HF_HUB_OFFLINE = False


def answers(url: str) -> bool:
    """Whether the server answers anything within `PATIENCE` seconds, name look-up included."""
    answered = []

    def ask() -> None:
        from huggingface_hub.utils import get_session  # knows of proxies and certificates what the download will

        try:
            answered.append(get_session().head(url, timeout=PATIENCE))
        except Exception:  # each library below has errors of its own, and any means no
            return

    thread = Thread(target=ask, daemon=True)  # a look-up cannot be stopped, only left alone
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)
