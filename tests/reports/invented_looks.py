"""What probes keep of spatial transformers, invented: images with strokes, and windows on them."""

import numpy as np

from ablations.harness.store.files import write_npz

SIZE, GIVEN, STATES = 20, 16, 9


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


def windows(rng, *shape):
    """Outlines (*shape, 32, 2) of windows turned, scaled and moved."""
    found = [outline(rng.uniform(-60, 60), 0.6, rng.uniform(-0.3, 0.3, 2)) for _ in range(int(np.prod(shape)))]
    return np.stack(found).reshape(*shape, 32, 2)


def write_looks(folder, arm, channels=(), transformers=()):
    """looks.npz of ten images; channels, transformers: their number in brackets where there are several."""
    rng = np.random.default_rng(len(arm))
    write_npz(
        folder / "files" / f"{arm}-s0" / "looks.npz",
        images=strokes(rng, 10, *channels), outlines=windows(rng, *transformers, 10),
        outputs=strokes(rng, *transformers, 10, *channels)[..., :GIVEN, :GIVEN], labels=np.arange(10),
    )  # fmt: skip


def write_training(folder, arm):
    """training.npz of STATES epochs in which windows come from the whole image to where they end."""
    rng = np.random.default_rng(1)
    given, ends = strokes(rng, 10)[:, :GIVEN, :GIVEN], windows(rng, 10)
    start = outline(0, 1, np.zeros(2))
    write_npz(
        folder / "files" / f"{arm}-s0" / "training.npz", epochs=np.arange(STATES), images=strokes(rng, 10),
        outputs=np.stack([np.roll(given, t % 4, axis=2) for t in range(STATES)]),
        outlines=np.stack([start + t / (STATES - 1) * (ends - start) for t in range(STATES)]),
    )  # fmt: skip
