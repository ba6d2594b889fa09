"""The figures of spatial transformers: what records and files say is drawn, what is missing is left out and named."""

import csv
import json
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from browser import BROWSER, browse
from invented_transformers import STATES, invented_records, outline, strokes, write_files
from PIL import Image
from reports.drawings.transformer_pictures import Kept, read_arrays

from ablations.harness.store.files import write_json, write_npz
from ablations.harness.store.records import Records, write_csv
from ablations.harness.store.wandb_names import figure_key
from ablations.harness.verdict import t_interval
from reports.charts import animation
from reports.charts.animation import FIRST, LAST, animate, frame_time
from reports.drawings.spatial_transformer import PAIRS, SUMS, draw
from reports.drawings.transformer_errors import PAPER, draw_gaps, draw_table, left_out, name_of, values
from reports.drawings.transformer_poses import draw_removed
from reports.pages.embedding import figure
from reports.pages.page import write_page

PICTURES = [
    "table1.png", "gaps.png", "against_cnn.png", "training_rts.gif", "training_tc.gif", "looks_r.png", "looks_rts.png",
    "looks_p.png", "looks_e.png", "looks_tc.png", "poses.png", "removed.png", "remaining.png", "augmentation.png",
    "start.png", "addition.png", "colocalisation.png", "resolution.png", "looks_addition_one_st.png",
    "looks_addition_two_st.png", "pairs_found.png", "errors.csv", "poses.csv",
]  # fmt: skip
REFERENCE = "rts_st_cnn_affine"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with everything, its records and what was drawn."""
    folder, records = tmp_path_factory.mktemp("drawn"), invented_records()
    write_files(folder, records)
    return folder, records, draw(records, folder)


def names(drawn):
    return [each.file.removeprefix("figures/") for each in drawn]


def test_every_figure_is_drawn_in_the_same_bytes_and_fits_a_page(drawn, tmp_path):
    folder, records, figures = drawn
    assert names(figures) == PICTURES
    write_files(tmp_path, records)
    assert draw(records, tmp_path) == figures
    for each in figures:
        content = (folder / each.file).read_bytes()
        assert (tmp_path / each.file).read_bytes() == content
        assert each.title
        assert each.caption.endswith(".")
        assert "Left out" not in each.caption
        if each.file.endswith(".png"):
            with Image.open(folder / each.file) as image:
                assert image.width == 736
                assert np.asarray(image.convert("L")).std() > 10
    assert len({figure_key(each.file) for each in figures}) == len(figures)


def test_the_table_holds_the_means_the_intervals_and_the_papers_numbers(drawn, monkeypatch):
    folder, records, _ = drawn
    with open(folder / "figures" / "errors.csv", newline="") as stream:
        rows = {(row["network"], row["digits"]): row for row in csv.DictReader(stream)}
    assert len(rows) == len(PAPER) == 36
    words = []
    monkeypatch.setattr("reports.drawings.transformer_errors.save", lambda made, _: words.extend(made.axes[0].texts))
    draw_table(records, folder)
    texts = [text.get_text() for text in words]
    for arm, paper in PAPER.items():
        found = [row.value for row in records.where(arm, probe="test")]
        mean, low, _ = t_interval(found)
        row = rows[name_of(arm), arm.partition("_")[0].upper()]
        assert row["test error, %"] == f"{mean:.4g}"
        assert float(row["half-width"]) == pytest.approx(mean - low, rel=1e-3)
        assert (row["seeds"], float(row["paper, %"])) == ("3", paper)
        assert {f"{mean:.1f}", f"\N{PLUS-MINUS SIGN}{mean - low:.1f}", f"{paper:.1f}"} <= set(texts)
    assert {"FCN", "ST-FCN Proj", "ST-CNN TPS", "R", "TC"} <= set(texts)
    assert PAPER["tc_fcn"] == 13.2
    assert PAPER["e_st_cnn_tps"] == 1.1
    assert "tc_st_cnn_tps" not in PAPER


def test_gaps_are_differences_paired_by_seed(monkeypatch, tmp_path):
    records = invented_records(arms=("r_fcn", "r_st_fcn_affine", "tc_fcn", "tc_st_fcn_affine"))
    made = []
    monkeypatch.setattr("reports.drawings.transformer_errors.save", lambda figure, _: made.append(figure))
    assert draw_gaps(records, tmp_path, "gaps", "title", {"panel": ("fcn", "st_fcn")}, "said.")
    (ax,) = made[0].axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["R", "TC"]
    for dots, kind in zip(ax.collections, ("r", "tc"), strict=True):
        plain, transformed = values(records, f"{kind}_fcn"), values(records, f"{kind}_st_fcn_affine")
        assert dots.get_offsets()[:, 1].tolist() == pytest.approx([plain[s] - transformed[s] for s in range(3)])


def test_missing_arms_and_diverged_seeds_are_left_out_and_named(tmp_path):
    arms = ("r_cnn", "r_st_cnn_affine", "rts_cnn", REFERENCE, "addition_fcn", "colocalise_cluttered")
    records = invented_records(arms=arms, diverged=[("r_cnn", 1)])
    write_files(tmp_path, records)
    found = {each.file.removeprefix("figures/"): each for each in draw(records, tmp_path)}
    assert list(found) == [
        "table1.png", "gaps.png", "training_rts.gif", "looks_r.png", "looks_rts.png", "poses.png", "removed.png",
        "remaining.png", "augmentation.png", "start.png", "addition.png", "colocalisation.png", "pairs_found.png",
        "errors.csv", "poses.csv",
    ]  # fmt: skip
    assert "r_fcn;" in found["table1.png"].caption
    assert "r_cnn seed 1;" in found["table1.png"].caption
    assert "Left out, without a value: rts_fixed_cnn; rts_fixed_st_cnn." in found["augmentation.png"].caption
    assert "addition_two_st" in found["addition.png"].caption
    assert "colocalise_translated; colocalise_learned; colocalise_any." in found["colocalisation.png"].caption
    assert "rts_st_fcn_affine; " in found["removed.png"].caption
    assert "projective, spline" in found["looks_r.png"].caption
    assert "flipped_st_cnn; full_turn_st_cnn" in found["remaining.png"].caption
    assert left_out(records, ["rts_cnn"]) == ""
    assert values(records, "r_cnn").keys() == {0, 2}
    assert draw(Records(), tmp_path) == []


def test_one_seed_has_no_interval_and_other_files_are_not_needed(tmp_path):
    figures = draw(invented_records(seeds=[0]), tmp_path)
    assert names(figures) == [
        name for name in PICTURES if not name.startswith(("training", "looks", "pairs", "poses.p", "remain"))
    ]
    with open(tmp_path / "figures" / "errors.csv", newline="") as stream:
        assert {row["half-width"] for row in csv.DictReader(stream)} == {""}


def test_strips_tell_means(drawn, monkeypatch, tmp_path):
    _, records, _ = drawn
    made = {}
    monkeypatch.setattr(
        "reports.charts.named_strips.save", lambda figure, path: made.update({path.stem: figure.axes[0]})
    )
    draw(records, tmp_path)
    labels = {name: [tick.get_text() for tick in ax.get_yticklabels()] for name, ax in made.items()}
    assert labels["augmentation"] == ["CNN", "CNN, augmented", "ST-CNN", "ST-CNN, augmented"]
    means = [f"{fmean(values(records, arm).values()):.3g}" for arm in SUMS]
    assert [text.get_text() for text in made["addition"].texts] == means
    found = [values(records, arm, "pairs", "found", when=w) for arm in PAIRS for w in ("trained", "untrained")]
    assert [text.get_text() for text in made["colocalisation"].texts] == [f"{fmean(f.values()):.3g}" for f in found]
    assert labels["colocalisation"][4::2] == ["encoder learns,\ntrained", "any two digits,\ntrained"]
    crosses = [line for line in made["colocalisation"].lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[100.0], [75.0, 94.0]]  # of no other arm


def test_remaining_angles_show_the_class_that_stays_upside_down(drawn, monkeypatch, tmp_path):
    folder, records, _ = drawn
    made = {}
    monkeypatch.setattr(
        "reports.drawings.transformer_poses.save", lambda figure, path: made.update({path.stem: figure})
    )
    draw(records, folder)
    _, upside_down, _ = made["remaining"].axes
    kept = fmean(values(records, "flipped_st_cnn", "class", "kept_upside_down", label=3).values())
    assert f"{kept:.0f} % of class 3 leave upside down" in upside_down.get_title(loc="left")
    heights = np.array([[bar.get_height() for bar in bars] for bars in upside_down.containers])
    assert heights.sum() == pytest.approx(100)
    assert heights[1].sum() == pytest.approx(10)
    middle = slice(6, 18)  # within a right angle of upright
    assert heights[1, middle].sum() < 1 < 89 < heights[0, middle].sum()


def test_what_remains_is_read_not_computed_again(monkeypatch, tmp_path):
    records = invented_records(arms=["r_st_cnn_affine"], seeds=[0])
    write_files(tmp_path, records)
    path = tmp_path / "files" / "r_st_cnn_affine-s0" / "poses.npz"
    write_npz(path, **read_arrays(path) | {"left": np.full(300, 50.0)})
    made = []
    monkeypatch.setattr("reports.drawings.transformer_poses.save", lambda figure, path: made.append(figure))
    draw(records, tmp_path)
    (ax,) = made[-1].axes
    bars = {bar.get_x(): bar.get_height() for bar in ax.containers[0] if bar.get_height()}
    assert bars == {45: pytest.approx(100)}
    path.unlink()
    write_npz(path, true_angle=np.arange(3.0))
    with pytest.raises(ValueError, match=r"poses.npz holds no"):
        draw(records, tmp_path)


def test_what_is_taken_away_is_shown_with_every_seed(drawn, monkeypatch, tmp_path):
    _, records, _ = drawn
    made = []
    monkeypatch.setattr("reports.drawings.transformer_poses.save", lambda figure, path: made.append(figure))
    worse = [
        replace(row, value=-300.0) if (row.arm, row.seed, row.metric) == (REFERENCE, 0, "shift/removed") else row
        for row in records
    ]
    (told,) = draw_removed(Records(worse), tmp_path, {REFERENCE: "ST-CNN Aff", "rts_st_fcn_tps": "ST-FCN TPS"})
    (ax,) = made[0].axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["ST-CNN Aff", "ST-FCN TPS"]
    seen = [dots.get_offsets()[:, 0].tolist() for dots in ax.collections]
    kept = [
        [v for v in values(Records(worse), arm, "pose", f"{what}/removed").values() if v > -100]
        for arm in (REFERENCE, "rts_st_fcn_tps") for what in ("angle", "scale", "shift")
    ]  # fmt: skip
    assert seen == [pytest.approx(found) for found in kept]
    assert [len(found) for found in seen] == [3, 3, 2, 3, 3, 3]
    assert [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "<"] == [[-100.0]]
    assert "An arrow stands for seeds below -100 %; a mean below it has no bar." in told.caption
    assert draw_removed(records, tmp_path, {"rts_cnn": "CNN"}) == []


def test_poses_in_numbers(drawn):
    folder, records, _ = drawn
    with open(folder / "figures" / "poses.csv", newline="") as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    for arm, what in ((REFERENCE, "angle"), (REFERENCE, "scale"), (REFERENCE, "shift"), ("full_turn_st_cnn", "angle")):
        mean = fmean(values(records, arm, "pose", f"{what}/removed").values())
        assert rows[arm][f"{what.replace('shift', 'place')} removed, %"] == f"{mean:.4g}"
    assert rows["full_turn_st_cnn"]["angle"] == rows["r_st_cnn_affine"]["scale removed, %"] == ""
    assert 0.7 < float(rows["r_st_cnn_affine"]["angle"]) < 0.95


def test_the_animation_has_a_frame_for_each_state_and_holds_the_last(drawn):
    folder, *_ = drawn
    path = folder / "figures" / "training_rts.gif"
    assert path.stat().st_size < animation.MOST_BYTES
    with Image.open(path) as gif:
        assert gif.n_frames == STATES
        assert gif.info["loop"] == 0
        times, frames = [], []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            times.append(gif.info["duration"])
            frames.append(np.asarray(gif.convert("RGB"), dtype=int))
    assert times == [FIRST, *[frame_time(STATES)] * (STATES - 2), LAST]
    assert [frame_time(n) for n in (3, 20, 60)] == [500, 300, 120]
    kept = read_arrays(folder / "files" / f"{REFERENCE}-s0" / "training.npz")
    side, left, top = animation.SIDE, animation.CELL + animation.MARGIN, animation.HEAD + animation.MARGIN
    for frame, outputs in zip(frames, kept["outputs"], strict=True):  # what was given to the network is what is seen
        seen = frame[top : top + side, left : left + side, 0]
        centres = (np.arange(outputs.shape[-1]) + 0.5) * side / outputs.shape[-1]
        at = centres.astype(int)
        assert np.abs(seen[np.ix_(at, at)] - outputs[0]).max() < 8  # as near as a palette allows
    assert (frames[0] != frames[-1]).any()


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


def test_a_damaged_file_is_named(tmp_path):
    write_npz(tmp_path / "files" / "a-s0" / "training.npz", images=np.arange(3))
    with pytest.raises(ValueError, match=r"training.npz holds no 'epochs', only images"):
        animate(Kept(tmp_path, "a", [0]), "moving", "title")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"cut.npz cannot be read"):
        read_arrays(tmp_path / "cut.npz")


def test_wandb_is_given_the_animation_as_a_video(drawn):
    import wandb

    from ablations.harness.tracking.summary_run import _figure

    folder, *_ = drawn
    shown = _figure(folder / "figures" / "training_rts.gif", "said")
    assert isinstance(shown, wandb.Video)
    assert (shown._format, shown._caption) == ("gif", "said")
    assert figure_key("figures/training_rts.gif") == "figures/training_rts"


@pytest.fixture
def page(drawn, finished, tmp_path):
    """A folder with a page whose one figure is an animation."""
    folder, records, figures = drawn
    moving = next(each for each in figures if each.file.endswith(".gif"))
    (tmp_path / "figures").mkdir()
    (tmp_path / moving.file).write_bytes((folder / moving.file).read_bytes())
    content = json.loads((finished / "ablation.json").read_text())
    write_json(tmp_path / "ablation.json", content | {"figures": [moving._asdict()]})
    (tmp_path / "verdicts.json").write_bytes((finished / "verdicts.json").read_bytes())
    write_csv(tmp_path / "records.csv", records)
    return tmp_path, moving


def test_the_page_shows_the_animation_and_its_last_frame(page):
    folder, moving = page
    text = write_page(folder).read_text()
    assert "problems" not in text.partition("<body>")[2]
    assert text.count("data:image/gif;base64,") == text.count("data:image/png;base64,") == 1
    assert f'alt="{moving.title}, an animation"' in text
    assert "prefers-reduced-motion" in text
    whole = (folder / moving.file).read_bytes()
    for broken in (whole[: len(whole) // 2], b"GIF89a;", b""):
        (folder / moving.file).write_bytes(broken)
        with pytest.raises(ValueError, match="is no complete GIF"):
            figure(folder, moving._asdict())


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
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
