"""Long series: drawn from what is noted of whole blocks, and thinned block by block when room gets short."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.storage.storing import NOW
from tests.support import quickest, spent
from trainforge.api import Series
from trainforged.storage.metrics.blocks import BLOCK
from trainforged.storage.metrics.ingestion import Place, Reading
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import Report


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetricStore]:
    store = MetricStore(tmp_path / "metrics.db").open()
    yield store
    store.close()


def ingest(store: MetricStore, first: int, values: list[float], attempt: int = 1, job: int = 1) -> None:
    reports = tuple(
        Report(time=NOW + n, step=n, metrics={"loss": value}) for n, value in enumerate(values, first)
    )
    reading = Reading(job=job, attempt=attempt, rank=0, place=Place(first + 1), reports=reports)
    store.ingest([reading])


def one(store: MetricStore, **query: float | int) -> Series:
    (series,) = store.query(1, ["loss"], **query)  # type: ignore[arg-type]
    return series


def noted(store: MetricStore) -> int:
    with store._database.read() as connection:
        return int(connection.execute("SELECT count(*) FROM blocks").fetchone()[0])


def test_a_block_is_noted_once_it_is_whole_also_over_a_restart(store: MetricStore, tmp_path: Path) -> None:
    ingest(store, 0, [1.0] * (BLOCK - 1))
    assert noted(store) == 0
    store.close()
    store = MetricStore(tmp_path / "metrics.db").open()
    ingest(store, BLOCK - 1, [1.0] * (BLOCK + 2))
    assert noted(store) == 2
    store.forget(1)
    store.tidy()
    assert noted(store) == 0
    store.close()


@pytest.mark.parametrize("seed", range(6))
def test_few_points_of_many_keep_the_extremes_the_ends_and_the_order(store: MetricStore, seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.gauss(0, 1) for _ in range(60_000 + chance.randrange(1000))]
    for _ in range(5 * (seed % 2)):
        values[chance.randrange(len(values))] = chance.choice([math.nan, math.inf, -math.inf])
    ingest(store, 0, values)
    again = [chance.gauss(5, 1) for _ in range(20_000)]
    begin = 30_000 + chance.randrange(1000)
    ingest(store, begin, again, attempt=2)
    whole, few = one(store), one(store, points=100)

    assert len(few.value) <= 100
    samples = list(zip(whole.attempt, whole.step, map(str, whole.value), strict=True))
    rest = iter(samples)
    chosen = list(zip(few.attempt, few.step, map(str, few.value), strict=True))
    assert all(sample in rest for sample in chosen), "they are samples that are shown, in their order"
    assert (chosen[0], chosen[-1]) == (samples[0], samples[-1])
    numbers = [float(value) for value in whole.value if value != "NaN"]
    assert {min(numbers), max(numbers)} <= {float(value) for value in few.value}
    assert ("NaN" in few.value) == ("NaN" in whole.value)


def test_a_part_of_a_long_series_has_the_extremes_of_that_part(store: MetricStore) -> None:
    values = [math.sin(n / 500) for n in range(100_000)]
    values[10_000], values[77_777] = -40.0, 50.0
    ingest(store, 0, values)
    few = one(store, since=NOW + 20_000.5, points=100)
    assert few.step[0] == 20_001
    assert len(few.value) <= 100
    assert 50.0 in few.value
    assert -40.0 not in few.value


def test_a_million_points_of_two_attempts_take_little(store: MetricStore) -> None:
    with store._database.write() as connection:
        connection.execute("INSERT INTO series (id, job, rank, name) VALUES (1, 1, 0, 'loss')")
    for start in range(0, 1_000_000, 50_000):
        ingest(store, start, [n * 7919 % 1000003 for n in range(start, start + 50_000)])
    store.tidy()
    one(store, points=1000)
    assert quickest(lambda: spent(lambda: one(store, points=1000)), 0.5) < 0.5, "a scan of all takes more"
    few = one(store, points=1000)
    assert 500 <= len(few.value) <= 1000
    assert {0, 1000002} & set(few.value)


def test_when_room_is_short_the_oldest_are_thinned_and_the_picture_stays(tmp_path: Path) -> None:
    room = [math.inf]
    store = MetricStore(tmp_path / "metrics.db", lambda: room[0]).open()
    chance = random.Random(1)
    values = [chance.gauss(0, 1) for _ in range(100_000)]
    values[5000], values[6000], values[7000] = 99.0, -99.0, math.nan
    ingest(store, 0, values)
    before = one(store, points=100)
    full = store._database.used()
    store.tidy()
    assert len(one(store).value) == 100_000, "there is room: nothing is thinned"

    room[0] = full / 2
    store.tidy()

    assert store._database.used() <= full / 2
    assert one(store, points=100) == before
    left = one(store)
    assert 10_000 < len(left.value) < 70_000
    assert {99.0, -99.0, "NaN"} <= set(left.value)
    assert left.step[-1] == 99_999
    newest = [step for step in left.step if step >= 90_000]
    assert len(newest) == 10_000, "the newest are whole"

    room[0] = 0
    store.tidy()
    assert len(one(store).value) < 4000
    ingest(store, 100_000, [0.5])
    assert one(store).step[-1] == 100_000
    ingest(store, 50_000, [0.25] * 10, attempt=2)
    shown = one(store)
    assert max(step for step, attempt in zip(shown.step, shown.attempt, strict=True) if attempt == 1) < 50_000
    store.close()


# ---------------------------------------------------------------- room, also when all is thinned


def kept(store: MetricStore) -> list[int]:
    """Of the first attempt: all samples that are there."""
    with store._database.read() as connection:
        return [n for (n,) in connection.execute("SELECT n FROM samples WHERE attempt = 1 ORDER BY n")]


def test_what_is_thinned_is_thinned_further_and_the_extremes_stay(tmp_path: Path) -> None:
    room, now = [math.inf], [NOW + 1e6]
    store = MetricStore(tmp_path / "metrics.db", lambda: room[0], lambda: now[0]).open()
    chance = random.Random(7)
    values = [chance.gauss(0, 1) for _ in range(300_000)]
    values[5000], values[6000], values[7000] = 99.0, -99.0, math.nan
    ingest(store, 0, values)
    full = store._database.used()
    room[0] = 0
    store.tidy()

    left = one(store)
    assert len(left.value) < 400
    assert store._database.used() < full / 20
    assert (left.step[0], left.step[-1]) == (0, 299_999)
    assert {99.0, -99.0, "NaN"} <= set(left.value)
    few = one(store, points=100)
    assert {99.0, -99.0, "NaN"} <= set(few.value)
    assert set(few.step) <= set(left.step)
    part = one(store, since=NOW + 100_000.5, until=NOW + 200_000.5, points=20)
    assert all(100_000 < step <= 200_000 for step in part.step)
    again = kept(store)
    store.tidy()
    assert kept(store) == again, "what can be thinned is thinned"
    store.close()


def test_a_job_that_reports_keeps_what_is_newest_whole_and_goes_on(tmp_path: Path) -> None:
    room = [math.inf]
    store = MetricStore(tmp_path / "metrics.db", lambda: room[0], lambda: NOW + 100_000).open()
    ingest(store, 0, [float(n % 1000) for n in range(100_000)])
    room[0] = 0
    store.tidy()
    newest = [step for step in one(store).step if step >= 99_000]
    assert newest == list(range(99_000, 100_000))
    for start in range(100_000, 140_000, 10_000):
        ingest(store, start, [float(n % 1000) for n in range(10_000)])
        store.tidy()
        assert one(store).step[-1] == start + 9_999
    assert [step for step in one(store).step if step >= 139_000] == list(range(139_000, 140_000))
    assert {0.0, 999.0} <= set(one(store, points=50).value)
    store.close()


def test_many_short_series_of_the_past_come_down_to_their_ends_and_extremes(tmp_path: Path) -> None:
    room = [math.inf]
    store = MetricStore(tmp_path / "metrics.db", lambda: room[0], lambda: NOW + 1e6).open()
    for job in range(1, 151):
        ingest(store, 0, [1.0, 9.0, *([5.0] * 100), -3.0, 2.0], job=job)
    room[0] = 0
    store.tidy()
    for job in range(1, 151):
        (series,) = store.query(job)
        assert series.value == (1.0, 9.0, -3.0, 2.0)
    ingest(store, 104, [7.0] * 300)
    assert one(store).value[-1] == 7.0
    assert len(one(store).value) == 304
    assert {9.0, -3.0} <= set(one(store, points=10).value)
    store.close()


def test_of_what_was_merged_a_later_attempt_leaves_the_beginning(tmp_path: Path) -> None:
    room = [math.inf]
    store = MetricStore(tmp_path / "metrics.db", lambda: room[0], lambda: NOW + 1e6).open()
    ingest(store, 0, [float(n) for n in range(100_000)])
    room[0] = 0
    store.tidy()
    ingest(store, 50_000, [0.25] * 10, attempt=2)
    shown = one(store, points=100)
    of_first = [step for step, attempt in zip(shown.step, shown.attempt, strict=True) if attempt == 1]
    assert of_first
    assert max(of_first) < 50_000
    store.close()
