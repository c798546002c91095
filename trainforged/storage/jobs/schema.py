"""The tables of trainforge.db.

`body` columns hold the JSON of a type; the columns beside them repeat what is searched for. A change
here adds one to `version` and a migration from the version before.
"""

from __future__ import annotations

from trainforged.storage.opening import Schema

JOBS = Schema(
    version=1,
    application_id=0x54464A31,  # "TFJ1"
    create=(
        # highest_id: of all jobs there ever were; machine, patience: JSON
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('highest_id', 0)",
        """CREATE TABLE jobs (
            id INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            user TEXT NOT NULL,
            name TEXT NOT NULL,
            ended_at REAL,
            body TEXT NOT NULL)""",
        # One index for every list: walked once for each state, newest first, and never left for the table.
        "CREATE INDEX jobs_by_state ON jobs (state, id, user, name)",
        "CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL",
        """CREATE TABLE submissions (
            job INTEGER PRIMARY KEY,
            user TEXT NOT NULL,
            request_id TEXT NOT NULL,
            manifest TEXT,
            shell TEXT,
            body TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX submissions_by_request ON submissions (user, request_id)",
        "CREATE TABLE leases (job INTEGER PRIMARY KEY, body TEXT NOT NULL)",
        """CREATE TABLE attempts (
            job INTEGER NOT NULL,
            number INTEGER NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE UNIQUE INDEX attempts_by_job ON attempts (job, number)",
        "CREATE TABLE devices (uuid TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            type TEXT NOT NULL,
            job INTEGER,
            message TEXT NOT NULL,
            data TEXT)""",
        "CREATE INDEX events_by_job ON events (job, id) WHERE job IS NOT NULL",
    ),
)
