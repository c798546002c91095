"""Series for other programs: every point a row, and nothing lost on the way."""

from __future__ import annotations

import builtins
import csv
import datetime
import io
import math
from pathlib import Path
from typing import Any

import pytest

from tests.client.topping import job
from tfctl.failures import Failure
from tfctl.render import export
from tfctl.render.export import HEADING, as_csv, rows, write_parquet
from trainforge.api import JobView, PointsAnswer, Series

T0 = 1_800_000_000.25


def parts() -> tuple[list[JobView], list[PointsAnswer]]:
    loss = Series(
        name='loss, "mean"', step=(1.0, 2.5, 3.0), time=(T0, T0 + 1, T0 + 2), attempt=(1, 1, 2),
        value=(0.1, "NaN", "-Infinity"), epoch=(None, 1.0, 2.0),
    )  # fmt: skip
    lr = Series(name="lr", step=(1.0,), time=(T0,), attempt=(1,), value=(1e-05,))
    return [job(3)], [PointsAnswer(job=3, series=loss, rank=0), PointsAnswer(job=3, series=lr, rank=1)]


def test_csv_has_a_row_for_each_point() -> None:
    text = b"".join(as_csv(rows(*parts()))).decode()
    found = list(csv.reader(io.StringIO(text)))
    assert tuple(found[0]) == HEADING
    assert found[1:] == [
        ["3", "job-3", 'loss, "mean"', "0", "1", "1", "", "2027-01-15T08:00:00.250000Z", "0.1"],
        ["3", "job-3", 'loss, "mean"', "0", "1", "2.5", "1", "2027-01-15T08:00:01.250000Z", "NaN"],
        ["3", "job-3", 'loss, "mean"', "0", "2", "3", "2", "2027-01-15T08:00:02.250000Z", "-Infinity"],
        ["3", "job-3", "lr", "1", "1", "1", "", "2027-01-15T08:00:00.250000Z", "1e-05"],
    ]
    assert math.isnan(float(found[2][-1]))


def test_csv_of_many_points_comes_in_parts_and_whole() -> None:
    count = 5_000
    many = Series(
        name="x", step=tuple(map(float, range(count))), time=(T0,) * count, attempt=(1,) * count,
        value=tuple(map(float, range(count))),
    )  # fmt: skip
    texts = list(as_csv(rows([job(3)], [PointsAnswer(job=3, series=many, rank=0)])))
    assert len(texts) > 3
    values = [row[-1] for row in csv.reader(io.StringIO(b"".join(texts).decode()))]
    assert values == ["value", *map(str, range(count))]


def test_of_nothing_there_is_the_heading() -> None:
    assert b"".join(as_csv(rows([job(3)], []))).decode().strip().split(",") == list(HEADING)


def test_parquet_keeps_types_and_what_is_not_finite(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "m.parquet"
    assert write_parquet(rows(*parts()), path) == 4
    table = parquet.read_table(path).to_pydict()
    assert tuple(table) == HEADING
    assert table["step"] == [1.0, 2.5, 3.0, 1.0]
    assert table["epoch"] == [None, 1.0, 2.0, None]
    assert table["time"][0] == datetime.datetime(2027, 1, 15, 8, 0, 0, 250000, datetime.UTC)
    assert math.isnan(table["value"][1])
    assert table["value"][2:] == [-math.inf, 1e-05]
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_is_written_a_part_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "ROWS_AT_ONCE", 3)
    path = tmp_path / "m.parquet"
    assert write_parquet(rows(*parts()), path) == 4
    assert parquet.ParquetFile(path).num_row_groups == 2
    assert parquet.read_table(path).to_pydict()["step"] == [1.0, 2.5, 3.0, 1.0]


def test_parquet_of_nothing_is_an_empty_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_parquet(rows([job(3)], []), tmp_path / "m.parquet") == 0
    assert parquet.read_table(tmp_path / "m.parquet").num_rows == 0


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(Failure, match="nowhere"):
        write_parquet(rows(*parts()), tmp_path / "nowhere" / "m.parquet")


def test_without_pyarrow_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError("No module named 'pyarrow'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Failure, match="pip install pyarrow, or use --csv") as failure:
        write_parquet(rows(*parts()), tmp_path / "m.parquet")
    assert failure.value.code == 1
    assert list(tmp_path.iterdir()) == []
