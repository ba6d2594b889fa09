"""Records and files of `spatial_transformer`, invented: transformers that find most of a pose, others that do not."""

import numpy as np

from ablations.harness.store.files import write_npz
from ablations.harness.store.records import Record, Records, point
from reports.drawings.spatial_transformer import AUGMENTED, PAIRS, RESOLUTIONS, STARTS, SUMS
from reports.drawings.transformer_errors import PAPER

SIZE, GIVEN, STATES = 20, 16, 9
CANONICAL = ("r_st_cnn_affine", "flipped_st_cnn", "full_turn_st_cnn")
SMALL = [arm for arms in RESOLUTIONS.values() for arm in arms]
ARMS = tuple(dict.fromkeys([*PAPER, *AUGMENTED, *STARTS, *SMALL, *SUMS, *PAIRS, *CANONICAL]))
ERRORS = {"addition_fcn": 50.0, "addition_cnn": 17.0, "addition_one_st": 24.0, "addition_two_st": 11.0}


def invented_records(seeds=range(3), arms=ARMS, diverged=()):
    """Records as the probe writes them; diverged: (arm, seed) without any value."""
    rng = np.random.default_rng(0)
    rows = []
    for arm in arms:
        cost = rng.uniform(1, 9)
        for seed in seeds:

            def add(where, metric, value, unit="", arm=arm, seed=seed):
                rows.append(
                    Record("spatial_transformer", arm, seed, where, metric, float(value), unit, f"{arm}-s{seed}")
                )

            if (arm, seed) in diverged:
                add(point("diverged"), "epoch", 1)
                continue
            error = ERRORS.get(arm, 3 * PAPER.get(arm, 1.5))
            if arm in PAIRS:
                for when, found in (("trained", 93), ("untrained", 11)):
                    add(point("pairs", when=when), "found", found + rng.normal(0, 2), "%")
                    add(point("pairs", when=when), "iou", 0.6 if when == "trained" else 0.2)
                continue
            add(point("test"), "test/top1_error", error * rng.uniform(0.85, 1.15), "%")
            add(point("network"), "multiply_adds", cost, "M")
            add(point("network"), "parameters", 400_000)
            if "st_" in arm and "addition" not in arm:
                for what in ("angle", "scale", "shift")[: 3 if arm.startswith("rts") else 1]:
                    if arm != "full_turn_st_cnn":  # where angles come round
                        add(point("pose"), f"{what}/correlation", rng.uniform(0.7, 0.95))
                    add(point("pose"), f"{what}/removed", rng.uniform(60, 90), "%")
            if arm == "flipped_st_cnn":
                add(point("class", label=3), "kept_upside_down", rng.uniform(90, 100), "%")
    return Records(rows)


def strokes(rng, *shape):
    """Grey images (*shape, SIZE, SIZE) with a few bright bars, somewhat like digits."""
    images = np.zeros((*shape, SIZE, SIZE), np.uint8)
    for image in images.reshape(-1, SIZE, SIZE):
        for _ in range(3):
            y, x = rng.integers(3, SIZE - 9, 2)
            if rng.random() < 0.5:
                image[y : y + 2, x : x + 7] = rng.integers(150, 256)
            else:
                image[y : y + 7, x : x + 2] = rng.integers(150, 256)
    return images


def outline(angle, scale, shift):
    """The edge of a window, (32, 2) in pixels of the image, clockwise from its upper left corner."""
    steps = np.arange(8) / 4 - 1
    one = np.ones(8)
    square = np.concatenate([np.stack(s, 1) for s in [(steps, -one), (one, steps), (-steps, one), (-one, -steps)]])
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turned = scale * square @ np.array([[cos, sin], [-sin, cos]]).T + shift
    return ((turned + 1) * SIZE - 1).astype(np.float32) / 2


def _windows(rng, *shape, reach=1.0):
    count = int(np.prod(shape))
    found = [
        outline(reach * rng.uniform(-60, 60), 1 - 0.4 * reach, reach * rng.uniform(-0.3, 0.3, 2)) for _ in range(count)
    ]
    return np.stack(found).reshape(*shape, 32, 2)


def write_files(folder, records):
    """The files of every arm and seed of the records, as the probe keeps them."""
    rng = np.random.default_rng(1)
    for arm in records.arms:
        for seed in records.where(arm=arm).seeds():
            kept = folder / "files" / f"{arm}-s{seed}"
            if arm in PAIRS:
                true = np.stack([[-0.5, -0.5, 0.3, 0.3] + rng.uniform(-0.2, 0.2) * np.ones(4) for _ in range(12)])
                boxes = {
                    "true_boxes": true.reshape(6, 2, 4),
                    "found_boxes": (true + rng.normal(0, 0.1, true.shape)).reshape(6, 2, 4),
                }
                write_npz(kept / "pairs.npz", images=strokes(rng, 6, 2), **boxes)
            elif arm in ("addition_one_st", "addition_two_st"):
                count = 1 + (arm == "addition_two_st")
                outlines, outputs = _windows(rng, count, 10), strokes(rng, count, 10, 2)[..., :GIVEN, :GIVEN]
                if count == 1:
                    outlines, outputs = outlines[0], outputs[0]
                images, labels = strokes(rng, 10, 2), np.arange(10)
                write_npz(kept / "looks.npz", images=images, outlines=outlines, outputs=outputs, labels=labels)
            elif "st_" in arm:
                _write_digits(rng, kept, arm)


def wrapped(degrees):
    """The same angles in [-180, 180)."""
    return (degrees + 180) % 360 - 180


def _write_digits(rng, kept, arm):
    images = strokes(rng, 10)
    given = strokes(rng, 10)[:, :GIVEN, :GIVEN]
    write_npz(kept / "looks.npz", images=images, outputs=given, outlines=_windows(rng, 10), labels=np.arange(10))
    angle = rng.uniform(-180, 180, 300) if arm.startswith("full") else rng.uniform(-90, 90, 300)
    found = 0.8 * angle + rng.normal(0, 15, 300)
    if arm.startswith("flipped"):
        angle = np.where(np.arange(300) % 10 == 3, wrapped(angle + 180), angle)
    scale, shift = rng.uniform(0.7, 1.2, 300), rng.uniform(-0.3, 0.3, (300, 2))
    write_npz(
        kept / "poses.npz", true_angle=angle, found_angle=found, true_scale=scale, true_shift=shift,
        left=wrapped(angle - found), found_scale=0.6 * scale + rng.normal(0, 0.03, 300),
        found_shift=shift + rng.normal(0, 0.05, (300, 2)),
    )  # fmt: skip
    if arm in ("rts_st_cnn_affine", "tc_st_cnn_affine"):
        windows = _windows(rng, 10)
        start = outline(0, 1, np.zeros(2))
        outlines = np.stack([start + t / (STATES - 1) * (windows - start) for t in range(STATES)])
        outputs = np.stack([np.roll(given, t % 4, axis=2) for t in range(STATES)])
        write_npz(kept / "training.npz", epochs=np.arange(STATES), images=images, outputs=outputs, outlines=outlines)
