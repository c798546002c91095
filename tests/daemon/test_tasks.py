"""Parts of the daemon fail: what fails begins again, and an attempt's end is told all the same."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

import pytest
from msgspec.structs import replace

from trainforged.core import messages as m
from trainforged.daemon.attempts.concluding import conclude
from trainforged.daemon.tasks import Tasks

ENDED = m.AttemptEnded(time=5.0, job=3, attempt=2, end=m.AttemptEnd(ended_at=4.0, exit_code=1))


async def test_a_part_that_fails_begins_again(caplog: pytest.LogCaptureFixture) -> None:
    begun, well = 0, asyncio.Event()

    async def part() -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise sqlite3.DatabaseError("torn")
        well.set()
        await asyncio.Event().wait()

    tasks = Tasks(pause=0.0)
    kept = tasks.keep(part)
    await asyncio.wait_for(well.wait(), 60)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    await tasks.cancel(asyncio.create_task(asyncio.sleep(0)))
    assert kept.cancelled()
    assert begun == 3


async def test_a_part_that_is_done_is_not_begun_again() -> None:
    begun = 0

    async def part() -> None:
        nonlocal begun
        begun += 1

    await asyncio.wait_for(Tasks(pause=0.0).keep(part), 60)
    assert begun == 1


async def test_an_end_is_told_with_how_far_it_came_and_the_room_there_is() -> None:
    async def finish(job: int, attempt: int) -> float:
        return 100.0 * job + attempt

    told = await conclude(ENDED, finish, lambda job, end: replace(end, full=True))
    assert (told.job, told.attempt, told.position, told.end.full) == (3, 2, 302.0, True)
    assert 0.0 <= told.jitter < 1.0


async def test_an_end_is_told_also_where_its_records_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    async def finish(job: int, attempt: int) -> float:
        raise OSError(5, "Input/output error", "records-0.jsonl")

    told = await conclude(ENDED, finish, lambda job, end: replace(end, full=True))
    assert (told.end, told.position) == (replace(ENDED.end, full=True), None)
    assert "attempt 2 of job 3 ended; not all is known of it" in caplog.text
