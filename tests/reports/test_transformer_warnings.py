"""Warnings of spatial transformers that failed: from the last epoch's records, on the page, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from invented_ablation import make_folder

from ablations.harness.records import Record, Records, point, read_csv, write_csv
from reports.page import write_page
from reports.transformer_warnings import transformer_warnings


def rows(arm: str, seed: int, metric: str, values: list[float]) -> list[Record]:
    return [
        Record("st", arm, seed, point("epoch", epoch=epoch), f"train/{metric}", value, "%", f"{arm}-s{seed}")
        for epoch, value in enumerate(values, start=1)
    ]


def test_the_last_epoch_decides_and_each_failure_has_its_line() -> None:
    records = Records(
        [
            *rows("affine", 0, "transformers_outside", [0.0] * 9 + [12.5]),  # the tenth epoch is later than the ninth
            *rows("affine", 1, "transformers_outside", [50.0, 0.0]),
            *rows("affine", 2, "transformers_outside", [0.0, 3.0]),
            *rows("affine", 0, "transformers_folded", [1.0]),
            *rows("tps", 0, "transformers_folded", [0.0, 40.0]),
            *rows("tps", 0, "positions_outside", [60.0]),
            *rows("tps", 0, "top1_error", [90.0]),
        ]
    )
    outside, folded = transformer_warnings(records)
    assert outside.startswith("Arm affine, seeds 0, 2 of 3: in the last epoch of training the sampled window")
    assert outside.endswith("for more than 1 % of the transformed samples (12.5 %, 3 %).")
    assert folded.startswith("Arm tps, seed 0 of 1: in the last epoch of training the transform could not be undone")
    assert transformer_warnings(Records()) == []


def test_the_page_shows_them_only_where_there_are_some(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    before = write_page(folder).read_text(encoding="utf-8")
    assert "Spatial transformers may have failed" not in before
    records = [*read_csv(folder / "records.csv"), *rows("vgg", 0, "transformers_blank", [0.0, 25.0])]
    write_csv(folder / "records.csv", records)
    page = write_page(folder).read_text(encoding="utf-8")
    assert page.count("Spatial transformers may have failed") == 1
    assert "Arm vgg, seed 0 of 1: in the last epoch of training the output was blank" in page
    assert "This report is incomplete" not in page
