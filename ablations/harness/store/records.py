"""Records: the one tidy table from which every verdict, figure and report is computed.

Runs leave it as records.csv; what is published holds the same rows as records.parquet, in a twenty-fifth of the room.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablations.harness.store.files import atomic_write_bytes, atomic_write_text

CSV, PARQUET = "records.csv", "records.parquet"  # in the folder of an ablation

# `Records.where` takes these as arguments of its own, so that no field of a point may be called the same.
RESERVED = ("arm", "seed", "probe", "metric")


def as_text(value: object) -> str:
    """The text of a field's value: yes / no for booleans, the shortest exact decimal for floats."""
    if hasattr(value, "item"):  # a scalar of numpy or torch, whose own text depends on the library's version
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(float(value)) if isinstance(value, float) else str(value)


def point(probe: str, **fields: object) -> str:
    """The text "probe key=value key=value ..." that says what a probe measured.

    Raises ValueError if a name or value is empty or holds white space or "=", or if a field's name is reserved.
    """
    text = " ".join([probe, *(f"{key}={as_text(value)}" for key, value in fields.items())])
    expected = (probe, {key: as_text(value) for key, value in fields.items()})
    name, parsed = _parse(text)
    if (name, dict(parsed)) != expected:
        raise ValueError(f"probe, keys and values must hold neither white space nor '=': {probe!r}, {fields!r}")
    return text


@lru_cache(maxsize=65536)  # the same points return for every arm and seed
def _parse(text: str) -> tuple[str, Mapping[str, str]]:
    """The probe's name and its fields; raises ValueError if `text` is not a point."""
    probe, *pairs = text.split(" ")
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value) or "=" in value or key in parsed or key in RESERVED:
            raise ValueError(f"point {text!r}: {pair!r} is not one key=value with a new key other than {RESERVED}")
        parsed[key] = value
    if not probe or "=" in probe or text.split() != [probe, *pairs]:
        raise ValueError(f"point {text!r} does not read 'probe key=value key=value ...'")
    return probe, MappingProxyType(parsed)


@dataclass(frozen=True)
class Record:
    """One row: one value that one probe measured on one trained network.

    point: see `point`; value: in `unit`, NaN for a diverged run; run: identity of the run that was measured.
    Raises ValueError if `point` is malformed.
    """

    ablation: str
    arm: str
    seed: int
    point: str
    metric: str
    value: float
    unit: str
    run: str

    def __post_init__(self) -> None:
        _parse(self.point)

    @property
    def probe(self) -> str:
        """The first word of the point."""
        return _parse(self.point)[0]

    @property
    def fields(self) -> Mapping[str, str]:
        """The key=value pairs of the point; read-only."""
        return _parse(self.point)[1]


COLUMNS = tuple(field.name for field in fields(Record))


class Records(tuple[Record, ...]):
    """An immutable sequence of records that can be narrowed down."""

    def __repr__(self) -> str:
        return f"Records({len(self)} rows, arms {', '.join(self.arms)})"

    def where(
        self,
        arm: str | None = None,
        seed: int | None = None,
        probe: str | None = None,
        metric: str | None = None,
        **fields: object,
    ) -> Records:
        """The records that agree with everything given; `fields` of the point are compared as text, see `as_text`."""
        wanted = {key: as_text(value) for key, value in fields.items()}
        return Records(
            row
            for row in self
            if (arm is None or row.arm == arm)
            and (seed is None or row.seed == seed)
            and (probe is None or row.probe == probe)
            and (metric is None or row.metric == metric)
            and all(row.fields.get(key) == value for key, value in wanted.items())
        )

    def by_seed(
        self, arm: str | None = None, probe: str | None = None, metric: str | None = None, **fields: object
    ) -> dict[int, list[float]]:
        """The values of `where(...)` grouped by seed, seeds ascending; a seed without records has no entry."""
        groups: dict[int, list[float]] = {}
        for row in self.where(arm, None, probe, metric, **fields):
            groups.setdefault(row.seed, []).append(row.value)
        return dict(sorted(groups.items()))

    def over(self, field: str) -> dict[int, Records]:
        """The records by the whole number in a field of their points, ascending; raises KeyError for one without."""
        groups: dict[int, list[Record]] = {}
        for row in self:
            groups.setdefault(int(row.fields[field]), []).append(row)
        return {number: Records(groups[number]) for number in sorted(groups)}

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in order of appearance."""
        return tuple(dict.fromkeys(row.arm for row in self))

    def seeds(self, arm: str | None = None) -> tuple[int, ...]:
        """The seeds that have records (of one arm), ascending."""
        return tuple(sorted({row.seed for row in self if arm is None or row.arm == arm}))

    def values(self) -> list[float]:
        """The values in the order of the records."""
        return [row.value for row in self]


def write_csv(path: str | Path, records: Iterable[Record]) -> None:
    """Write the table atomically; raises ValueError as `as_csv`, and OSError."""
    try:
        text = as_csv(records)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    atomic_write_text(path, text)


def as_csv(records: Iterable[Record]) -> str:
    """The table as text; floats are written so that reading gives the same number.

    Raises ValueError for a text with a line end, because one row is one line.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in records:
        value = repr(float(row.value))  # also for scalars of numpy, whose own text is shorter than exact
        cells = [row.ablation, row.arm, str(int(row.seed)), row.point, row.metric, value, row.unit, row.run]
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise ValueError(f"a text holds a line end in {row}")
        writer.writerow(cells)
    return stream.getvalue()


def read_csv(path: str | Path) -> Records:
    """Read what `write_csv` wrote; raises ValueError naming file and line for a damaged row, OSError without a file."""
    rows: list[Record] = []
    line = 1
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            text = stream.read()
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"the header is {','.join(header)!r} instead of {','.join(COLUMNS)!r}")
        line = 2
        for cells in reader:
            if len(cells) != len(COLUMNS):
                raise ValueError(f"{len(cells)} cells instead of {len(COLUMNS)}")
            ablation, arm, seed, where, metric, value, unit, run = cells
            rows.append(Record(ablation, arm, int(seed), where, metric, float(value), unit, run))
            line = reader.line_num + 1
        if not text.endswith("\n"):  # the last cell may have lost its end and would still look sound
            line -= 1
            raise ValueError("the line is cut off")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {line}: {error}") from error
    return Records(rows)


def write_parquet(path: str | Path, records: Iterable[Record]) -> None:
    """Write the table atomically, numbers to the last bit; the same records and pyarrow give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = list(records)
    table = pa.table({name: [getattr(row, name) for row in rows] for name in COLUMNS}, _schema())
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", compression_level=19, write_page_checksum=True)
    atomic_write_bytes(path, stream.getvalue())


def _schema() -> Any:
    """The columns of records.parquet."""
    import pyarrow as pa

    types = {"seed": pa.int64(), "value": pa.float64()}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])


def records_file(folder: Path) -> Path:
    """The file of an ablation's folder that holds its records, which may be missing; a CSV is newer than a Parquet."""
    csv_file, published = folder / CSV, folder / PARQUET
    return published if published.is_file() and not csv_file.exists() else csv_file


def read_records(folder: Path) -> Records:
    """The records of an ablation's folder; raises ValueError naming the file if it is damaged, OSError without one."""
    path = records_file(folder)
    return _read_parquet(path) if path.name == PARQUET else read_csv(path)


def _read_parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = path.read_bytes()  # apart, because pyarrow raises OSError for damage too
    try:
        # Threads of pyarrow that read from memory abort one process in three at its end.
        table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read(use_threads=False)
        if not table.schema.equals(_schema()):
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        return Records(map(Record, *table.to_pydict().values()))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
