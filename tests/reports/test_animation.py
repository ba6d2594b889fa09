"""The training of a transformer as a GIF: its frames, its size, the page that shows it, and W&B."""

import base64
import io
import json

import numpy as np
import pytest
from browser import browse, in_a_browser
from invented_looks import STATES, outline, strokes, write_training
from PIL import Image

from ablations.harness.store.files import write_json, write_npz
from reports.charts import animation
from reports.charts.animation import FIRST, LAST, animate, frame_time
from reports.charts.pictures import Kept, read_arrays
from reports.pages.embedding import figure
from reports.pages.page import write_page


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A folder with an animation, what was drawn, and its frames with their times."""
    folder = tmp_path_factory.mktemp("moving")
    write_training(folder, "a")
    (made,) = animate(Kept(folder, "a", [3, 0], "ST-CNN"), "training", "title")
    frames, times = [], []
    with Image.open(folder / made.file) as gif:
        assert gif.info["loop"] == 0
        for number in range(gif.n_frames):
            gif.seek(number)
            times.append(gif.info["duration"])
            frames.append(np.asarray(gif.convert("RGB"), dtype=int))
    return folder, made, frames, times


def test_it_has_a_frame_for_each_state_and_holds_the_last(moving):
    folder, made, frames, times = moving
    assert (folder / made.file).stat().st_size < animation.MOST_BYTES
    assert times == [FIRST, *[frame_time(STATES)] * (STATES - 2), LAST]
    assert [frame_time(n) for n in (3, 20, 60)] == [500, 300, 120]
    kept = read_arrays(folder / "files" / "a-s0" / "training.npz")
    side, left, top = animation.SIDE, animation.CELL + animation.MARGIN, animation.HEAD + animation.MARGIN
    for frame, outputs in zip(frames, kept["outputs"], strict=True):  # what was given to the network is what is seen
        seen = frame[top : top + side, left : left + side, 0]
        at = ((np.arange(outputs.shape[-1]) + 0.5) * side / outputs.shape[-1]).astype(int)
        assert np.abs(seen[np.ix_(at, at)] - outputs[0]).max() < 8  # as near as a palette allows
    assert (frames[0] != frames[-1]).any()


def dense(corners):
    """Points of a closed line (n, 2), so many that no pixel of it is passed over."""
    steps = np.arange(20)[:, None, None] / 20
    return (corners + steps * (np.roll(corners, -1, axis=0) - corners)).reshape(-1, 2)


def orange_at(frame, points):
    """Whether a pixel next to each point (n, 2), x first, is coloured, which nothing but the window is."""
    strength = frame[..., 0] - frame[..., 2]
    x, y = points.astype(int).T
    return np.array([strength[b - 1 : b + 2, a - 1 : a + 2].max() for a, b in zip(x, y, strict=True)]) > 60


def test_the_window_in_the_first_and_the_last_frame_is_where_it_was_then(moving):
    folder, _, frames, _ = moving
    arrays = read_arrays(folder / "files" / "a-s0" / "training.npz")
    for place in range(animation.PAIRS):
        corner = np.array([place % 2 * 2 * animation.CELL, animation.HEAD + place // 2 * animation.CELL])
        first, last = (
            dense(animation.MARGIN + (outlines[place] + 0.5) / arrays["images"].shape[-1] * animation.SIDE)
            for outlines in (arrays["outlines"][0], arrays["outlines"][-1])
        )
        for frame, own, foreign in ((frames[0], first, last), (frames[-1], last, first)):
            inside = own[((own > 2) & (own < animation.CELL - 3)).all(axis=1)]
            assert len(inside) > 300
            assert orange_at(frame, corner + inside).all()
            far = np.linalg.norm(foreign[:, None] - own[None], axis=2).min(axis=1) > 8  # further than the dot is wide
            away = foreign[far & ((foreign > 2) & (foreign < animation.CELL - 3)).all(axis=1)]
            assert len(away) > 100
            assert not orange_at(frame, corner + away).any()


def test_too_many_states_are_thinned_out_to_fit(tmp_path, monkeypatch):
    rng, states = np.random.default_rng(0), 80
    window = np.broadcast_to(outline(10, 0.8, np.zeros(2)), (states, 10, 32, 2))
    write_npz(
        tmp_path / "files" / "a-s0" / "training.npz", epochs=np.arange(states), images=strokes(rng, 10),
        outputs=rng.integers(0, 256, (states, 10, 16, 16), dtype=np.uint8), outlines=window,
    )  # fmt: skip
    monkeypatch.setattr(animation, "MOST_BYTES", 400_000)
    (made,) = animate(Kept(tmp_path, "a", [0]), "moving", "title")
    with Image.open(tmp_path / made.file) as gif:
        assert 2 < gif.n_frames < 60
        assert f"{gif.n_frames} states" in made.caption
    assert (tmp_path / made.file).stat().st_size <= 400_000
    assert animate(Kept(tmp_path, "b", [0]), "moving", "title") == []


def test_wandb_is_given_the_animation_as_a_video(moving):
    import wandb

    from ablations.harness.tracking.summary_run import _figure

    folder, made, *_ = moving
    shown = _figure(folder / made.file, "said")
    assert isinstance(shown, wandb.Video)
    assert (shown._format, shown._caption) == ("gif", "said")


@pytest.fixture
def page(moving, edit):
    """A folder with a page whose one figure is the animation."""
    folder, made, *_ = moving
    finished, _ = edit
    (finished / made.file).write_bytes((folder / made.file).read_bytes())
    content = json.loads((finished / "ablation.json").read_text())
    write_json(finished / "ablation.json", content | {"figures": [made._asdict()]})
    return finished, made


def test_the_page_shows_the_animation_and_its_last_frame(page):
    folder, made = page
    text = write_page(folder).read_text()
    assert "problems" not in text.partition("<body>")[2]
    assert text.count("data:image/gif;base64,") == text.count("data:image/png;base64,") == 1
    assert f'alt="{made.title}, an animation"' in text
    assert "prefers-reduced-motion" in text
    whole = (folder / made.file).read_bytes()
    for broken in (whole[: len(whole) // 2], b"GIF89a;", b""):
        (folder / made.file).write_bytes(broken)
        with pytest.raises(ValueError, match="is no complete GIF"):
            figure(folder, made._asdict())


def test_what_stands_still_is_the_last_frame(moving):
    folder, made, frames, _ = moving
    still = base64.b64decode(figure(folder, made._asdict())["still"].partition(",")[2])
    with Image.open(io.BytesIO(still)) as image:
        assert np.array_equal(np.asarray(image), frames[-1])


@in_a_browser
def test_a_reader_can_hold_the_animation_still(page):
    folder, _ = page
    steps = """
    const seen = () => [...document.querySelectorAll("#figures ~ .figures img")]
      .filter((image) => image.getClientRects().length).map((image) => image.className + (image.naturalWidth > 0));
    told.before = seen();
    document.querySelector(".hold + label").click();
    told.after = seen();
    """
    text = write_page(folder).read_text()
    if "script-src" not in text:  # a page without charts allows no script, and the steps are one
        text = text.replace("img-src data:", "script-src ; img-src data:", 1)
    told, _ = browse(folder, text, steps)
    assert told["before"] == ["movingtrue"]
    assert told["after"] == ["stilltrue"]
    told, _ = browse(folder, text, steps, "--force-prefers-reduced-motion", width=360)
    assert told["before"] == ["stilltrue"]
    assert told["wide"] == 0
