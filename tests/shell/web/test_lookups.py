"""What is looked up in storage is remembered until something is committed, and no longer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.storage.storing import a_job, add
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.answering.lookups import LONGEST_PAGE, MOST_JOBS, Lookups
from trainforged.daemon.answering.views import Views
from trainforged.storage.following.records import RecordReader
from trainforged.storage.jobs.store import JobStore
from trainforged.storage.metrics.store import MetricStore
from trainforged.web.errors import ApiProblem
from trainforged.web.service import JobFilter

ALL = JobFilter()


class Place:
    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.store = JobStore(folder / "trainforge.db").open()
        stack.callback(self.store.close)
        metrics = MetricStore(folder / "metrics.db").open()
        stack.callback(metrics.close)
        self.state = State()
        views = Views(self.state, folder / "jobs", progress=lambda job: None, usage=lambda job: None)
        self.lookups = Lookups(self.state, self.store, RecordReader(metrics), views, "alice")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(tmp_path, stack)


async def test_a_job_is_known_until_the_next_commit(place: Place) -> None:
    add(place.store, a_job(1))
    assert place.lookups.known_job(1) is None

    found = await place.lookups.job(1)

    assert found is not None
    again = place.lookups.known_job(1)
    assert again is not None
    assert (again.id, again.spec) == (1, found.spec)
    add(place.store, a_job(2))
    assert place.lookups.known_job(1) is None


async def test_a_page_is_known_until_the_next_commit(place: Place) -> None:
    add(place.store, a_job(1), a_job(2))
    assert place.lookups.known_jobs(ALL) is None

    found = await place.lookups.jobs(ALL)

    assert [job.id for job in found.jobs] == [2, 1]
    again = place.lookups.known_jobs(ALL)
    assert again is not None
    assert [job.id for job in again.jobs] == [2, 1]
    assert place.lookups.known_jobs(JobFilter(limit=1)) is None, "it is another page"
    add(place.store, a_job(3))
    assert place.lookups.known_jobs(ALL) is None
    assert [job.id for job in (await place.lookups.jobs(ALL)).jobs] == [3, 2, 1]


async def test_what_the_core_remembers_shows_at_once(place: Place) -> None:
    job = a_job(1)
    add(place.store, job)
    await place.lookups.job(1)
    await place.lookups.jobs(ALL)

    place.state.apply([m.JobChanged(job=a_job(1, JobState.HELD))])

    view, page = place.lookups.known_job(1), place.lookups.known_jobs(ALL)
    assert view is not None
    assert page is not None
    assert (view.state, page.jobs[0].state) == (JobState.HELD, JobState.HELD)


async def test_what_does_not_exist_is_not_remembered(place: Place) -> None:
    assert await place.lookups.job(7) is None
    assert place.lookups.known_job(7) is None
    with pytest.raises(ApiProblem):
        await place.lookups.jobs(JobFilter(cursor="x"))


async def test_what_is_remembered_is_bounded(place: Place) -> None:
    many = MOST_JOBS + 5
    add(place.store, *map(a_job, range(1, many + 1)))
    for number in range(1, many + 1):
        await place.lookups.job(number)
    known = sum(place.lookups.known_job(number) is not None for number in range(1, many + 1))
    assert 0 < known <= MOST_JOBS
    longest = JobFilter(limit=LONGEST_PAGE + 1)
    assert len((await place.lookups.jobs(longest)).jobs) == LONGEST_PAGE + 1
    assert place.lookups.known_jobs(longest) is None
