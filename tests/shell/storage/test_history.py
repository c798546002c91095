"""What GPUs and jobs used, kept over time: whole at first, then as means, with gaps where nobody looked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.storage.storing import NOW
from trainforged.storage.database import Database
from trainforged.storage.metrics.blocks import BLOCKS
from trainforged.storage.metrics.history import DAY, KEPT, HistoryStore, KeptSpan, News, SeenGpu
from trainforged.storage.metrics.history_schema import HISTORY
from trainforged.storage.metrics.ingestion import Place, Reading
from trainforged.storage.metrics.order import UNORDERED
from trainforged.storage.metrics.schema import METRICS
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.opening import Schema
from trainforged.storage.recordlines import Report

GPU = SeenGpu(uuid="GPU-a", index=0, name="Fast", memory_total=100)
T = int(NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    metrics = MetricStore(tmp_path / "metrics.db").open()
    yield metrics.history
    metrics.close()


def write(
    store: HistoryStore, first: int, seconds: int, value: float = 50.0, now: float | None = None
) -> None:
    figures = [("GPU-a", t, (value, 10.0, None, 100.0)) for t in range(first, first + seconds)]
    store.write(News(gpus=[GPU], gpu_figures=figures), now if now is not None else first + seconds)


def test_the_last_minutes_are_there_second_by_second(store: HistoryStore) -> None:
    write(store, T, 20)
    grid = store.gpu_grids(T, T + 20, 600, T + 20)["GPU-a"]
    assert (grid.step, grid.count) == (1, 20)
    assert grid.times == tuple(float(T + n) for n in range(20))
    assert grid.column(0) == (50.0,) * 20
    assert grid.column(2) == (None,) * 20, "the device could not say"
    assert store.gpus() == (GPU,)


def test_a_time_in_which_nobody_looked_is_a_gap(store: HistoryStore) -> None:
    write(store, T, 5)
    write(store, T + 8, 2, 70.0)
    grid = store.gpu_grids(T, T + 10, 600, T + 10)["GPU-a"]
    assert grid.column(0) == (50.0,) * 5 + (None,) * 3 + (70.0,) * 2


def test_older_figures_are_means_and_the_oldest_go(store: HistoryStore) -> None:
    begin = T // 60 * 60
    for minute in range(30):
        for part in range(6):
            write(store, begin + minute * 60 + part * 10, 10, float(minute))
    now = begin + 1800
    hour = store.gpu_grids(begin, now, 600, now)["GPU-a"]
    assert hour.step == 10
    assert hour.column(0)[:7] == (0.0,) * 6 + (1.0,)
    late = now + 2 * DAY
    write(store, late - 10, 10, 99.0, late)
    days = store.gpu_grids(begin, late, 5000, late)["GPU-a"]
    assert days.step == 60
    assert days.column(0)[:30] == tuple(float(minute) for minute in range(30))
    assert days.column(0)[30] is None
    with store._database.read() as connection:
        rows = dict(connection.execute("SELECT step, count(*) FROM gpu_history GROUP BY step"))
    assert rows == {1: 10, 10: 1 + (late % 10 != 0), 60: 31 + (late % 60 in range(1, 10))}
    write(store, late + KEPT + 100, 1)
    assert store.gpu_grids(begin, late, 5000, late + KEPT) == {}


def test_many_seconds_are_few_points(store: HistoryStore) -> None:
    begin = T // 10 * 10
    write(store, begin, 600)
    grid = store.gpu_grids(begin, begin + 600, 100, begin + 600)["GPU-a"]
    assert (grid.step, grid.count) == (6, 100)
    assert set(grid.column(0)) == {50.0}


def test_a_write_in_the_middle_of_a_step_is_made_good_by_the_next(store: HistoryStore) -> None:
    begin = T // 60 * 60
    write(store, begin, 3, 0.0)
    write(store, begin + 3, 7, 100.0)
    now = begin + 700
    assert store.gpu_grids(begin - 60, begin + 60, 600, now)["GPU-a"].rows[begin][0] == pytest.approx(70.0)


def test_spans_are_kept_and_the_open_one_grows(store: HistoryStore) -> None:
    span = KeptSpan(uuid="GPU-a", start=NOW, end=NOW + 5, kind="job", job=3, name="digits", attempt=1)
    store.write(News(gpus=[GPU], spans=[span]), NOW)
    longer = KeptSpan(uuid="GPU-a", start=NOW, end=NOW + 9, kind="job", job=3, name="digits", attempt=1)
    store.write(News(gpus=[GPU], spans=[longer]), NOW)
    assert store.spans(NOW, NOW + 100) == (longer,)
    assert store.spans(NOW + 9, NOW + 100) == ()
    assert store.last_spans() == {"GPU-a": longer}
    store.write(News(gpus=[GPU]), NOW + KEPT + 1)
    assert store.spans(0, NOW + 100) == ()


def test_a_forgotten_job_leaves_no_figures(tmp_path: Path) -> None:
    metrics = MetricStore(tmp_path / "m.db").open()
    for job in (1, 2):
        metrics.history.write(News(job_figures=[(job, T, (1.0, 2.0, None, None, None, None))]), NOW)
    metrics.forget(1)
    assert metrics.history.job_grid(1, T, T + 5, 10, NOW).rows == {}
    assert metrics.history.job_grid(2, T, T + 5, 10, NOW).rows != {}
    metrics.close()


def test_a_database_of_the_first_version_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    later = (*HISTORY, *BLOCKS, *UNORDERED)
    create = tuple(statement for statement in METRICS.create if statement not in later)
    first = Schema(version=1, application_id=METRICS.application_id, create=create)
    old = Database(path, first, durable=True)
    old.open()
    with old.write() as connection:
        connection.execute("INSERT INTO series (id, job, rank, name) VALUES (1, 7, 0, 'loss')")
        connection.executemany(
            "INSERT INTO samples VALUES (1, 1, ?, ?, ?, NULL, ?)",
            [(n, float(1000 - n), n, NOW + n) for n in range(1000)],
        )
        connection.execute("INSERT INTO starts VALUES (7, 1, 0, NULL)")
        connection.execute("INSERT INTO places VALUES (7, 1, 0, 4711, 0)")
    old.close()

    store = MetricStore(path).open()

    (series,) = store.query(7, points=100)
    assert (series.value[0], series.value[-1]) == (1000.0, 1.0)
    assert store.place(7, 1, 0) == Place(4711)
    more = Report(time=NOW + 2000, step=1000, metrics={"loss": 0.5})
    store.ingest([Reading(job=7, attempt=1, rank=0, place=Place(4800), reports=(more,))])
    write(store.history, T, 3)
    assert store.query(7)[0].value[-1] == 0.5
    assert len(store.query(7)[0].value) == 1001
    store.close()
    assert path.with_name("metrics.db.v1.bak").exists()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (METRICS.version,)
        assert connection.execute("SELECT * FROM unordered").fetchall() == [(1, 1)]  # it is not known


def test_what_was_kept_before_the_network_was_measured_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.db"
    without = [re.sub(r"received REAL,\s+sent REAL,\s+", "", statement) for statement in METRICS.create]
    assert tuple(without) != METRICS.create
    create = tuple(statement for statement in without if statement not in UNORDERED)
    third = Schema(version=3, application_id=METRICS.application_id, create=create)
    old = Database(path, third, durable=True)
    old.open()
    with old.write() as connection:
        connection.execute("INSERT INTO job_history VALUES (1, 5, ?, 1.0, 2.0, 3.0, 4.0)", (T // 5 * 5,))
    old.close()

    store = MetricStore(path).open()

    store.history.write(News(job_figures=[(1, T // 5 * 5 + 5, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))]), NOW)
    grid = store.history.job_grid(1, T // 5 * 5, T // 5 * 5 + 10, 10, NOW)
    assert list(grid.rows.values()) == [(1.0, 2.0, 3.0, 4.0, None, None), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    store.close()
