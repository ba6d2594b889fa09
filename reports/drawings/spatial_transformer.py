"""Figures of `spatial_transformer`, from its records and the files that its probes kept.

After Jaderberg et al. 2015, arXiv:1506.02025: table 1 and appendix A.4 on distorted digits, appendix A.1 on addition,
A.2 on co-localisation. What an arm that did not run would show is left out, and the caption names the arm.
"""

from __future__ import annotations

from pathlib import Path

from ablations.harness.store.records import Records
from ablations.spatial_transformer import HALF_ST, SMALL_CNN, SMALL_ST
from reports.charts.animation import animate
from reports.charts.curves import draw_against
from reports.charts.named_strips import draw_strips
from reports.charts.style import BLUE, FAINT, Drawn
from reports.drawings.transformer_errors import (
    COLOURS_OF,
    KINDS,
    PAPER,
    TRANSFORMS,
    draw_gaps,
    draw_table,
    left_out,
    name_of,
    values,
    write_errors,
)
from reports.drawings.transformer_pictures import Kept, draw_looks, draw_pairs_found, draw_sums
from reports.drawings.transformer_poses import draw_poses, draw_remaining, draw_removed, write_poses

FCN, CNN, ST_FCN, ST_CNN = COLOURS_OF.values()
REFERENCE, TURNED, CLUTTERED = "rts_st_cnn_affine", "r_st_cnn_affine", "tc_st_cnn_affine"

AUGMENTED = {
    "rts_fixed_cnn": ("CNN", CNN),
    "rts_cnn": ("CNN, augmented", CNN),
    "rts_fixed_st_cnn": ("ST-CNN", ST_CNN),
    REFERENCE: ("ST-CNN, augmented", ST_CNN),
}
STARTS = {
    REFERENCE: ("starts at\nthe identity", ST_CNN),
    "rts_random_st_cnn": ("starts at\nrandom", ST_CNN),
    "rts_same_rate_st_cnn": ("identity, and\nlearns as fast\nas the rest", ST_CNN),
}
RESOLUTIONS = {"CNN": (SMALL_CNN, "tc_cnn"), "ST-CNN": (SMALL_ST, HALF_ST, CLUTTERED)}
SUMS = {
    "addition_fcn": ("FCN", FCN, (47.7,)),
    "addition_cnn": ("CNN", CNN, (14.7,)),
    "addition_one_st": ("one ST", ST_FCN, (22.6,)),
    "addition_two_st": ("two STs", ST_FCN, (9.0,)),
}
PAIRS = {
    "colocalise_translated": ("translated", (100.0,)),
    "colocalise_cluttered": ("with clutter", (75.0, 94.0)),
    "colocalise_learned": ("encoder learns", ()),
    "colocalise_any": ("any two digits", ()),
}
# Transformers on digits turned, scaled and moved.
PLACED = {
    **{arm: name_of(arm) for arm in PAPER if arm.startswith("rts_st_")},
    "rts_fixed_st_cnn": "ST-CNN Aff,\nnot augmented",
    "rts_random_st_cnn": "ST-CNN Aff,\nstarts at random",
    "rts_same_rate_st_cnn": "ST-CNN Aff,\nfull rate",
}


def draw(records: Records, folder: Path) -> list[Drawn]:
    """Every figure that the records and the files below `folder`/files allow."""
    return [
        *draw_table(records, folder),
        *draw_gaps(
            records, folder, "gaps", "What a spatial transformer gains",
            {"FCN minus ST-FCN": ("fcn", "st_fcn"), "CNN minus ST-CNN": ("cnn", "st_cnn")},
            "Above 0 the network with a transformer errs less.",
        ),
        *draw_gaps(
            records, folder, "against_cnn", "A transformer in place of convolutions",
            {"ST-FCN minus CNN": ("st_fcn", "cnn")}, "At or below 0 the fully connected network is as good as the CNN.",
        ),
        *(found for arm in (REFERENCE, CLUTTERED) for found in _training(records, folder, arm)),
        *(found for kind in KINDS for found in _looks(records, folder, kind)),
        *draw_poses(records, folder, REFERENCE),
        *draw_removed(records, folder, PLACED),
        *draw_remaining(records, folder, {
            TURNED: "turned by up to 90 degrees",
            "flipped_st_cnn": "one class always upside down",
            "full_turn_st_cnn": "turned by any angle",
        }),
        *_strips(records, folder),
        *_resolutions(records, folder),
        *draw_sums(_kept(records, folder, arm, label) for arm, (label, *_) in SUMS.items()),
        *draw_pairs_found(_kept(records, folder, arm, label) for arm, (label, _) in PAIRS.items()),
        *write_errors(records, folder),
        *write_poses(records, folder),
    ]  # fmt: skip


def _kept(records: Records, folder: Path, arm: str, label: str) -> Kept:
    return Kept(folder, arm, records.seeds(arm), label)


def _training(records: Records, folder: Path, arm: str) -> list[Drawn]:
    kind = arm.partition("_")[0]
    title = f"The transformer learns: {KINDS[kind]}"
    return animate(_kept(records, folder, arm, name_of(arm)), f"training_{kind}", title)


def _looks(records: Records, folder: Path, kind: str) -> list[Drawn]:
    """A picture for each kind of distortion; of each transform the ST-CNN, or the ST-FCN where only that was run."""
    shown, missing = [], []
    for transform, label in TRANSFORMS.items():
        asked = [
            _kept(records, folder, arm, f"{name_of(family)}\n{label}")
            for family in ("st_cnn", "st_fcn")
            if (arm := f"{kind}_{family}_{transform}") in PAPER
        ]
        found = [kept for kept in asked if kept.file("looks.npz")]
        shown += found[:1]
        missing += [label] if asked and not found else []
    said = f" Left out, without a file: {', '.join(missing)}." if missing else ""
    return draw_looks(folder, f"looks_{kind}", f"What the transformer does to digits {KINDS[kind]}", shown, said)


def _resolutions(records: Records, folder: Path) -> list[Drawn]:
    """Error against multiply-adds: each network at several resolutions."""
    series: dict[str, dict[float, list[float]]] = {}
    for name, arms in RESOLUTIONS.items():
        for arm in arms:
            costs, errors = values(records, arm, "network", "multiply_adds"), values(records, arm)
            if costs and errors:
                series.setdefault(name, {}).setdefault(next(iter(costs.values())), []).extend(errors.values())
    said = (
        "Digits among clutter. The CNN reads the image shrunk to a third of its width, and to a half; the transformer "
        "gives a third of it in pixels, a half, and all of it, which is pooled to a half behind it."
    )
    missing = left_out(records, [arm for arms in RESOLUTIONS.values() for arm in arms])
    return draw_against(
        folder, "resolution", "Attending at low resolution", "multiply-adds of an image (M)", "test error (%)", series,
        caption=said + missing,
    )  # fmt: skip


def _strips(records: Records, folder: Path) -> list[Drawn]:
    """Small comparisons, a row of seeds for each arm."""
    drawn = []
    for name, title, arms, said in (
        ("augmentation", "A transformer in place of augmentation", AUGMENTED,
         "Digits turned, scaled and moved; augmented: distorted anew in every epoch, else once and for all."),
        ("start", "How the transformer starts", STARTS, "ST-CNN, affine, on digits turned, scaled and moved."),
    ):  # fmt: skip
        rows = {label: (values(records, arm), colour, ()) for arm, (label, colour) in arms.items()}
        drawn += draw_strips(folder, name, title, "test error (%)", rows, said + left_out(records, arms))
    sums = {label: (values(records, arm), colour, paper) for arm, (label, colour, paper) in SUMS.items()}
    said = (
        "Two digits, each in a channel of its own; the network gives their sum. Crosses: the paper, affine, on digits "
        "that are turned and scaled too, which at the laptop and smoke budgets ours are not."
    )
    drawn += draw_strips(
        folder, "addition", "Adding two digits", "test error (%)", sums, said + left_out(records, SUMS)
    )
    found = {
        f"{label},\n{when}": (
            values(records, arm, "pairs", "found", when=when),
            BLUE if when == "trained" else FAINT,
            paper if when == "trained" else (),
        )
        for arm, (label, paper) in PAIRS.items()
        for when in ("trained", "untrained")
    }
    said = (
        "Share of test images where the window and the digit's box overlap by more than half (IoU). The window's size "
        "is given, exactly that of the digit's box; only its place is found. Nobody says where: pairs show the same "
        "digit, in the control any two digits, which tells whether it mattered that they are of the same class. "
        "The encoder is a fixed thumbnail, or learns, the paper's form. Crosses: the paper; with clutter 75 to 94 %."
    )
    return drawn + draw_strips(
        folder, "colocalisation", "Finding what two images share", "found (%)", found,
        said + left_out(records, PAIRS, "pairs", "found"),
    )  # fmt: skip
