"""What is known of each whole row of 256 samples: where its extremes are. A long curve is drawn from these.

A block is noted when its last sample is written, by the same transaction. `thinning` says what becomes of
them when room gets short.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

BLOCK = 256  # samples

BLOCKS = (
    # n of the least and the greatest value, and of the first NaN; time of the last sample.
    """CREATE TABLE blocks (
        series INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        block INTEGER NOT NULL,
        least REAL,
        least_n INTEGER,
        greatest REAL,
        greatest_n INTEGER,
        nan_n INTEGER,
        time REAL NOT NULL,
        thinned INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (series, attempt, block)) WITHOUT ROWID""",
    "CREATE INDEX blocks_by_age ON blocks (time) WHERE NOT thinned",
)

RANGE = "series = :series AND attempt = :attempt AND n BETWEEN :first AND :last"
_FILL = f"""
    INSERT OR REPLACE INTO blocks
    SELECT :series, :attempt, :block, low.value, low.n, high.value, high.n, nan.n, newest.time, 0
    FROM (SELECT min(value) AS value, n FROM samples WHERE {RANGE}) AS low,
         (SELECT max(value) AS value, n FROM samples WHERE {RANGE}) AS high,
         (SELECT min(n) AS n FROM samples WHERE {RANGE} AND value IS NULL) AS nan,
         (SELECT max(time) AS time FROM samples WHERE {RANGE}) AS newest"""


class Extremes(msgspec.Struct):
    """Of some samples. Each is (value, n); None while there is none."""

    least: tuple[float, int] | None = None
    greatest: tuple[float, int] | None = None
    nan: int | None = None

    def take(
        self,
        least: float | None,
        least_n: int | None,
        greatest: float | None,
        greatest_n: int | None,
        nan_n: int | None,
    ) -> None:
        """Those of samples that come after the ones so far."""
        if least is not None and least_n is not None and (self.least is None or least < self.least[0]):
            self.least = least, least_n
        above = self.greatest is None or (greatest is not None and greatest > self.greatest[0])
        if greatest is not None and greatest_n is not None and above:
            self.greatest = greatest, greatest_n
        if self.nan is None:
            self.nan = nan_n

    @property
    def numbers(self) -> Iterator[int]:
        """n of each."""
        if self.least is not None and self.greatest is not None:
            yield self.least[1]
            yield self.greatest[1]
        if self.nan is not None:
            yield self.nan


def note(connection: sqlite3.Connection, whole: Iterable[tuple[int, int, int]]) -> None:
    """The blocks (series, attempt, block) of which all samples are there."""
    for series, attempt, block in whole:
        connection.execute(_FILL, place_of(series, attempt, block))


def place_of(series: int, attempt: int, block: int) -> dict[str, int]:
    first = block * BLOCK
    return {
        "series": series, "attempt": attempt, "block": block, "first": first, "last": first + BLOCK - 1,
    }  # fmt: skip


def add_blocks(connection: sqlite3.Connection) -> None:
    """Version 2 → 3: of what is stored already too."""
    for statement in BLOCKS:
        connection.execute(statement)
    whole = connection.execute(
        "SELECT series, attempt, n / ? FROM samples GROUP BY series, attempt, n / ? HAVING count(*) = ?",
        (BLOCK, BLOCK, BLOCK),
    ).fetchall()
    note(connection, whole)


# ---------------------------------------------------------------- reading


def extremes(
    connection: sqlite3.Connection, series: int, attempt: int, first: int, last: int, width: int
) -> dict[int, Extremes]:
    """By bucket n // `width`, a multiple of `BLOCK`, of the samples `first` … `last`. Where blocks were
    merged, the few samples that are left are looked at themselves."""
    found: dict[int, Extremes] = {}
    place = {"series": series, "attempt": attempt}
    rows = connection.execute(
        "SELECT block, least, least_n, greatest, greatest_n, nan_n FROM blocks WHERE series = :series "
        "AND attempt = :attempt AND block BETWEEN :first AND :last AND thinned < 2 ORDER BY block",
        place | {"first": -(-first // BLOCK), "last": (last + 1) // BLOCK - 1},
    )
    at = first
    for block, least, least_n, greatest, greatest_n, nan_n in rows.fetchall():
        _take_samples(connection, place, at, block * BLOCK - 1, width, found)
        found.setdefault(block * BLOCK // width, Extremes()).take(least, least_n, greatest, greatest_n, nan_n)
        at = (block + 1) * BLOCK
    _take_samples(connection, place, at, last, width, found)
    return found


def _take_samples(
    connection: sqlite3.Connection,
    place: dict[str, int],
    first: int,
    last: int,
    width: int,
    found: dict[int, Extremes],
) -> None:
    """Of samples that are in no whole block: at the ends, mostly."""
    while first <= last:
        end = min(last, (first // width + 1) * width - 1)
        part = place | {"first": first, "last": end}
        low, high = (f"SELECT {which}(value), n FROM samples WHERE {RANGE}" for which in ("min", "max"))
        least, least_n = connection.execute(low, part).fetchone()
        greatest, greatest_n = connection.execute(high, part).fetchone()
        nan = f"SELECT min(n) FROM samples WHERE {RANGE} AND value IS NULL"
        (nan_n,) = connection.execute(nan, part).fetchone()
        found.setdefault(first // width, Extremes()).take(least, least_n, greatest, greatest_n, nan_n)
        first = end + 1
