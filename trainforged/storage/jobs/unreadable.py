"""Rows of a sound trainforge.db that say nothing we know: a JSON text that is none, or of something else.

`unreadable` finds the first, for a look at a database that is open. `put_right` lays each one aside, in a
file beside the database, and makes the row anew from what else is known: the job from its submission, the
submission from the frozen request in the job's folder, the lease from its attempt. All other rows stay as
they are. What cannot be made anew is told: a job of which nothing else tells what was submitted has failed,
unless it runs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trainforge.spec import JobSpec, Project, Recovery, Resources, Training
from trainforge.states import EndReason, JobState
from trainforged.core import messages as m
from trainforged.storage.jobs.submission import Submission
from trainforged.storage.jobs.writing import encoded

log = logging.getLogger(__name__)
T = TypeVar("T")

FILE = "trainforge.db.unreadable-rows"  # one JSON object a line
EVENT = "database_mended"
GONE = "the daemon's record of this job could not be read, and nothing else tells what was submitted"
TABLES: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "attempts": ("job, number", m.Attempt),
    "leases": ("job", m.Lease),
    "submissions": ("job", Submission),
    "jobs": ("id", m.Job),
    "devices": ("uuid", m.Device),
}


class Row(msgspec.Struct, frozen=True):
    """One that cannot be read."""

    table: str
    key: tuple[Any, ...]
    body: bytes
    problem: str

    @property
    def job(self) -> int | None:
        return int(self.key[0]) if self.table in ("attempts", "leases", "submissions", "jobs") else None

    def __str__(self) -> str:
        return f"a row of {self.table} ({', '.join(map(str, self.key))}) cannot be read: {self.problem}"


def unreadable(connection: sqlite3.Connection) -> str | None:
    """The first, in words."""
    row = next(_rows(connection), None)
    return str(row) if row is not None else None


def put_right(connection: sqlite3.Connection, state_dir: Path) -> int:
    """Returns how many rows there were. One transaction; what is laid aside is on disk before it ends."""
    connection.execute("BEGIN IMMEDIATE")
    rows = list(_rows(connection))
    if rows:
        _lay_aside(rows, state_dir / FILE)
        for row in rows:
            became = _mend(connection, row, state_dir)
            words = f"{row}; {became}. What it held is kept in {state_dir / FILE}"
            log.error("%s", words)
            _tell(connection, row.job, words)
    connection.execute("COMMIT")
    return len(rows)


# ---- finding them


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """In the order in which they are mended: what is made anew of others comes after these."""
    for table, (key, kind) in TABLES.items():
        decoder = msgspec.json.Decoder(kind)
        for *place, body in connection.execute(f"SELECT {key}, CAST(body AS BLOB) FROM {table}"):
            try:
                decoder.decode(body)
            except msgspec.DecodeError as error:
                yield Row(table, tuple(place), body, str(error))
    known = ", ".join(f"'{state}'" for state in JobState)
    for number, word in connection.execute(f"SELECT id, state FROM jobs WHERE state NOT IN ({known})"):
        yield Row("jobs", (number,), str(word).encode(), f"{word!r} is no state")
    kinds = {"highest_id": int, "machine": m.Machine, "patience": float}
    for key, value in connection.execute("SELECT key, CAST(value AS BLOB) FROM meta"):
        try:
            msgspec.json.decode(value, type=kinds.get(key, msgspec.Raw))
        except msgspec.DecodeError as error:
            yield Row("meta", (key,), value, str(error))
    query = "SELECT id, CAST(data AS BLOB) FROM events WHERE data IS NOT NULL AND NOT json_valid(data)"
    for number, data in connection.execute(query):
        yield Row("events", (number,), data, "it is no JSON")


def _lay_aside(rows: list[Row], file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "a", encoding="ascii") as out:
        for row in rows:
            held = base64.b64encode(row.body).decode()
            line = {"time": time.time(), "table": row.table, "key": row.key, "base64": held}
            out.write(json.dumps(line | {"problem": row.problem}) + "\n")
        out.flush()
        os.fsync(descriptor)


# ---- making them anew


def _mend(connection: sqlite3.Connection, row: Row, state_dir: Path) -> str:
    """What became of it, in words."""
    match row.table:
        case "attempts":
            return _mend_attempt(connection, *row.key)
        case "leases":
            return _mend_lease(connection, row.key[0])
        case "submissions":
            return _mend_submission(connection, row.key[0], state_dir / "jobs" / str(row.key[0]))
        case "jobs":
            return _mend_job(connection, row.key[0])
        case "devices":
            connection.execute("DELETE FROM devices WHERE uuid = ?", row.key)
            return "the GPU is taken as it is found; if it was drained or set aside, it is not any more"
        case "meta":
            return _mend_meta(connection, row.key[0])
    connection.execute("UPDATE events SET data = NULL WHERE id = ?", row.key)
    return "the event stays without its details"


def _mend_attempt(connection: sqlite3.Connection, job: int, number: int) -> str:
    lease = _read(connection, m.Lease, "SELECT body FROM leases WHERE job = ?", job)
    if lease is None or lease.attempt != number:
        connection.execute("DELETE FROM attempts WHERE job = ? AND number = ?", (job, number))
        return f"how attempt {number} went is not known any more"
    attempt = m.Attempt(
        job=job, number=number, gpus=lease.gpus, granted_at=lease.granted_at, resumed_from=lease.resumed_from
    )
    query = "UPDATE attempts SET body = ? WHERE job = ? AND number = ?"
    connection.execute(query, (encoded(attempt), job, number))
    return "it was made anew from its lease"


def _mend_lease(connection: sqlite3.Connection, job_id: int) -> str:
    """Whether its shim lives, which holds the GPUs themselves, is found out as after every start."""
    job = _read(connection, m.Job, "SELECT body FROM jobs WHERE id = ?", job_id)
    newest = _newest_attempt(connection, job_id)
    if newest is None or newest.ended_at is not None:
        connection.execute("DELETE FROM leases WHERE job = ?", (job_id,))
        return "the attempt was over, and what it held is free"
    wanted = job.resources if job is not None else Resources()
    lease = m.Lease(
        job=job_id,
        attempt=newest.number,
        gpus=newest.gpus,
        cpu=wanted.cpu or 0,
        memory=wanted.memory or 0,
        granted_at=newest.granted_at,
        resumed_from=newest.resumed_from,
    )
    connection.execute("UPDATE leases SET body = ? WHERE job = ?", (encoded(lease), job_id))
    return "it was made anew from its attempt"


def _mend_submission(connection: sqlite3.Connection, job_id: int, home: Path) -> str:
    query = "SELECT request_id, manifest, shell FROM submissions WHERE job = ?"
    request_id, manifest, shell = connection.execute(query, (job_id,)).fetchone()
    spec, workdir = _frozen_spec(home), None if manifest is not None else _workdir(home)
    found = spec is not None and (manifest is not None or workdir is not None)
    if found and spec is not None:
        made = Submission(spec=spec, request_id=request_id, manifest=manifest, shell=shell, workdir=workdir)
    else:
        made = Submission(spec=_says_so(connection, job_id), request_id=request_id, workdir="/")
    connection.execute("UPDATE submissions SET body = ? WHERE job = ?", (encoded(made), job_id))
    if found:
        return "it was made anew from the frozen request in the job's folder"
    job = _read(connection, m.Job, "SELECT body FROM jobs WHERE id = ?", job_id)
    if job is not None and not job.state.ended and not job.state.live:
        _put(connection, _failed(job))
        return "the job has failed: nothing else tells what was submitted"
    return "nothing else tells what was submitted, so that the job cannot be started again"


def _says_so(connection: sqlite3.Connection, job_id: int) -> JobSpec:
    """In the place of what was submitted: the job can be shown, and whoever starts it again is told."""
    (name,) = connection.execute("SELECT name FROM jobs WHERE id = ?", (job_id,)).fetchone()
    command = ("sh", "-c", 'echo "$0" >&2; exit 1', GONE)
    project, recovery = Project(name=str(name)), Recovery(max_retries=0)
    return JobSpec(project=project, training=Training(command=command), recovery=recovery)


def _frozen_spec(home: Path) -> JobSpec | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((home / "spec.json").read_bytes(), type=JobSpec)
    return None


def _workdir(home: Path) -> str | None:
    """Where an attempt of it was started."""
    for order in sorted(home.glob("attempts/*/launch.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(order.read_bytes())["cwd"])
    return None


def _mend_job(connection: sqlite3.Connection, job_id: int) -> str:
    readable = _read(connection, m.Job, "SELECT body FROM jobs WHERE id = ?", job_id)
    if readable is not None:  # the column beside it
        _put(connection, readable)
        return "the column was filled from the job itself"
    submission = _read(connection, Submission, "SELECT body FROM submissions WHERE job = ?", job_id)
    job = _job_of(connection, job_id, submission)
    lost = submission is None or GONE in (submission.spec.training.command or ())
    if lost and not job.state.ended and not job.state.live:
        job = _failed(job)
    _put(connection, job)
    if lost:
        return "nothing else tells what was submitted"
    return "it was made anew from what was submitted; its retries are counted anew"


def _job_of(connection: sqlite3.Connection, job_id: int, submission: Submission | None) -> m.Job:
    """As far as the rows about it tell."""
    query = "SELECT state, user, name, ended_at FROM jobs WHERE id = ?"
    word, user, name, ended_at = connection.execute(query, (job_id,)).fetchone()
    began = connection.execute("SELECT min(time) FROM events WHERE job = ?", (job_id,)).fetchone()[0]
    lease = _read(connection, m.Lease, "SELECT body FROM leases WHERE job = ?", job_id)
    newest = _newest_attempt(connection, job_id)
    live = lease is not None and not lease.releasing
    spec = submission.spec if submission is not None else None
    end = newest.end if newest is not None else None
    job = m.Job(
        id=job_id,
        name=str(name),
        user=str(user),
        state=_state(word, live),
        submitted_at=began or 0.0,
        script=spec is not None and spec.training.script is not None,
        attempt=lease.attempt if lease is not None else newest.number if newest is not None else 0,
    )
    if spec is not None:
        job = msgspec.structs.replace(
            job, resources=spec.resources, schedule=spec.schedule, recovery=spec.recovery
        )
    else:
        job = msgspec.structs.replace(job, recovery=Recovery(max_retries=0))
    if newest is not None:
        job = msgspec.structs.replace(job, started_at=newest.started_at)
        if live:
            job = msgspec.structs.replace(job, attempt_started_at=newest.started_at or newest.granted_at)
    if job.state.ended:
        reason = str(newest.reason) if newest is not None and newest.reason is not None else None
        code = end.exit_code if end is not None else None
        job = msgspec.structs.replace(job, ended_at=ended_at or time.time(), reason=reason, exit_code=code)
    return job


def _state(word: object, live: bool) -> JobState:
    """One that fits: what runs is found out, what waits is held until a person has seen it."""
    state = next((state for state in JobState if state == word), None)
    if state is not None and (state.ended or state.live == live):
        return JobState.QUEUED if state is JobState.BACKOFF else state
    return JobState.UNKNOWN if live else JobState.HELD


def _failed(job: m.Job) -> m.Job:
    return msgspec.structs.replace(
        job,
        state=JobState.FAILED,
        ended_at=time.time(),
        reason=EndReason.LOST,
        evidence=GONE,
        not_before=None,
        passed_since=None,
        room=None,
        room_by=None,
    )


def _mend_meta(connection: sqlite3.Connection, key: str) -> str:
    if key != "highest_id":
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
        return "it is found out anew"
    numbers = "SELECT id FROM jobs UNION ALL SELECT job FROM submissions UNION ALL SELECT job FROM events"
    (highest,) = connection.execute(f"SELECT max(id) FROM ({numbers})").fetchone()
    connection.execute("UPDATE meta SET value = ? WHERE key = 'highest_id'", (highest or 0,))
    return f"jobs are numbered from {(highest or 0) + 1}"


# ---- rows


def _newest_attempt(connection: sqlite3.Connection, job: int) -> m.Attempt | None:
    query = "SELECT body FROM attempts WHERE job = ? ORDER BY number DESC LIMIT 1"
    return _read(connection, m.Attempt, query, job)


def _read(connection: sqlite3.Connection, kind: type[T], query: str, key: int) -> T | None:
    """None where there is no row, or one that cannot be read."""
    row = connection.execute(query.replace("body", "CAST(body AS BLOB)", 1), (key,)).fetchone()
    if row is not None:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(row[0], type=kind)
    return None


def _put(connection: sqlite3.Connection, job: m.Job) -> None:
    query = "UPDATE jobs SET state = ?, ended_at = ?, body = ? WHERE id = ?"
    connection.execute(query, (job.state, job.ended_at, encoded(job), job.id))


def _tell(connection: sqlite3.Connection, job: int | None, words: str) -> None:
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
    values = (last + 1, time.time(), EVENT, job, words, None)
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", values)
