"""What probes answer, as the records that a trial makes of it."""

import torch

from ablations.harness.declare.probe import Subject
from ablations.harness.store.records import Record, Records


def asked(probe, network, data, seed=0, **more):
    """The answers of one network; more: what else a subject has, such as its snapshots."""
    measured = probe.ask(Subject(network, data, "any", seed, torch.device("cpu"), **more))
    return Records(Record("invented", "any", seed, *each, "", "run") for each in measured)
