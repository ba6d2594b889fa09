"""Warnings of runs that lost what they had learned, and of spatial transformers that failed."""

from pathlib import Path
from typing import Any

from ablations.harness.store.records import Record, Records, point, read_records, write_csv
from reports.pages.page import write_page
from reports.pages.run_warnings import run_warnings


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
    outside, folded = run_warnings(records)
    assert outside.startswith("Arm affine, seeds 0, 2 of 3: in the last epoch of training the sampled window")
    assert outside.endswith("for more than 1 % of the transformed samples (12.5 %, 3 %).")
    assert folded.startswith("Arm tps, seed 0 of 1: in the last epoch of training the transform could not be undone")
    assert run_warnings(Records()) == []


def test_a_run_whose_loss_rose_again_is_told_with_its_rise() -> None:
    lost = [3.0, 2.5, *[2.4] * 6, 2.0, 3.2]  # the tenth epoch is later than the ninth
    late = [3.0, 2.5, *[3.4] * 6, 3.2, 2.0]
    records = Records(
        [
            *reversed(rows("four", 0, "loss", lost)),  # the order of the records does not matter
            *rows("four", 1, "loss", late),
            *rows("four", 2, "loss", [2.3, 1.0, 1.5]),
            *rows("four", 3, "loss", [2.3, 1.0, 1.75]),
            *rows("two", 0, "loss", [2.3, 1.0, 1.4]),
            *rows("two", 0, "top1_error", [10.0, 80.0]),
        ]
    )
    (told,) = run_warnings(records)
    assert told == (
        "Arm four, seeds 0, 3 of 4: the training loss ended above the least that it had reached (by 1.2, 0.75); the "
        "run may have lost what it had learned."
    )
    (alone,) = run_warnings(Records([*rows("four", 1, "loss", late), *rows("two", 7, "loss", lost)]))
    assert alone.startswith(
        "Arm two, seed 7 of 1: the training loss ended above the least that it had reached (by 1.2)"
    )


def test_the_page_shows_them_only_where_there_are_some(edit: tuple[Path, Any]) -> None:
    folder, _ = edit
    kept = list(read_records(folder))
    assert "may have failed" not in write_page(folder).read_text(encoding="utf-8")
    for added, told in (
        (
            rows("vgg", 0, "transformers_blank", [0.0, 25.0]),
            "vgg, seed 0 of 1: in the last epoch of training the output",
        ),
        (rows("plainer", 0, "loss", [1.0, 3.0]), "plainer, seed 0 of 1: the training loss ended above the least"),
    ):
        write_csv(folder / "records.csv", [*kept, *added])
        page = write_page(folder).read_text(encoding="utf-8")
        (shown,) = page.split('id="warnings"')[1:]
        assert shown.partition("</section>")[0].count("<li>") == 1
        assert f"<li>Arm {told}" in shown
        assert "This report is incomplete" not in page
