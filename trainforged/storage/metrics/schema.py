"""The tables of metrics.db; those of blocks and of the history of use lie beside.

`body` columns hold the JSON of a type; the columns beside them repeat what is searched for. A change
here adds one to `version` and a migration from the version before.
"""

from __future__ import annotations

from trainforged.storage.metrics.blocks import BLOCKS, add_blocks
from trainforged.storage.metrics.history_schema import HISTORY, add_history, add_network
from trainforged.storage.metrics.order import UNORDERED, add_unordered
from trainforged.storage.opening import Schema

METRICS = Schema(
    version=5,
    application_id=0x54464D31,  # "TFM1"
    looked_at=64 * 2**20,  # gigabytes would keep a daemon from starting, and can be made again
    create=(
        # A series without a job was forgotten: its samples go bit by bit.
        """CREATE TABLE series (
            id INTEGER PRIMARY KEY,
            job INTEGER,
            rank INTEGER NOT NULL,
            name TEXT NOT NULL,
            has_nan INTEGER NOT NULL DEFAULT 0)""",
        "CREATE UNIQUE INDEX series_by_job ON series (job, rank, name)",
        # n counts within series and attempt, without gaps. A value of NULL is NaN.
        """CREATE TABLE samples (
            series INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            n INTEGER NOT NULL,
            value REAL,
            step REAL,
            epoch REAL,
            time REAL NOT NULL,
            PRIMARY KEY (series, attempt, n)) WITHOUT ROWID""",
        # Where each attempt began: what earlier ones reported from there on is superseded.
        """CREATE TABLE starts (
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            step REAL,
            epoch REAL,
            PRIMARY KEY (job, attempt)) WITHOUT ROWID""",
        "CREATE TABLE progress (job INTEGER PRIMARY KEY, body TEXT NOT NULL)",
        # How far each records file has been read: committed with what was read.
        """CREATE TABLE places (
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            rank INTEGER NOT NULL,
            offset INTEGER NOT NULL,
            in_long_line INTEGER NOT NULL,
            PRIMARY KEY (job, attempt, rank)) WITHOUT ROWID""",
        """CREATE TABLE notes (
            id INTEGER PRIMARY KEY,
            job INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            rank INTEGER NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE INDEX notes_by_job ON notes (job)",
        *HISTORY,
        *BLOCKS,
        *UNORDERED,
    ),
    migrations={1: add_history, 2: add_blocks, 3: add_network, 4: add_unordered},
)
