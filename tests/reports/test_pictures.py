"""What pictures of transformers show, read from the drawing itself before it is written."""

import numpy as np
import pytest
from invented_looks import write_looks

from reports.charts.pictures import COLUMNS, LABEL, Kept, draw_looks, read_arrays
from reports.charts.style import ORANGE, SKY


def cells(figure):
    """The images of a sheet by (row, column), row 0 above, each within its own cell."""
    (ax,) = figure.axes
    lowest, highest = ax.get_ylim()
    assert lowest > highest, "the first row is above"
    lefts = sorted({image.get_extent()[0] for image in ax.images})
    assert min(np.diff(lefts)) == pytest.approx(1)
    found = {}
    for image in ax.images:
        left, right, bottom, top = image.get_extent()
        assert image.origin == "upper"
        assert 0 < right - left == pytest.approx(bottom - top)
        assert int(top) == int(bottom)
        assert found.setdefault((int(top), lefts.index(left)), image) is image
    return found


def over(image, fractions):
    """Where points (n, 2) of an image, fractions of its width, stand in the figure, the first again at the end."""
    left, right, bottom, top = image.get_extent()
    x, y = np.append(fractions, fractions[:1], axis=0).T
    return np.stack([left + x * (right - left), top + y * (bottom - top)], axis=1)


def labels(figure):
    """The words in front of the rows, from the first row to the last."""
    (ax,) = figure.axes
    words = [text for text in ax.texts if text.get_position()[0] < 1]
    return [text.get_text() for text in sorted(words, key=lambda text: text.get_position()[1])]


def test_windows_lie_where_they_were_kept_and_below_is_what_they_gave(figures, tmp_path):
    for arm in ("one", "other"):
        write_looks(tmp_path, arm)
    shown = [Kept(tmp_path, arm, [7, 0], arm.upper()) for arm in ("one", "lost", "other")]
    (told,) = draw_looks(tmp_path, "looks", "title", shown, "Said.")
    assert told.caption.endswith("Said. Left out, without a file: lost.")
    sheet = figures["looks"]
    images = cells(sheet)
    assert labels(sheet) == ["ONE", "gives", "OTHER", "gives"]
    assert images.keys() == {(row, column) for row in range(4) for column in range(COLUMNS)}
    lines = iter(sheet.axes[0].lines)
    for row, arm in ((0, "one"), (2, "other")):
        arrays = read_arrays(tmp_path / "files" / f"{arm}-s0" / "looks.npz")
        for column in range(COLUMNS):
            image = images[row, column]
            assert np.array_equal(image.get_array(), arrays["images"][column])
            assert np.array_equal(images[row + 1, column].get_array(), arrays["outputs"][column])
            window, dot = next(lines), next(lines)
            expected = over(image, (arrays["outlines"][column] + 0.5) / arrays["images"].shape[-1])
            assert np.allclose(window.get_xydata(), expected)
            assert np.allclose(dot.get_xydata(), expected[:1])
            assert (dot.get_marker(), window.get_color(), dot.get_color()) == ("o", ORANGE, ORANGE)
            for line in (window, dot):  # of which nothing is seen in the neighbours
                seen = line.clipbox.transformed(sheet.axes[0].transData.inverted())
                assert seen.extents == pytest.approx([LABEL + column, row + 1, LABEL + column + 1, row])
    assert next(lines, None) is None
    assert {image.get_clim() for image in images.values()} == {(0, 255)}
    assert draw_looks(tmp_path, "none", "title", [Kept(tmp_path, "lost", [0])]) == []


def test_both_channels_have_the_windows_of_both_transformers(figures, tmp_path):
    write_looks(tmp_path, "sum", channels=(2,), transformers=(2,))
    draw_looks(tmp_path, "sums", "title", [Kept(tmp_path, "sum", [0], "two")], heading="sum")
    sheet = figures["sums"]
    images, arrays = cells(sheet), read_arrays(tmp_path / "files" / "sum-s0" / "looks.npz")
    assert labels(sheet) == ["two", "and", "orange\ngives", "and", "blue\ngives", "and"]
    heads = [text.get_text() for text in sheet.axes[0].texts if text.get_text().startswith("sum")]
    assert heads == [f"sum {label}" for label in range(COLUMNS)]
    lines = [line for line in sheet.axes[0].lines if line.get_marker() == "None"]
    for channel in range(2):
        for column in range(COLUMNS):
            image = images[channel, column]
            assert np.array_equal(image.get_array(), arrays["images"][column, channel])
            for transformer, colour in enumerate((ORANGE, SKY)):
                given = images[2 + 2 * transformer + channel, column].get_array()
                assert np.array_equal(given, arrays["outputs"][transformer, column, channel])
                line = lines[2 * (COLUMNS * channel + column) + transformer]
                window = (arrays["outlines"][transformer, column] + 0.5) / arrays["images"].shape[-1]
                assert np.allclose(line.get_xydata(), over(image, window))
                assert line.get_color() == colour


def test_a_damaged_file_is_named(tmp_path):
    write_looks(tmp_path, "one")
    path = tmp_path / "files" / "one-s0" / "looks.npz"
    with pytest.raises(ValueError, match=r"looks.npz holds no 'epochs', only images"):
        read_arrays(path, "epochs")
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"looks.npz cannot be read"):
        read_arrays(path)
