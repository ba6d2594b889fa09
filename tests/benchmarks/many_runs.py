"""Many small runs of one script: side by side in processes of one thread, against one after the other.

The same runs of a ResNet-20 of width 8 on the embedded digits, through the whole harness (checkpoints, tests, reports;
no W&B). Images per second are those trained in all runs over the wall time of the script, with everything it does
before and after, and for one run alone those of its own loop with all threads. No target is set: on two cores two
threads gain little on networks this small, which is what side by side makes use of.
"""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from ablations.harness.command.command_line import Options
from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import top1_error
from ablations.harness.declare.scale import Scale

EPOCHS, SEEDS = 8, 8


def plan(at: Scale) -> Plan:
    """One arm with many seeds; smoke is for --quick."""
    recipe = {"epochs": at(paper=EPOCHS, smoke=2), "schedule": "linear", "batch_size": 64}
    return Plan([Arm("resnet", "resnet_cifar", {"depth": 20, "width": 8}, recipe)], at(paper=SEEDS, smoke=2))


ABLATION = Ablation(
    name="many_runs",
    title="Many runs",
    question="How long do many small runs take?",
    claims=(Claim("MR", "It ends.", "this suite", "", tests=(Test("error", top1_error("resnet"), at_most=100.0),)),),
    plan=plan,
)


def carried_out(workers: int, budget: str) -> tuple[float, float]:
    """Images per second of the whole script, and of its runs' own loops (median)."""
    from ablations.harness.execution.execute import carry_out
    from ablations.harness.launch import report
    from ablations.harness.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        started = time.perf_counter()
        carry_out(prepare(ABLATION, Options(budget, "digits", out, out, workers=workers, wandb="disabled")), report)
        seconds = time.perf_counter() - started
        tables = [list(csv.DictReader(file.open(newline=""))) for file in out.glob("trained/*/metrics.csv")]
    rates = [float(row["images_per_second"]) for table in tables for row in table[1:]]
    images = sum(float(row["images_per_second"]) * float(row["seconds"]) for table in tables for row in table)
    return images / seconds, statistics.median(rates)


def main() -> None:
    import torch
    from timing import arguments, conclude, interleaved, ratio, show

    options = arguments(__doc__, rounds={"type": int, "default": 3, "help": "default 3"})
    budget, rounds = ("smoke", 1) if options.quick else ("laptop", options.rounds)
    cores = torch.get_num_threads()
    alone: list[float] = []

    def whole(workers: int) -> float:
        script, own = carried_out(workers, budget)
        if workers == 1:
            alone.append(own)
        return script

    found = interleaved({"one after the other": partial(whole, 1), "side by side": partial(whole, cores)}, rounds)
    rows = [{"how": name, "images/s of the script": statistics.median(each)} for name, each in found.items()]
    rows.append({"how": "one run alone, its own loop", "images/s of the script": statistics.median(alone)})
    sys.stdout.flush()
    show(rows)
    gain = ratio(found["side by side"], found["one after the other"])
    against = ratio(found["side by side"], alone)
    conclude(
        f"side by side over one after the other {gain}; over one run alone {against}",
        {"images_per_second": found, "alone": alone, "ratio": gain, "over_one_alone": against},
        options,
    )


if __name__ == "__main__":
    main()
