"""Series in metrics.db: what was reported, without what was superseded, and no more points than asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shell.storage.storing import NOW
from tests.support import quickest, spent
from trainforge.api import Series
from trainforged.storage.errors import StorageTooNew
from trainforged.storage.metrics.ingestion import Ingestion, Place, Reading
from trainforged.storage.metrics.series import FEWEST_POINTS
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import Report

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetricStore]:
    store = MetricStore(tmp_path / "metrics.db").open()
    yield store
    store.close()


def ingest(
    store: MetricStore, *reports: Report, job: int = 1, attempt: int = 1, rank: int = 0, offset: int = 1
) -> None:
    reading = Reading(job=job, attempt=attempt, rank=rank, place=Place(offset), reports=reports)
    store.ingest([reading])


def at(step: float | None = None, epoch: float | None = None, time: float = NOW, **metrics: float) -> Report:
    return Report(time=time, step=step, epoch=epoch, metrics=metrics)


def one(store: MetricStore, name: str = "loss", **query: float | int) -> Series:
    (series,) = store.query(1, [name], **query)  # type: ignore[arg-type]
    return series


# ---------------------------------------------------------------- what was reported


def test_what_is_put_in_comes_out(store: MetricStore) -> None:
    ingest(store, at(1, 0, NOW, loss=2.0, lr=0.1), at(2, 0, NOW + 1, loss=1.5))
    ingest(store, at(3, 1, NOW + 2, loss=1.0))
    assert store.query(1) == (
        Series(
            name="loss",
            step=(1, 2, 3),
            time=(NOW, NOW + 1, NOW + 2),
            value=(2.0, 1.5, 1.0),
            attempt=(1, 1, 1),
            epoch=(0, 0, 1),
        ),
        Series(name="lr", step=(1,), time=(NOW,), value=(0.1,), attempt=(1,), epoch=(0,)),
    )
    assert store.names(1) == ("loss", "lr")
    assert [series.name for series in store.query(1, ["lr", "nothing"])] == ["lr"]
    assert store.query(2) == ()


def test_what_is_not_a_number_has_no_number(store: MetricStore) -> None:
    ingest(store, *(at(n, loss=value) for n, value in enumerate([1.0, NAN, INF, -INF, 0.0])))
    assert one(store).value == (1.0, "NaN", "Infinity", "-Infinity", 0.0)


def test_the_position_is_the_step_else_the_epoch_else_the_count(store: MetricStore) -> None:
    ingest(store, at(7, 1, loss=0.0), at(None, 2, loss=0.0), at(loss=0.0))
    assert one(store).step == (7, 2, 2)
    assert one(store).epoch == (1, 2, None)


def test_only_what_is_new(store: MetricStore) -> None:
    ingest(store, *(at(n, time=NOW + n, loss=n) for n in range(5)))
    ingest(store, at(5, time=NOW + 5, loss=5), attempt=2)
    assert one(store, since=NOW + 2).step == (3, 4, 5)
    assert one(store, since=NOW + 4).step == (5,)
    assert one(store, since=NOW + 5).step == ()
    assert one(store, since=NOW - 1).step == (0, 1, 2, 3, 4, 5)
    assert one(store, until=NOW + 2).step == (0, 1, 2)
    assert one(store, since=NOW, until=NOW + 3).step == (1, 2, 3)
    assert one(store, until=NOW - 1).step == ()


def test_jobs_ranks_and_restarts_do_not_mix(store: MetricStore, tmp_path: Path) -> None:
    ingest(store, at(1, loss=1.0))
    ingest(store, at(1, loss=2.0), job=2)
    ingest(store, at(1, loss=3.0), rank=1)
    store.close()
    store = MetricStore(tmp_path / "metrics.db").open()
    ingest(store, at(2, loss=4.0))
    assert one(store).value == (1.0, 4.0)
    assert store.query(2)[0].value == (2.0,)
    assert one(store, rank=1).value == (3.0,)
    assert store.place(1, 1, 1) == Place(1)
    assert store.place(1, 2, 0) == Place()
    store.close()


# ---------------------------------------------------------------- superseded


def steps(store: MetricStore, name: str = "loss") -> list[tuple[int, float]]:
    series = one(store, name)
    return list(zip(series.attempt, series.step, strict=True))


def test_a_resumed_attempt_replaces_what_lies_beyond_its_first_report(store: MetricStore) -> None:
    ingest(store, *(at(n, loss=n) for n in range(0, 60, 10)))
    ingest(store, at(30, loss=3), at(40, loss=4), attempt=2)
    assert steps(store) == [(1, 0), (1, 10), (1, 20), (2, 30), (2, 40)]


def test_a_third_attempt_may_go_further_back_than_the_second(store: MetricStore) -> None:
    ingest(store, *(at(n, loss=n) for n in range(0, 60, 10)))
    ingest(store, at(40, loss=4), at(50, loss=5), attempt=2)
    ingest(store, at(20, loss=2), attempt=3)
    assert steps(store) == [(1, 0), (1, 10), (3, 20)]


def test_an_attempt_from_the_beginning_replaces_everything(store: MetricStore) -> None:
    ingest(store, at(1, loss=1), at(2, loss=2))
    ingest(store, at(1, loss=9), attempt=2)
    assert steps(store) == [(2, 1)]


def test_epochs_decide_where_there_are_no_steps(store: MetricStore) -> None:
    ingest(store, *(at(None, n, loss=n) for n in range(4)))
    ingest(store, at(None, 2, loss=2), attempt=2)
    assert steps(store) == [(1, 0), (1, 1), (2, 2)]


def test_steps_within_an_epoch_are_compared_within_it(store: MetricStore) -> None:
    ingest(store, *(at(s, e, loss=0) for e in range(3) for s in (0, 5)))
    ingest(store, at(5, 1, loss=0), attempt=2)
    assert steps(store) == [(1, 0), (1, 5), (1, 0), (2, 5)]


def test_another_series_is_cut_at_the_same_place(store: MetricStore) -> None:
    """Validation is reported once an epoch, without a step."""
    for epoch in range(3):
        ingest(store, *(at(10 * epoch + s, epoch, loss=0) for s in range(10)), at(None, epoch, top1=epoch))
    ingest(store, at(10, 1, loss=0), attempt=2)
    assert steps(store, "top1") == [(1, 0)]
    assert len(steps(store)) == 11


def test_a_series_that_the_new_attempt_does_not_report_is_cut_too(store: MetricStore) -> None:
    ingest(store, at(1, lr=1, loss=1), at(5, lr=1, loss=1))
    ingest(store, at(3, loss=1), attempt=2)
    assert steps(store, "lr") == [(1, 1)]


def test_what_has_no_place_in_common_stays(store: MetricStore) -> None:
    ingest(store, at(None, 5, loss=1), at(loss=2))
    ingest(store, at(1, None, loss=3), attempt=2)
    assert [attempt for attempt, _ in steps(store)] == [1, 1, 2]


def test_a_report_without_a_place_begins_nothing(store: MetricStore) -> None:
    ingest(store, at(1, loss=1), at(2, loss=2))
    ingest(store, at(note=1), attempt=2)
    assert steps(store) == [(1, 1), (1, 2)]
    ingest(store, at(2, loss=3), at(1, loss=4), attempt=2)
    assert steps(store) == [(1, 1), (2, 2), (2, 1)]


def test_what_was_superseded_is_kept(store: MetricStore) -> None:
    ingest(store, at(1, loss=1), at(2, loss=2))
    ingest(store, at(1, loss=3), attempt=2)
    with store._database.read() as connection:
        assert connection.execute("SELECT value FROM samples ORDER BY attempt, n").fetchall() == [
            (1.0,),
            (2.0,),
            (3.0,),
        ]


# ---------------------------------------------------------------- no more than asked for

_VALUES = st.floats(-100, 100) | st.sampled_from([NAN, INF, -INF])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(
    attempts=st.lists(st.lists(_VALUES, min_size=1, max_size=120), min_size=1, max_size=3),
    back=st.integers(0, 40),
    points=st.integers(1, 60),
)
def test_points_are_few_and_keep_the_extremes_and_the_ends(
    store: MetricStore, attempts: list[list[float]], back: int, points: int
) -> None:
    store.forget(1)
    step = 0
    for number, values in enumerate(attempts, 1):
        ingest(store, *(at(step + n, loss=value) for n, value in enumerate(values)), attempt=number)
        step = max(0, step + len(values) - back)
    whole, few = one(store), one(store, points=points)

    assert len(few.value) == min(len(whole.value), len(few.value)) <= max(points, FEWEST_POINTS)
    samples = list(_samples(whole))
    chosen = list(_samples(few))
    rest = iter(samples)
    assert all(sample in rest for sample in chosen), "they are samples, in their order"
    assert (chosen[0], chosen[-1]) == (samples[0], samples[-1])
    numbers = [float(value) for value in whole.value if value != "NaN"]
    if numbers:
        assert {min(numbers), max(numbers)} <= {float(value) for value in few.value}
    assert ("NaN" in few.value) == ("NaN" in whole.value)


def _samples(series: Series) -> Iterator[tuple[object, ...]]:
    return zip(series.attempt, series.step, series.value, series.time, strict=True)


def test_a_spike_is_never_lost(store: MetricStore) -> None:
    values = [math.sin(n / 50) for n in range(5000)]
    values[1234], values[4321], values[3000] = 50.0, -50.0, NAN
    ingest(store, *(at(n, loss=value) for n, value in enumerate(values)))
    few = one(store, points=50)
    assert len(few.value) <= 50
    assert {(1234, 50.0), (4321, -50.0), (3000, "NaN")} <= set(zip(few.step, few.value, strict=True))


def test_few_points_are_given_as_they_are(store: MetricStore) -> None:
    ingest(store, *(at(n, loss=n) for n in range(10)))
    assert one(store, points=10) == one(store)
    assert one(store, points=1).step == (0, 9) or len(one(store, points=1).step) <= FEWEST_POINTS


def test_a_million_points_are_few_in_no_time(store: MetricStore) -> None:
    with store._database.write() as connection:
        connection.execute("INSERT INTO series (id, job, rank, name) VALUES (1, 1, 0, 'loss')")
        connection.execute(
            "WITH RECURSIVE count (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n < 999999) "
            "INSERT INTO samples SELECT 1, 1, n, n * 7919 % 1000003, n, n / 1000, ? + n FROM count",
            (NOW,),
        )
    store.tidy()
    assert quickest(lambda: spent(lambda: one(store, points=1000)), 1.5) < 1.5
    few = one(store, points=1000)
    assert 900 <= len(few.value) <= 1000
    assert (few.step[0], few.step[-1]) == (0, 999_999)

    def parts() -> tuple[int, int]:
        last = one(store, points=1000, since=NOW + 999_990)
        some = one(store, points=1000, since=NOW + 500_000, until=NOW + 500_500)
        return len(last.step), len(some.step)

    assert quickest(lambda: spent(parts), 0.1) < 0.1
    assert parts() == (9, 500)


# ---------------------------------------------------------------- upkeep


def test_a_forgotten_job_gives_its_space_back(store: MetricStore, tmp_path: Path) -> None:
    ingest(store, at(0, loss=1), job=2)
    for _ in range(5):
        ingest(store, *(at(n, loss=n, other=n) for n in range(10_000)))
    store.tidy()
    before = (tmp_path / "metrics.db").stat().st_size
    store.forget(1)
    assert store.query(1) == ()
    assert store.place(1, 1, 0) == Place()
    ingest(store, at(5, loss=5))
    for _ in range(5):
        store.tidy()
    assert (tmp_path / "metrics.db").stat().st_size < before / 2
    with store._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM samples").fetchone() == (2,)
        assert connection.execute("SELECT count(*) FROM series").fetchone() == (2,)
    assert one(store).value == (5,)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = MetricStore(tmp_path / "metrics.db").open()
    with store._database.write() as connection:
        connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StorageTooNew):
        MetricStore(tmp_path / "metrics.db").open()


@pytest.mark.parametrize("damage", [b"", b"\xa5" * 9000, None])
def test_a_damaged_file_is_set_aside_with_its_log(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "metrics.db"
    store = MetricStore(path).open()
    ingest(store, *(at(n, loss=n) for n in range(2000)))
    store.close()
    path.write_bytes(path.read_bytes()[:20_000] if damage is None else damage)
    (tmp_path / "metrics.db-wal").write_bytes(b"old")
    store = MetricStore(path).open()
    assert store.set_aside is not None
    assert store.query(1) == ()
    ingest(store, at(1, loss=1))
    assert one(store).value == (1,)
    store.close()
    kept: Sequence[str] = sorted(file.name for file in tmp_path.iterdir())
    assert kept[0] == "metrics.db"
    assert store.set_aside.name in kept


# ---------------------------------------------------------------- all of it, in parts


def in_parts(store: MetricStore, limit: int, name: str = "loss") -> list[tuple[int, float]]:
    """Attempt and step of every point."""
    found: list[tuple[int, float]] = []
    after = None
    while True:
        answer = store.points(1, name, 0, after, limit)
        assert answer is not None
        series, after = answer
        assert len(series.step) <= limit
        found += zip(series.attempt, series.step, strict=True)
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_in_parts_every_point_that_is_shown_comes_once(store: MetricStore, limit: int) -> None:
    ingest(store, *(at(step, loss=step % 5) for step in range(20)))
    ingest(store, *(at(step, loss=step % 5) for step in range(12, 15)), attempt=2)
    ingest(store, *(at(step, loss=step % 5) for step in range(15, 30)), attempt=3)
    whole = one(store)
    assert in_parts(store, limit) == list(zip(whole.attempt, whole.step, strict=True))
    assert [step for _, step in in_parts(store, limit)] == list(range(30))


def test_parts_leave_out_what_was_superseded_in_between(store: MetricStore) -> None:
    ingest(store, *(at(step, epoch, loss=1.0) for epoch in range(4) for step in (7, 1, 3)))
    ingest(store, at(2, 2, loss=0.5), attempt=2)
    whole = one(store)
    assert in_parts(store, 2) == list(zip(whole.attempt, whole.step, strict=True))
    assert len(whole.step) == 8


def test_of_a_series_that_is_not_there_are_no_parts(store: MetricStore) -> None:
    ingest(store, at(1, loss=1.0))
    assert store.points(1, "lr", 0, None, 10) is None


# ---------------------------------------------------------------- positions in order, and not


def unordered(store: MetricStore) -> set[int]:
    """Attempts that are noted as such."""
    with store._database.read() as connection:
        return {attempt for (attempt,) in connection.execute("SELECT attempt FROM unordered")}


def test_only_positions_that_go_back_or_change_their_parts_are_noted(store: MetricStore) -> None:
    ingest(store, at(1, 0, loss=1.0), at(1, 0, loss=1.0), at(2, 1, loss=1.0))
    ingest(store, at(3, 1, loss=1.0))
    ingest(store, at(5, loss=1.0), at(4, loss=1.0), attempt=2)
    ingest(store, at(5, loss=1.0), at(6, 1, loss=1.0), attempt=3)
    ingest(store, at(loss=1.0), at(loss=1.0), attempt=4)
    ingest(store, at(8, loss=1.0), attempt=5)
    assert unordered(store) == {2, 3}


def test_what_was_noted_holds_for_the_next_daemon(store: MetricStore) -> None:
    ingest(store, at(7, loss=1.0))
    store.close()
    store.open()
    store._ingestion = Ingestion()
    ingest(store, at(6, loss=1.0))
    assert unordered(store) == {1}
    store.forget(1)
    store.tidy()
    assert unordered(store) == set()


POSITION = st.one_of(st.none(), st.integers(0, 6))
REPORTS = st.lists(st.tuples(POSITION, POSITION), max_size=9)
IN_ORDER = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=9).map(
    lambda found: [*zip(*map(sorted, zip(*found, strict=True)), strict=True)] if found else []
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attempts=st.lists(st.one_of(REPORTS, IN_ORDER), min_size=2, max_size=3))
def test_halving_finds_what_a_look_at_each_sample_finds(
    store: MetricStore, attempts: list[list[tuple[int | None, int | None]]]
) -> None:
    store.forget(1)
    store.tidy()
    for number, positions in enumerate(attempts, 1):
        ingest(store, *(at(step, epoch, loss=1.0) for step, epoch in positions), attempt=number)
    quickly = store.query(1)
    store._known.clear()
    with store._database.write() as connection:
        connection.execute("INSERT OR IGNORE INTO unordered SELECT DISTINCT series, attempt FROM samples")
    assert store.query(1) == quickly
