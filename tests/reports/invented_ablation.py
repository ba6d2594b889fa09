"""A finished ablation's folder, invented: networks with shortcuts shrug off a lesion, networks without do not."""

import math

import numpy as np

from ablations.harness.declare.ablation import Claim, Test
from ablations.harness.declare.chart import Drawing, written
from ablations.harness.declare.measure import computed
from ablations.harness.judging.verdict import judge
from ablations.harness.store.files import write_json
from ablations.harness.store.records import Record, Records, point, write_csv
from reports.charts.declared import draw_all

# Arm: blocks, those that change the shape, error (%) when intact, how much one deletion hurts, has shortcuts.
ARMS = {
    "preact_resnet": (18, (6, 12), 8.0, 1.5, True),
    "original_resnet": (18, (6, 12), 8.6, 3.0, True),
    "stochastic_depth": (18, (6, 12), 7.4, 0.6, True),
    "vgg": (14, (2, 4, 7, 10), 9.5, 75.0, False),
    "vgg_bn": (14, (2, 4, 7, 10), 8.9, 70.0, False),
}


def synthetic_records(seeds, draws=6, arms=tuple(ARMS), diverged=()):
    """Records as the lesion probe writes them; diverged: (arm, seed) whose values are all NaN."""
    rng = np.random.default_rng(0)
    rows = []
    for arm in arms:
        count, reshaping, intact, harm, shortcuts = ARMS[arm]
        for seed in seeds:

            def add(where, value, arm=arm, seed=seed):
                value = math.nan if (arm, seed) in diverged else float(min(90.5, max(0.5, value)))
                rows.append(Record("remove_layers", arm, seed, where, "test/top1_error", value, "%", f"{arm}-s{seed}"))

            base = intact + rng.normal(0, 0.4)
            add(point("intact"), base)
            for position in range(count):
                block = {"block": f"block{position}", "position": position, "changes_shape": position in reshaping}
                hurt = harm * rng.gamma(2, 0.5) if shortcuts else harm + rng.normal(0, 6)
                if shortcuts:
                    hurt *= 6 if position in reshaping else 1 + 5 * (position == 0)
                    add(point("delete_shortcut", **block), 88 + rng.normal(0, 3) if position < 15 else 60)
                add(point("delete", **block), base + hurt)
            for k in range(1, 13) if shortcuts else ():
                for index in range(draws):
                    error = base + 82 * (1 - math.exp(-((k * harm / 14) ** 1.4))) + rng.normal(0, 1 + 0.5 * k)
                    add(point("delete_random", k=k, draw=index), error)
            for swaps in (1, 2, 4, 8, 16) if shortcuts else ():
                for index in range(draws):
                    tau = round(1 - 0.035 * swaps * rng.uniform(0.4, 1.2), 4)
                    error = base + 85 * (1 - tau) * harm / 2 + rng.normal(0, 2)
                    add(point("reorder", swaps=swaps, draw=index, tau=tau), error)
    return Records(rows)


def _mean_increase(arm, says, arms):
    def estimate(records):
        intact = records.by_seed(arm=arm, probe="intact")
        deleted = records.by_seed(arm=arm, probe="delete")
        return {seed: float(np.mean(deleted[seed]) - intact[seed][0]) for seed in intact}

    return computed(says, "points", estimate, arms)


def _gap(records):
    resnet, vgg = (_mean_increase(arm, "", ()).by_seed(records) for arm in ("preact_resnet", "vgg"))
    return {seed: vgg[seed] - resnet[seed] for seed in resnet}


CLAIMS = (
    Claim(
        "RL1", "Deleting one block of a trained ResNet barely moves its error; deleting one layer of a VGG destroys it",
        "Veit et al. 2016, Fig. 3", "", "about 10 points",
        (
            Test("gap", computed("VGG's mean increase of error minus ResNet's", "points", _gap, ()), at_least=20.0),
            Test("rise", _mean_increase("preact_resnet", "ResNet's mean increase", ()), at_most=5.0),
        ),
    ),
    Claim(
        "RL4", "A net trained with stochastic depth loses less than one point", "Veit et al. 2016, Fig. 8",
        "only slightly better", "",
        (Test("rise", _mean_increase("stochastic_depth", "mean increase", tuple(ARMS)), at_most=1.0),),
    ),
    Claim(
        "RL5", "The original block order is hurt by less than two points", "invented", "1.2 points", "",
        (Test("rise", _mean_increase("original_resnet", "mean increase", ()), at_most=2.0),),
    ),
    Claim(
        "RL6", "A chain of 18 residual blocks has more than 200,000 paths <b>& counts</b>", "Veit et al. 2016, Sec. 3",
        "2^n", "",
        (Test("paths", computed("number of paths", "", lambda records: {0: 2.0**18}, (), exact=True), at_least=2e5),),
    ),
)  # fmt: skip


def _run(arm, seed, is_diverged):
    ended = {"state": "done", "why": "", "test_error": ARMS[arm][2] + 0.1 * seed, "test_metric": "test/top1_error"}
    if is_diverged:
        ended = {"state": "diverged", "why": "the loss was NaN in epoch 3", "test_error": None, "test_metric": ""}
    run = f"{arm}-digits-s{seed}-0a1b2c3d4e5f"
    times = {"train_seconds": 61.5 + seed, "images_per_second": 5120.0 - 7 * seed}
    return {"arm": arm, "seed": seed, "run": run, **ended, **times}


def _ablation(seeds, drawn, diverged):
    arms = [
        {
            "name": name, "network": "resnet" if shortcuts else "vgg",
            "arguments": {"depth": 2 * count + 2, "width": 16, **({"norm": True} if name == "vgg_bn" else {})},
            "recipe": {"epochs": 30, **({"last_survival": 0.5} if name == "stochastic_depth" else {})},
            "note": "<script>alert('arm')</script> trained as the paper says" if name == "vgg" else "",
            "parameters": 272474 + 1000 * count, "multiply_adds": 40813184, "blocks": count,
        }
        for name, (count, _, _, _, shortcuts) in ARMS.items()
    ]  # fmt: skip
    probe = {"name": "delete_random", "version": 1, "settings": {"draws": 6, "most_deleted": 12}, "arms": list(ARMS)}
    return {
        "name": "remove_layers", "title": "Removing layers from trained networks",
        "question": "Does a trained network still work when one of its blocks is deleted at test time?",
        "budget": "laptop", "data": "digits", "seeds": list(seeds),
        "command": "python ablations/remove_layers.py --budget laptop --data digits --seeds 8",
        "charts": [written(Drawing())], "probes": [{**probe, "units": {"test/top1_error": "%"}}], "arms": arms,
        "runs": [_run(arm, seed, (arm, seed) in diverged) for arm in ARMS for seed in seeds],
        "environment": {"python": "3.12.1", "torch": "2.11.0", "device": "cpu", "cpu": "generic", "commit": "0a1b2c3"},
        "figures": [figure._asdict() for figure in drawn],
        "not_done": ["The paper's own schedule: this is the laptop budget.",
                     "ImageNet and ResNet-200, which the paper also shows."],
        "evaluation": "test set read once, at the end, with the last weights",
    }  # fmt: skip


def make_folder(folder, seeds=range(8), diverged=(("vgg_bn", 4),)):
    """Write a finished ablation into `folder`, as the harness would."""
    records = synthetic_records(seeds, diverged=diverged)
    write_csv(folder / "records.csv", records)
    write_json(folder / "verdicts.json", judge(CLAIMS, records, list(seeds), "laptop", "digits"))
    write_json(
        folder / "ablation.json",
        _ablation(seeds, draw_all([written(Drawing())], "remove_layers", records, folder), diverged),
    )
    return folder
