"""Which attempts reported their positions in order: of these the part that a later attempt left standing is
found by halving, of others by a look at each sample.

In order means: all samples of a series have the same parts (step, epoch), and neither goes back. A step that
begins anew with each epoch is not in order. What was stored before this was noted counts as not in order.
"""

from __future__ import annotations

import sqlite3

UNORDERED = (
    """CREATE TABLE unordered (
        series INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        PRIMARY KEY (series, attempt)) WITHOUT ROWID""",
)


def follows(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is after
    return after >= before


def note(connection: sqlite3.Connection, series: int, attempt: int) -> None:
    """That it is not in order."""
    connection.execute("INSERT OR IGNORE INTO unordered VALUES (?, ?)", (series, attempt))


def is_ordered(connection: sqlite3.Connection, series: int, attempt: int) -> bool:
    query = "SELECT 1 FROM unordered WHERE series = ? AND attempt = ?"
    return connection.execute(query, (series, attempt)).fetchone() is None


def forget(connection: sqlite3.Connection, series: int) -> None:
    connection.execute("DELETE FROM unordered WHERE series = ?", (series,))


def add_unordered(connection: sqlite3.Connection) -> None:
    """Version 4 → 5. Goes from attempt to attempt by the key, past their samples."""
    for statement in UNORDERED:
        connection.execute(statement)
    following = "SELECT min(attempt) FROM samples WHERE series = ? AND attempt > ?"
    for (series,) in connection.execute("SELECT id FROM series").fetchall():
        attempt = -1
        while (found := connection.execute(following, (series, attempt)).fetchone()[0]) is not None:
            note(connection, series, attempt := found)
