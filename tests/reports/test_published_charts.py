"""Every chart of every script is drawn from what was published of it, and fits a page."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablations.harness.declare import chart
from ablations.harness.declare.scripts import declared
from ablations.harness.store.records import read_records
from ablations.harness.store.wandb_names import figure_key
from reports.charts.declared import draw_all

TESTS = Path(__file__).parents[1]
AMENDED = (TESTS / "golden" / "amended.txt").read_text().split()  # whose published evidence may lack what a chart shows
FOLDERS = sorted((TESTS.parent / "reports" / "published").glob("*/laptop-digits"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_every_chart_is_drawn_from_files_alone(folder, tmp_path):
    ablation, records = declared(folder.parent.name), read_records(folder)
    for name in ("files", "ablation.json", "verdicts.json"):
        (tmp_path / name).symlink_to(folder / name)
    drawn = []
    for each in ablation.charts:
        said = json.loads(json.dumps(chart.written(each)))
        found = draw_all([said], ablation.name, records, tmp_path)
        assert found or ablation.name in AMENDED, said
        drawn += found
    assert drawn
    for figure in drawn:
        assert figure.title
        assert figure.caption == "" or figure.caption.endswith(".")
        if figure.file.endswith(".png"):
            with Image.open(tmp_path / figure.file) as image:
                assert image.width == 736, figure
                assert np.asarray(image.convert("L")).std() > 5, figure
    assert len({figure_key(figure.file) for figure in drawn}) == len(drawn)
