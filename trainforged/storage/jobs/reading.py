"""What can be asked of trainforge.db; each function takes a connection with an open transaction."""

from __future__ import annotations

import datetime
import heapq
import json
import sqlite3
from collections.abc import Sequence

import msgspec

from trainforge.api import EventView
from trainforge.states import ENDED, JobState
from trainforged.core import messages as m
from trainforged.storage.jobs.submission import Submission, Summary

_job = msgspec.json.Decoder(m.Job)
_attempt = msgspec.json.Decoder(m.Attempt)
_lease = msgspec.json.Decoder(m.Lease)
_device = msgspec.json.Decoder(m.Device)
_machine = msgspec.json.Decoder(m.Machine)
_submission = msgspec.json.Decoder(Submission)
_summary = msgspec.json.Decoder(Summary)

_BEYOND = 2**63 - 1  # above every id
_UNENDED = tuple(state for state in JobState if state not in ENDED)


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon starts from. `jobs`, by id, are those that have not ended or still hold a lease;
    `attempts` is the newest one of each of these that has any; `outcomes` are those of ended jobs."""

    jobs: tuple[m.Job, ...]
    attempts: tuple[m.Attempt, ...]
    leases: tuple[m.Lease, ...]
    devices: tuple[m.Device, ...]
    outcomes: dict[int, JobState]
    next_id: int  # above the id of every job there ever was
    last_event: int
    machine: m.Machine | None = None  # as last committed; None before the first time
    patience: float | None = None


class JobRow(msgspec.Struct, frozen=True):
    """A job in a list."""

    job: m.Job
    summary: Summary


class Page(msgspec.Struct, frozen=True):
    """`next` is the cursor of the page after this one, None at the end."""

    rows: tuple[JobRow, ...]
    next: int | None


def remembered(connection: sqlite3.Connection) -> Remembered:
    leases = tuple(map(_lease.decode, _column(connection, "SELECT body FROM leases ORDER BY job")))
    outcomes = _outcomes(connection)
    jobs = _unended(connection)
    jobs += [j for lease in leases if lease.job in outcomes and (j := job(connection, lease.job)) is not None]
    meta = dict(connection.execute("SELECT key, value FROM meta"))
    return Remembered(
        jobs=tuple(sorted(jobs, key=lambda job: job.id)),
        attempts=tuple(a for j in jobs if j.attempt and (a := _newest(connection, j.id)) is not None),
        leases=leases,
        devices=tuple(map(_device.decode, _column(connection, "SELECT body FROM devices ORDER BY uuid"))),
        outcomes=outcomes,
        next_id=int(meta["highest_id"]) + 1,
        last_event=last_event(connection),
        machine=_machine.decode(meta["machine"]) if "machine" in meta else None,
        patience=float(meta["patience"]) if "patience" in meta else None,
    )


def _unended(connection: sqlite3.Connection) -> list[m.Job]:
    query = "SELECT body FROM jobs INDEXED BY jobs_by_state WHERE state = ? ORDER BY id"
    return [_job.decode(body) for state in _UNENDED for (body,) in connection.execute(query, (state,))]


def _outcomes(connection: sqlite3.Connection) -> dict[int, JobState]:
    query = "SELECT id FROM jobs INDEXED BY jobs_by_state WHERE state = ?"
    return {job_id: state for state in ENDED for (job_id,) in connection.execute(query, (state,))}


def _newest(connection: sqlite3.Connection, job_id: int) -> m.Attempt | None:
    query = "SELECT body FROM attempts WHERE job = ? ORDER BY number DESC LIMIT 1"
    body = _value(connection, query, job_id)
    return _attempt.decode(body) if body is not None else None


def page(
    connection: sqlite3.Connection,
    states: Sequence[JobState],
    user: str | None,
    name: str | None,
    limit: int,
    cursor: int | None,
) -> Page:
    before = _BEYOND if cursor is None else cursor
    if states or user is not None or name is not None:
        ids = _matching(connection, states or tuple(JobState), user, name, limit + 1, before)
    else:
        ids = _column(
            connection, "SELECT id FROM jobs WHERE id < ? ORDER BY id DESC LIMIT ?", before, limit + 1
        )
    shown = ids[:limit]
    return Page(_rows(connection, shown), shown[-1] if shown and len(ids) > limit else None)


def _matching(
    connection: sqlite3.Connection,
    states: Sequence[JobState],
    user: str | None,
    name: str | None,
    limit: int,
    before: int,
) -> list[int]:
    """The highest ids: the newest of each state, merged."""
    conditions, values = "", []
    if user is not None:
        conditions, values = " AND user = ?", [user]
    if name is not None:
        conditions, values = conditions + " AND name GLOB ?", [*values, name.replace("[!", "[^")]
    query = (
        "SELECT id FROM jobs INDEXED BY jobs_by_state WHERE state = ? AND id < ?"
        f"{conditions} ORDER BY id DESC LIMIT ?"
    )
    found = (i for s in dict.fromkeys(states) for i in _column(connection, query, s, before, *values, limit))
    return heapq.nlargest(limit, found)


def _rows(connection: sqlite3.Connection, ids: Sequence[int]) -> tuple[JobRow, ...]:
    query = (
        "SELECT jobs.body, submissions.body FROM jobs JOIN submissions ON submissions.job = jobs.id "
        "WHERE jobs.id IN (SELECT value FROM json_each(?)) ORDER BY jobs.id DESC"
    )
    return tuple(
        JobRow(_job.decode(body), _summary.decode(submitted))
        for body, submitted in connection.execute(query, (json.dumps(ids),))
    )


def counts(connection: sqlite3.Connection) -> dict[JobState, int]:
    query = "SELECT state, count(*) FROM jobs INDEXED BY jobs_by_state GROUP BY state"
    return dict.fromkeys(JobState, 0) | {
        JobState(state): number for state, number in connection.execute(query)
    }


def job(connection: sqlite3.Connection, job_id: int) -> m.Job | None:
    body = _value(connection, "SELECT body FROM jobs WHERE id = ?", job_id)
    return _job.decode(body) if body is not None else None


def submission(connection: sqlite3.Connection, job_id: int) -> Submission | None:
    body = _value(connection, "SELECT body FROM submissions WHERE job = ?", job_id)
    return _submission.decode(body) if body is not None else None


def attempts(connection: sqlite3.Connection, job_id: int) -> tuple[m.Attempt, ...]:
    query = "SELECT body FROM attempts WHERE job = ? ORDER BY number"
    return tuple(map(_attempt.decode, _column(connection, query, job_id)))


def find_requests(connection: sqlite3.Connection, user: str, request_ids: Sequence[str]) -> dict[str, int]:
    query = "SELECT job FROM submissions WHERE user = ? AND request_id = ?"
    found = {request_id: _value(connection, query, user, request_id) for request_id in request_ids}
    return {request_id: job_id for request_id, job_id in found.items() if job_id is not None}


def last_event(connection: sqlite3.Connection) -> int:
    return _value(connection, "SELECT max(id) FROM events") or 0


def events(
    connection: sqlite3.Connection, after: int, job_id: int | None, limit: int
) -> tuple[EventView, ...]:
    columns, order = "SELECT id, time, type, job, message, data FROM events", "ORDER BY id LIMIT ?"
    if job_id is None:
        rows = connection.execute(f"{columns} WHERE id > ? {order}", (after, limit))
    else:
        rows = connection.execute(f"{columns} WHERE job = ? AND id > ? {order}", (job_id, after, limit))
    return tuple(
        EventView(
            id=number,
            time=datetime.datetime.fromtimestamp(time, datetime.UTC),
            type=kind,
            job=of,
            message=message,
            data=msgspec.json.decode(data) if data is not None else {},
        )
        for number, time, kind, of, message, data in rows
    )


def newest_events(connection: sqlite3.Connection, job_id: int, limit: int) -> tuple[EventView, ...]:
    query = "SELECT id FROM events WHERE job = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
    before = _value(connection, query, job_id, limit)
    return events(connection, before or 0, job_id, limit)


def ended_before(connection: sqlite3.Connection, moment: float, limit: int) -> tuple[m.Job, ...]:
    query = "SELECT body FROM jobs WHERE ended_at < ? ORDER BY ended_at, id LIMIT ?"
    return tuple(map(_job.decode, _column(connection, query, moment, limit)))


def contents(connection: sqlite3.Connection) -> frozenset[str]:
    rows = connection.execute("SELECT DISTINCT manifest, shell FROM submissions")
    return frozenset(value for row in rows for value in row if value is not None)


# Values come out of SQLite without a type; the queries above say which they are.
def _column(connection: sqlite3.Connection, query: str, *values: object) -> list:  # type: ignore[type-arg]
    return [value for (value,) in connection.execute(query, values)]


def _value(connection: sqlite3.Connection, query: str, *values: object):  # type: ignore[no-untyped-def]
    row = connection.execute(query, values).fetchone()
    return row[0] if row is not None else None
