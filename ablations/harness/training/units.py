"""The units of what training and testing record, by the metric's own name."""

from __future__ import annotations

from modules import ARCHITECTURES

UNITS = {
    "loss": "nats",
    "top1_error": "%",
    "top5_error": "%",
    "pixel_error": "%",
    "triplet_error": "%",
    "dice": "",
    "iou": "",
    "boundary_f1": "",
    "transformers_outside": "%",
    "transformers_blank": "%",
    "transformers_folded": "%",
    "positions_outside": "%",
    "seconds": "s",
}


def unit(metric: str, network: str) -> str:
    """The unit of a metric of a network's run, "" for a pure number; raises KeyError for a metric of no name here."""
    name = metric.rpartition("/")[2]
    if name == "loss" and ARCHITECTURES[network].task == "localise":
        return ""  # of squared distances
    return UNITS[name]
