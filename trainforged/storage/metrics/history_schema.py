"""The tables that came with version 2 of metrics.db: what GPUs and jobs used over time. Version 4 added what
jobs send and receive."""

from __future__ import annotations

import sqlite3

HISTORY = (
    # GPUs that were ever seen here.
    """CREATE TABLE gpus (
        id INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        place INTEGER NOT NULL,
        name TEXT NOT NULL,
        memory_total INTEGER NOT NULL)""",
    # Means over `step` seconds from `time` on; no row: nobody looked.
    """CREATE TABLE gpu_history (
        id INTEGER NOT NULL,
        step INTEGER NOT NULL,
        time INTEGER NOT NULL,
        utilization REAL,
        memory REAL,
        temperature REAL,
        power REAL,
        PRIMARY KEY (id, step, time)) WITHOUT ROWID""",
    # id: the job's. Cores, bytes, bytes a second.
    """CREATE TABLE job_history (
        id INTEGER NOT NULL,
        step INTEGER NOT NULL,
        time INTEGER NOT NULL,
        cpu REAL,
        memory REAL,
        read REAL,
        written REAL,
        received REAL,
        sent REAL,
        PRIMARY KEY (id, step, time)) WITHOUT ROWID""",
    # What a GPU was taken by; none of the time in which it was free.
    """CREATE TABLE gpu_spans (
        id INTEGER NOT NULL,
        start REAL NOT NULL,
        "end" REAL NOT NULL,
        kind TEXT NOT NULL,
        job INTEGER,
        name TEXT,
        attempt INTEGER,
        reason TEXT,
        PRIMARY KEY (id, start)) WITHOUT ROWID""",
)


def add_history(connection: sqlite3.Connection) -> None:
    """Version 1 → 2, and what came later to these tables."""
    for statement in HISTORY:
        connection.execute(statement)


def add_network(connection: sqlite3.Connection) -> None:
    """Version 3 → 4: of what was before it is not known."""
    there = {column for _, column, *_ in connection.execute("PRAGMA table_info(job_history)")}
    for column in ("received", "sent"):
        if column not in there:
            connection.execute(f"ALTER TABLE job_history ADD COLUMN {column} REAL")
