"""Series as rows for other programs: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import datetime
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from tfctl.failures import Failure
from trainforge.api import JobView, PointsAnswer, Value

HEADING = ("job", "name", "metric", "rank", "attempt", "step", "epoch", "time", "value")
ROWS_AT_ONCE = 100_000  # written together: what is held in memory
Row = tuple[int, str, str, int, int, float, float | None, datetime.datetime, float]


def rows(jobs: Sequence[JobView], parts: Iterable[PointsAnswer]) -> Iterator[Row]:
    """One for each point, in the order of the parts."""
    names = {job.id: job.name for job in jobs}
    for part in parts:
        series = part.series
        epochs = series.epoch or (None,) * len(series.step)
        points = zip(series.attempt, series.step, epochs, series.time, series.value, strict=True)
        for attempt, step, epoch, time, value in points:
            moment = datetime.datetime.fromtimestamp(time, datetime.UTC)
            yield (
                part.job, names[part.job], series.name, part.rank,
                attempt, step, epoch, moment, number(value),
            )  # fmt: skip


def number(value: Value) -> float:
    """NaN and infinities come by name."""
    return math.nan if value is None else float(value)


def as_csv(table: Iterator[Row]) -> Iterator[bytes]:
    """RFC 4180, with a heading; NaN and infinities as pandas and others read them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADING)
    for count, (*keys, step, epoch, moment, value) in enumerate(table, 1):
        when = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
        writer.writerow((*keys, _text(step), "" if epoch is None else _text(epoch), when, _text(value)))
        if count % 1000 == 0:
            yield text.getvalue().encode(errors="backslashreplace")
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode(errors="backslashreplace")


def _text(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def write_parquet(table: Iterator[Row], path: Path) -> int:
    """How many rows were written. The file is whole or not there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise Failure(f"--parquet needs pyarrow ({error}): pip install pyarrow, or use --csv", 1) from None
    kinds = (
        pyarrow.int64(), pyarrow.string(), pyarrow.string(), pyarrow.int32(), pyarrow.int32(),
        pyarrow.float64(), pyarrow.float64(), pyarrow.timestamp("us", "UTC"), pyarrow.float64(),
    )  # fmt: skip
    schema = pyarrow.schema(list(zip(HEADING, kinds, strict=True)))
    if not path.parent.is_dir():
        raise Failure(f"{path}: there is no folder {path.parent}", 1)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    count = 0
    try:
        with pyarrow.parquet.ParquetWriter(draft, schema) as writer:
            while some := list(islice(table, ROWS_AT_ONCE)):
                columns = zip(zip(*some, strict=True), kinds, strict=True)
                arrays = [pyarrow.array(list(column), kind) for column, kind in columns]
                writer.write_table(pyarrow.table(arrays, schema=schema))
                count += len(some)
        os.replace(draft, path)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}", 1) from error
    finally:
        draft.unlink(missing_ok=True)
    return count
