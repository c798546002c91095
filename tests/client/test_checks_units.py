"""Sizes, durations and moments as people write them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

import pytest

from trainforge.jobfile.checks import SpecError, check
from trainforge.jobfile.units import parse_begin, parse_duration, parse_size

NOW = datetime.datetime(2026, 11, 22, 10, 0, tzinfo=datetime.UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32Gi", 32 << 30),
        ("1Ki", 1024),
        ("2Mi", 2 << 20),
        ("1Ti", 1 << 40),
        ("5K", 5000),
        ("5M", 5 * 10**6),
        ("5G", 5 * 10**9),
        ("1T", 10**12),
        ("1.5Gi", 3 << 29),
        ("0.1G", 10**8),
        ("8589934592", 8 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("32GB", "did you mean 32G?"),
        ("32GiB", "did you mean 32Gi?"),
        ("32 gi", "did you mean 32Gi?"),
        ("32g", "did you mean 32G?"),
        ("1.5", ""),
        ("-1", ""),
        ("", ""),
        ("Gi", ""),
        ("9" * 30, ""),
        ("2000000Ti", "at most 1 EiB"),
    ],
)
def test_other_sizes_are_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a size") as refused:
        parse_size(text)
    assert hint in str(refused.value)


def test_a_memory_without_its_unit_is_told() -> None:
    with pytest.raises(SpecError, match="expected at least 1Mi of memory, found 8 bytes; did you mean 8Gi"):
        check({"project": {"name": "a"}, "training": {"script": "a"}, "resources": {"memory": 8}}, now=NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("12h", 43200),
        ("2d", 172800),
        ("0s", 0),
        ("0.5h", 1800),
        ("1d12h", 129600),
        ("1h30m10s", 5410),
        ("12:00:00", 43200),
        ("00:01:30", 90),
        ("100:00:00", 360000),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("90", "a bare number has no unit: did you mean 90s, 90m or 90h?"),
        ("0", "a bare number has no unit"),
        ("10 min", "did you mean 10m?"),
        ("5hours", "did you mean 5h?"),
        ("2D", "did you mean 2d?"),
        ("12:30", "did you mean 12:30:00 or 00:12:30?"),
        ("12:60:00", ""),
        ("-5s", ""),
        ("1m1h", ""),
        ("", ""),
        ("٣s", ""),
        ("99999999999d", "from 0 to 100 years"),
        pytest.param("1" * 100_000, "", id="long"),
    ],
)
def test_other_durations_are_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration") as refused:
        parse_duration(text)
    assert hint in str(refused.value)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12])
def test_a_number_of_seconds_has_bounds(seconds: float) -> None:
    job = {"project": {"name": "a"}, "training": {"script": "a"}, "recovery": {"grace": seconds}}
    with pytest.raises(SpecError, match=r"recovery\.grace: expected a duration from 0 to 100 years"):
        check(job, now=NOW)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("22:00", "2026-11-22T21:00:00Z"),
        ("11:00", "2026-11-22T10:00:00Z"),
        ("10:59", "2026-11-23T09:59:00Z"),
        ("now+2h", "2026-11-22T12:00:00Z"),
        ("now + 1d", "2026-11-23T10:00:00Z"),
        ("2026-11-24T08:00", "2026-11-24T07:00:00Z"),
        ("2026-07-01 08:00", "2026-07-01T06:00:00Z"),
        ("2026-11-24", "2026-11-23T23:00:00Z"),
        ("2026-11-24T08:00:00+05:30", "2026-11-24T02:30:00Z"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
    ],
)
def test_begins(text: str, moment: str) -> None:
    assert parse_begin(text, NOW) == datetime.datetime.fromisoformat(moment)


@pytest.mark.usefixtures("berlin")
def test_the_next_22_oclock_is_found_across_the_end_of_summer_time() -> None:
    late = datetime.datetime.fromisoformat("2026-10-24T20:30:00Z")  # 22:30 in summer time, the night it ends

    assert parse_begin("22:00", late) == datetime.datetime.fromisoformat("2026-10-25T21:00:00Z")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5pm", ""),
        ("24:00", ""),
        ("tomorrow", ""),
        ("2026", ""),
        ("2026-13-01", ""),
        ("9999-12-31T23:59:59-12:00", ""),
        ("0001-01-01T00:00:00+12:00", ""),
        ("2h", "did you mean now+2h?"),
        ("now+2", "after now+ comes a duration"),
        ("now+99999999999d", "after now+ comes a duration"),
        ("", ""),
    ],
)
def test_other_begins_are_refused(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^expected a time such as") as refused:
        parse_begin(text, NOW)
    assert hint in str(refused.value)
