"""One commit: the core's changes as rows of trainforge.db.

`Rows` brings a list of changes down to the last word on each thing; `write` puts them into an open
transaction with one statement for each table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trainforged.core import messages as m
from trainforged.storage.errors import DuplicateRequest
from trainforged.storage.jobs.submission import Submission

_encoder = msgspec.json.Encoder()


class Rows:
    """What a list of changes comes to. A later change of a thing stands over an earlier one.

    Raises `KeyError` if a submission that a change names is not there.
    """

    def __init__(self, changes: Iterable[m.Change], submissions: Mapping[str, Submission]) -> None:
        self.added: dict[int, m.Job] = {}
        self.changed: dict[int, m.Job] = {}
        self.removed: dict[int, None] = {}
        self.submissions: dict[int, Submission] = {}  # of added jobs
        self.resubmitted: dict[int, Submission] = {}
        self.leases: dict[int, m.Lease | None] = {}
        self.attempts: dict[tuple[int, int], m.Attempt] = {}
        self.devices: dict[str, m.Device | None] = {}
        self.meta: dict[str, msgspec.Struct | float] = {}
        self.events: list[m.Happened] = []
        self.highest_id = 0
        for change in changes:
            self._take(change, submissions)

    def _take(self, change: m.Change, submissions: Mapping[str, Submission]) -> None:
        match change:
            case m.JobAdded(job=job, key=key):
                self.added[job.id] = job
                self.submissions[job.id] = submissions[key]
                self.highest_id = max(self.highest_id, job.id)
            case m.JobChanged(job=job):
                (self.added if job.id in self.added else self.changed)[job.id] = job
            case m.SubmissionChanged(job=job_id, key=key):
                added = job_id in self.submissions
                (self.submissions if added else self.resubmitted)[job_id] = submissions[key]
            case m.JobRemoved(job=job_id):
                self._remove(job_id)
            case m.LeaseChanged(lease=lease):
                self.leases[lease.job] = lease
            case m.LeaseEnded(job=job_id):
                self.leases[job_id] = None
            case m.AttemptChanged(attempt=attempt):
                self.attempts[attempt.job, attempt.number] = attempt
            case m.DeviceChanged(device=device):
                self.devices[device.uuid] = device
            case m.DeviceRemoved(uuid=uuid):
                self.devices[uuid] = None
            case m.MachineChanged(machine=machine):
                self.meta["machine"] = machine
            case m.PatienceChanged(patience=patience):
                self.meta["patience"] = patience
            case m.Happened():
                self.events.append(change)

    def _remove(self, job_id: int) -> None:
        for table in (self.added, self.changed, self.submissions, self.resubmitted, self.leases):
            table.pop(job_id, None)
        self.attempts = {key: value for key, value in self.attempts.items() if key[0] != job_id}
        self.removed[job_id] = None


def write(connection: sqlite3.Connection, rows: Rows, first_event: int) -> None:
    """Put `rows` into the transaction; the events get ids from `first_event` on.

    Raises `DuplicateRequest`, and `ValueError` where the changes do not fit what is stored: a job id
    that was given before, or a change of a job that is not there.
    """
    _write_added(connection, rows)
    _write_changed(connection, rows)
    _write_leases(connection, rows)
    _write_removed(connection, list(rows.removed))
    connection.executemany(
        "INSERT INTO attempts VALUES (?, ?, ?) ON CONFLICT (job, number) DO UPDATE SET body = excluded.body",
        [(a.job, a.number, encoded(a)) for a in rows.attempts.values()],
    )
    connection.executemany(
        "INSERT INTO devices VALUES (?, ?) ON CONFLICT (uuid) DO UPDATE SET body = excluded.body",
        [(uuid, encoded(device)) for uuid, device in rows.devices.items() if device is not None],
    )
    connection.executemany(
        "DELETE FROM devices WHERE uuid = ?",
        [(uuid,) for uuid, device in rows.devices.items() if device is None],
    )
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, encoded(value)) for key, value in rows.meta.items()],
    )
    connection.executemany(
        "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
        [
            (number, e.time, e.type, e.job, e.message, encoded(e.data) if e.data else None)
            for number, e in enumerate(rows.events, first_event)
        ],
    )


def encoded(value: object) -> str:
    """The JSON that a `body` column holds."""
    return _encoder.encode(value).decode()


def _write_added(connection: sqlite3.Connection, rows: Rows) -> None:
    if rows.highest_id:
        (highest,) = connection.execute("SELECT value FROM meta WHERE key = 'highest_id'").fetchone()
        if any(job_id <= highest for job_id in rows.added):
            raise ValueError(f"job id {min(rows.added)} is not above {highest}, the highest there ever was")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'highest_id'", (rows.highest_id,))
    connection.executemany(
        "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)",
        [(j.id, j.state, j.user, j.name, j.ended_at, encoded(j)) for j in rows.added.values()],
    )
    requests = [
        (job_id, rows.added[job_id].user, s.request_id, s.manifest, s.shell, encoded(s))
        for job_id, s in rows.submissions.items()
    ]
    try:
        connection.executemany("INSERT INTO submissions VALUES (?, ?, ?, ?, ?, ?)", requests)
    except sqlite3.IntegrityError as error:
        duplicate = _duplicate(connection, requests)
        if duplicate is None:
            raise
        raise duplicate from error


def _duplicate(
    connection: sqlite3.Connection, requests: Sequence[tuple[Any, ...]]
) -> DuplicateRequest | None:
    """The first of the rows whose request id is taken by a job that is not the row's own."""
    for job_id, user, request_id, *_ in requests:
        found = connection.execute(
            "SELECT job FROM submissions WHERE user = ? AND request_id = ?", (user, request_id)
        ).fetchone()
        if found is not None and found[0] != job_id:
            return DuplicateRequest(user, request_id)
    return None


def _write_changed(connection: sqlite3.Connection, rows: Rows) -> None:
    cursor = connection.executemany(
        "UPDATE jobs SET state = ?, ended_at = ?, body = ? WHERE id = ?",
        [(j.state, j.ended_at, encoded(j), j.id) for j in rows.changed.values()],
    )
    if rows.changed and cursor.rowcount != len(rows.changed):
        raise ValueError(f"of the jobs {sorted(rows.changed)} not all are stored")
    cursor = connection.executemany(
        "UPDATE submissions SET manifest = ?, shell = ?, body = ? WHERE job = ?",
        [(s.manifest, s.shell, encoded(s), job_id) for job_id, s in rows.resubmitted.items()],
    )
    if rows.resubmitted and cursor.rowcount != len(rows.resubmitted):
        raise ValueError(f"of the submissions of {sorted(rows.resubmitted)} not all are stored")


def _write_leases(connection: sqlite3.Connection, rows: Rows) -> None:
    connection.executemany(
        "INSERT INTO leases VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET body = excluded.body",
        [(job_id, encoded(lease)) for job_id, lease in rows.leases.items() if lease is not None],
    )
    connection.executemany(
        "DELETE FROM leases WHERE job = ?",
        [(job_id,) for job_id, lease in rows.leases.items() if lease is None],
    )


def _write_removed(connection: sqlite3.Connection, jobs: Sequence[int]) -> None:
    """A job goes with all that is kept of it, but for its events."""
    for table, column in (("jobs", "id"), ("submissions", "job"), ("leases", "job"), ("attempts", "job")):
        connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(job,) for job in jobs])
