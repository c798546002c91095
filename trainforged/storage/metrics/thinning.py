"""What goes when room gets short, gently first, and what stays in any case.

1. The oldest whole blocks: their first and last sample stay, and those that a curve from afar is drawn from.
2. The oldest groups of blocks that are thinned already become one: of all its samples the same few stay.
   Groups of groups follow; so an attempt of any length comes down to some hundreds of samples.
3. The last, unfinished block of attempts that report no more.

So the least, the greatest, the first and the last value of every series always stay. Attempts that have
reported lately keep their newest blocks whole.
"""

from __future__ import annotations

import sqlite3

from trainforged.storage.metrics.blocks import BLOCK, RANGE, Extremes, note, place_of

LATELY = 3600.0  # seconds
KEPT_WHOLE = 4  # blocks of an attempt that has reported lately
GROUP = 16  # blocks, or groups, that become one
LEVELS = 5  # of groups: one of the last is a quarter of a billion samples
AT_ONCE = 100  # blocks thinned in one transaction, so that ingestion waits for a moment only
MERGED_AT_ONCE = 500  # groups, of some samples each

_SAME = "b.series = blocks.series AND b.attempt = blocks.attempt"
_NEWEST = f"(SELECT max(block) FROM blocks AS b WHERE {_SAME})"


def thin_some(connection: sqlite3.Connection, now: float) -> bool:
    """Some of what is oldest; False when nothing is left to be thinned. `now`: seconds since the epoch."""
    lately = now - LATELY
    return bool(
        _thin_oldest(connection, lately)
        or any(_merge_oldest(connection, level) for level in range(1, LEVELS + 1))
        or _thin_ends(connection, lately)
    )


def _thin_oldest(connection: sqlite3.Connection, lately: float) -> int:
    oldest = connection.execute(
        "SELECT series, attempt, block, least_n, greatest_n, nan_n FROM blocks INDEXED BY blocks_by_age "
        f"WHERE NOT thinned AND (time < ? OR block <= {_NEWEST} - ?) ORDER BY time LIMIT ?",
        (lately, KEPT_WHOLE, AT_ONCE),
    ).fetchall()
    for series, attempt, block, *extremes in oldest:
        _thin_block(connection, series, attempt, block, [n for n in extremes if n is not None])
    return len(oldest)


def _thin_block(
    connection: sqlite3.Connection, series: int, attempt: int, block: int, extremes: list[int]
) -> None:
    place = place_of(series, attempt, block)
    _keep(connection, place, extremes)
    connection.execute(
        "UPDATE blocks SET thinned = 1 WHERE series = :series AND attempt = :attempt AND block = :block",
        place,
    )


def _keep(connection: sqlite3.Connection, place: dict[str, int], numbers: list[int]) -> None:
    """Of the samples in a place only its first and last, and those of these numbers."""
    ends = connection.execute(f"SELECT min(n), max(n) FROM samples WHERE {RANGE}", place).fetchone()
    stay = ", ".join(str(int(n)) for n in (*ends, *numbers) if n is not None)
    if stay:
        connection.execute(f"DELETE FROM samples WHERE {RANGE} AND n NOT IN ({stay})", place)


def _merge_oldest(connection: sqlite3.Connection, level: int) -> int:
    """Groups of which all parts are thinned as far as this level; the attempt has gone on after them."""
    found = connection.execute(
        "SELECT series, attempt, block / :width FROM blocks GROUP BY series, attempt, block / :width "
        "HAVING count(*) > 1 AND min(thinned) = :level "
        f"AND {_NEWEST} >= (block / :width + 1) * :width ORDER BY max(time) LIMIT :most",
        {"width": GROUP**level, "level": level, "most": MERGED_AT_ONCE},
    ).fetchall()
    for series, attempt, group in found:
        _merge(connection, series, attempt, group, level)
    return len(found)


def _merge(connection: sqlite3.Connection, series: int, attempt: int, group: int, level: int) -> None:
    """The group's row of `blocks` has the extremes of all, and stands for the place of the first."""
    width = GROUP**level
    first = group * width
    blocks = {"series": series, "attempt": attempt, "first": first, "last": first + width - 1}
    where = "series = :series AND attempt = :attempt AND block BETWEEN :first AND :last"
    of_all, time = Extremes(), 0.0
    columns = "least, least_n, greatest, greatest_n, nan_n, time"
    for *extremes, at in connection.execute(
        f"SELECT {columns} FROM blocks WHERE {where} ORDER BY block", blocks
    ):
        of_all.take(*extremes)
        time = max(time, at)
    samples = blocks | {"first": first * BLOCK, "last": (first + width) * BLOCK - 1}
    _keep(connection, samples, list(of_all.numbers))
    connection.execute(f"DELETE FROM blocks WHERE {where}", blocks)
    least, greatest = of_all.least or (None, None), of_all.greatest or (None, None)
    connection.execute(
        "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (series, attempt, first, *least, *greatest, of_all.nan, time, level + 1),
    )


def _thin_ends(connection: sqlite3.Connection, lately: float) -> int:
    """How many. An end that is thinned is noted like a whole block, and anew should the attempt go on."""
    thinned = 0
    for (series,) in connection.execute("SELECT id FROM series").fetchall():
        attempts = "SELECT attempt, max(n) FROM samples WHERE series = ? GROUP BY attempt"
        for attempt, last in connection.execute(attempts, (series,)).fetchall():
            if _thin_end(connection, series, attempt, last, lately):
                thinned += 1
        if thinned >= AT_ONCE:
            break
    return thinned


def _thin_end(connection: sqlite3.Connection, series: int, attempt: int, last: int, lately: float) -> bool:
    place = place_of(series, attempt, last // BLOCK)
    known = "SELECT 1 FROM blocks WHERE series = :series AND attempt = :attempt AND block = :block"
    count, newest = connection.execute(
        f"SELECT count(*), max(time) FROM samples WHERE {RANGE}", place
    ).fetchone()
    if count <= 5 or newest >= lately or connection.execute(known, place).fetchone() is not None:
        return False
    note(connection, [(series, attempt, last // BLOCK)])
    query = known.replace("1", "least_n, greatest_n, nan_n", 1)
    extremes = [n for n in connection.execute(query, place).fetchone() if n is not None]
    _thin_block(connection, series, attempt, last // BLOCK, extremes)
    return True
