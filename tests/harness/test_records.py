"""The tidy table: points, narrowing down, exact round trips, damage, and files written whole or not at all."""

import contextlib
import json
import math
import os
import pickle
import struct
from dataclasses import replace
from itertools import product
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.harness.store.files import atomic_write_bytes, atomic_write_text, write_json
from ablations.harness.store.records import (
    COLUMNS,
    CSV,
    PARQUET,
    Record,
    Records,
    point,
    read_csv,
    read_records,
    write_csv,
    write_parquet,
)

ROW = Record("remove_layers", "resnet", 0, "delete block=a position=3", "top1_error", 7.25, "%", "resnet20-s0-ab12")
TABLE = Records(
    replace(ROW, arm=arm, seed=seed, point=point("delete", block=block, skip=skip), value=value, run=f"{arm}{seed}")
    for value, (seed, arm, block, skip) in enumerate(product((2, 0), ("vgg", "resnet"), "ab", (True, False)))
)


def bits(records):
    return [struct.pack("<d", row.value) for row in records]


def test_columns_are_the_contract():
    assert ",".join(COLUMNS) == "ablation,arm,seed,point,metric,value,unit,run"


def test_a_point_is_built_and_parsed():
    text = point("delete", block="stage1_block2", position=3, changes_shape=False, fraction=0.1, last=np.True_)
    assert text == "delete block=stage1_block2 position=3 changes_shape=no fraction=0.1 last=yes"
    row = replace(ROW, point=text)
    assert row.probe == "delete"
    assert row.fields["position"] == "3"
    assert list(row.fields) == ["block", "position", "changes_shape", "fraction", "last"]


def test_a_point_may_have_no_fields():
    assert replace(ROW, point=point("whole")).probe == "whole"
    assert not replace(ROW, point="whole").fields


@pytest.mark.parametrize(("probe", "fields"), [
    ("two words", {}),
    ("a=b", {}),
    ("", {}),
    ("delete", {"block": "a b"}),
    ("delete", {"block": "a b=c"}),
    ("delete", {"block": "a=b"}),
    ("delete", {"block": ""}),
    ("delete", {"block": "a\n"}),
    ("delete", {"block": "a\tb"}),
    ("delete", {"the block": 1}),
    ("delete", {"": 1}),
    ("delete", {"seed": 1}),
])  # fmt: skip
def test_a_point_refuses_what_it_could_not_parse(probe, fields):
    with pytest.raises(ValueError, match=r"point|white space"):
        point(probe, **fields)


@pytest.mark.parametrize("text", ["", " ", "delete ", "delete block", "delete a=1 a=2", "delete  a=1", "a=1"])
def test_a_record_refuses_a_malformed_point(text):
    with pytest.raises(ValueError, match="point"):
        replace(ROW, point=text)


def test_records_are_an_immutable_sequence():
    assert len(TABLE) == 16
    assert TABLE[0].value == 0
    assert list(TABLE[2:4]) == [TABLE[2], TABLE[3]]
    assert Records(TABLE) == TABLE
    assert pickle.loads(pickle.dumps(TABLE)) == TABLE
    with pytest.raises(TypeError):
        TABLE[0] = ROW


def test_records_are_narrowed_down():
    assert TABLE.where(arm="vgg", seed=2, block="b").values() == [2, 3]
    assert TABLE.where(skip=True, block="a") == TABLE.where(skip="yes", block="a")
    assert TABLE.where(probe="delete", metric="top1_error") == TABLE
    assert not TABLE.where(probe="swap")
    assert not TABLE.where(position=3), "a field that a point lacks never agrees"
    assert Records([ROW]).where(position=3).values() == [7.25]
    assert TABLE.arms == ("vgg", "resnet")
    assert TABLE.seeds() == TABLE.seeds("vgg") == (0, 2)
    assert TABLE.seeds("plain") == ()


def test_records_are_grouped_by_the_number_in_a_field():
    rows = [replace(ROW, point=point("delete", position=at), value=float(at)) for at in (10, 9, 10)]
    groups = Records(rows).over("position")
    assert list(groups) == [9, 10], "by number, not by text"
    assert groups[10] == (rows[0], rows[2])
    with pytest.raises(KeyError, match="block"):
        Records(rows).over("block")


def test_values_are_grouped_by_ascending_seed():
    groups = TABLE.by_seed(arm="resnet", block="a")
    assert groups == {0: [12, 13], 2: [4, 5]}
    assert list(groups) == [0, 2]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)


SEED = st.integers(-(2**63), 2**63 - 1)
FORMS = [(CSV, write_csv), (PARQUET, write_parquet)]


@pytest.mark.parametrize(("name", "write"), FORMS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, SEED, TEXT, st.floats(), TEXT, TEXT), max_size=4))
def test_the_round_trip_is_exact(tmp_path_factory, name, write, cells):
    rows = Records(Record(a, b, seed, ROW.point, m, value, unit, run) for a, b, seed, m, value, unit, run in cells)
    folder = tmp_path_factory.mktemp("records")
    write(folder / name, rows)
    back = read_records(folder)
    assert [replace(row, value=0.0) for row in back] == [replace(row, value=0.0) for row in rows]
    assert [row.value for row in back if row.value == row.value] == [
        row.value for row in rows if row.value == row.value
    ]
    assert [math.isnan(row.value) for row in back] == [math.isnan(row.value) for row in rows]


@pytest.mark.parametrize(("name", "write"), FORMS)
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -0.0, 0.1 + 0.2, 5e-324, 7, np.float32(0.1), np.float64(1 / 3)]
)
def test_awkward_values_survive_to_the_last_bit(tmp_path, name, write, value):
    write(tmp_path / name, [replace(ROW, value=value)])
    assert bits(read_records(tmp_path)) == bits([replace(ROW, value=float(value))])


def test_a_csv_is_newer_than_a_parquet_and_another_table_is_named(tmp_path):
    write_parquet(tmp_path / PARQUET, TABLE)
    whole = (tmp_path / PARQUET).read_bytes()
    write_parquet(tmp_path / PARQUET, TABLE)
    assert (tmp_path / PARQUET).read_bytes() == whole
    assert read_records(tmp_path) == TABLE
    write_csv(tmp_path / CSV, [ROW])
    assert read_records(tmp_path) == Records([ROW])
    (tmp_path / CSV).unlink()
    pq.write_table(pq.read_table(tmp_path / PARQUET).drop(["unit"]), tmp_path / PARQUET)
    with pytest.raises(ValueError, match=r"records\.parquet: its columns are not ablation, arm, seed"):
        read_records(tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_of_a_parquet_passes_for_other_records(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("records")
    write_parquet(folder / PARQUET, TABLE)
    content = bytearray((folder / PARQUET).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    (folder / PARQUET).write_bytes(content)
    with contextlib.suppress(ValueError):  # what tells nothing of the table, such as the writer's name, may be damaged
        assert read_records(folder) == TABLE


def test_a_diverged_run_reads_as_nan_in_the_file(tmp_path):
    write_csv(tmp_path / "records.csv", [replace(ROW, value=math.nan)])
    assert ",nan," in (tmp_path / "records.csv").read_text()


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_row_is_one_line(tmp_path, end):
    with pytest.raises(ValueError, match="line end"):
        write_csv(tmp_path / "records.csv", [replace(ROW, run=f"a{end}b")])
    assert not list(tmp_path.iterdir())


def test_an_empty_table_round_trips(tmp_path):
    write_csv(tmp_path / "records.csv", [])
    assert len(read_csv(tmp_path / "records.csv")) == 0


@pytest.mark.parametrize(("damage", "line", "reason"), [
    (lambda text: "", 1, "header"),
    (lambda text: text.replace("metric", "metrics"), 1, "header"),
    (lambda text: text.replace("resnet,2,", "resnet,two,", 1), 6, "invalid literal"),
    (lambda text: text.replace(",3.0,", ",three,"), 5, "could not convert"),
    (lambda text: text.replace("3.0,%", "3.0"), 5, "7 cells instead of 8"),
    (lambda text: text.replace(",3.0,", ",3.0\n"), 5, "6 cells"),
    (lambda text: text.replace("\n", "\n\n", 1), 2, "0 cells"),
    (lambda text: text[:-3], 17, "cut off"),
    (lambda text: text.replace("block=b skip=no", "block= skip=no", 1), 5, "point"),
    (lambda text: text.replace(",3.0,", ',"3.0'), 5, "end of data"),
])  # fmt: skip
def test_damage_is_named_with_file_and_line(tmp_path, damage, line, reason):
    path = tmp_path / "records.csv"
    write_csv(path, TABLE)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=rf"records\.csv, line {line}: .*{reason}"):
        read_csv(path)


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "records.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"records\.csv"):
        read_csv(tmp_path / "records.csv")


def test_a_missing_file_is_not_an_empty_table(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "records.csv")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_writer_leaves_the_old_file(tmp_path, monkeypatch, broken):
    path = tmp_path / "records.csv"
    write_csv(path, TABLE)
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, Mock(side_effect=OSError("no space left")))
        with pytest.raises(OSError, match="no space left"):
            write_csv(path, [ROW])
    assert read_csv(path) == TABLE
    assert os.listdir(tmp_path) == ["records.csv"], "no temporary file stays behind"


def test_failing_rows_leave_the_old_file(tmp_path):
    path = tmp_path / "records.csv"
    write_csv(path, TABLE)

    def rows():
        yield ROW
        raise RuntimeError("the probe failed")

    with pytest.raises(RuntimeError, match="the probe failed"):
        write_csv(path, rows())
    assert read_csv(path) == TABLE


def test_files_are_replaced_whole(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "first\r\n")
    atomic_write_text(tmp_path / "a.txt", "\u00e9\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
    atomic_write_bytes(tmp_path / "b", b"\x00")
    assert (tmp_path / "b").read_bytes() == b"\x00"
    (tmp_path / "folder" / "below").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):  # it may be a user's
        atomic_write_text(tmp_path / "folder", "a file")
    assert (tmp_path / "folder" / "below").is_dir()
    with pytest.raises(FileNotFoundError):
        atomic_write_text(tmp_path / "missing" / "a.txt", "")


def test_json_is_strict_and_keeps_its_order(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": [None, 0.1]})
    assert list(json.loads(path.read_text())) == ["b", "a"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"value": math.nan})
    assert json.loads(path.read_text())["b"] == 1
