"""Jobs as the API shows them. What storage tells of them holds until the next commit, and is remembered so
long: what many look at is read once.

Progress and use change without a commit, and memory is asked for them each time. What is remembered of
progress shows only where nothing of the job runs, and then nothing changes it.
"""

from __future__ import annotations

import msgspec

from trainforge.api import ErrorCode, JobList, JobView, Progress
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.state import State
from trainforged.daemon.answering.refusing import looked_up
from trainforged.daemon.answering.views import Views
from trainforged.storage.following.records import RecordReader
from trainforged.storage.jobs.store import JobStore, Page, Submission
from trainforged.web.errors import ApiProblem
from trainforged.web.service import JobFilter

MOST_JOBS = 100  # remembered at one time
MOST_PAGES = 20
LONGEST_PAGE = 100  # jobs on a page that is remembered


class Stored(msgspec.Struct, frozen=True):
    """What storage has of one job."""

    job: m.Job
    submission: Submission | None
    attempts: tuple[m.Attempt, ...]
    progress: Progress | None


class StoredPage(msgspec.Struct, frozen=True):
    """With what was last stored of the progress of those that have run."""

    page: Page
    progress: dict[int, Progress]


class Lookups:
    """All methods belong to the event loop's thread."""

    def __init__(self, state: State, store: JobStore, reader: RecordReader, views: Views, user: str) -> None:
        self._state = state
        self._store = store
        self._reader = reader
        self._views = views
        self._user = user
        self._commits = -1  # of the store, when the following was read
        self._jobs: dict[int, Stored] = {}
        self._pages: dict[JobFilter, StoredPage] = {}

    # ---- from memory

    def known_job(self, job_id: int) -> JobView | None:
        """The job whole, where what is stored of it is remembered."""
        self._forget_what_changed()
        stored = self._jobs.get(job_id)
        return self._whole(stored) if stored is not None else None

    def known_jobs(self, which: JobFilter) -> JobList | None:
        """A page, where it is remembered, or of the queue."""
        if self._is_queue(which):
            return self._queue(which)
        self._forget_what_changed()
        stored = self._pages.get(which)
        return self._list(stored) if stored is not None else None

    # ---- from storage, where it must be

    async def find(self, job_id: int) -> m.Job | None:
        """The job as memory has it, else as storage has it."""
        known = self._state.jobs.get(job_id)
        return known if known is not None else await looked_up(self._store.job, job_id)

    async def job(self, job_id: int) -> JobView | None:
        """The job whole; None where there is none."""
        if (view := self.known_job(job_id)) is not None:
            return view
        known = await self.find(job_id)
        if known is None:
            return None
        commits = self._store.commits
        stored = await looked_up(self._stored_of, known)
        if stored.submission is not None and commits == self._store.commits:
            self._forget_what_changed(len(self._jobs) >= MOST_JOBS)
            self._jobs[job_id] = stored
        return self._whole(stored)

    async def jobs(self, which: JobFilter) -> JobList:
        """One page."""
        if (page := self.known_jobs(which)) is not None:
            return page
        commits = self._store.commits
        stored = await looked_up(self._stored_page, which, number(which.cursor))
        if len(stored.page.rows) <= LONGEST_PAGE and commits == self._store.commits:
            self._forget_what_changed(len(self._pages) >= MOST_PAGES)
            self._pages[which] = stored
        return self._list(stored)

    # ---- reading, in a thread; in one go: to ask a thread costs more than what it does

    def _stored_of(self, job: m.Job) -> Stored:
        progress = self._reader.progresses([job.id]).get(job.id) if job.attempt else None
        return Stored(job, self._store.submission(job.id), self._store.attempts(job.id), progress)

    def _stored_page(self, which: JobFilter, cursor: int | None) -> StoredPage:
        page = self._store.page(
            states=which.states, user=which.user, name=which.name, limit=which.limit, cursor=cursor
        )
        started = [row.job.id for row in page.rows if row.job.attempt]
        return StoredPage(page, self._reader.progresses(started) if started else {})

    # ---- showing

    def _whole(self, stored: Stored) -> JobView | None:
        if stored.submission is None:  # removed in between
            return None
        job = self._state.jobs.get(stored.job.id, stored.job)
        return self._views.whole(job, stored.submission, stored.attempts, stored.progress)

    def _list(self, stored: StoredPage) -> JobList:
        known, page = self._state.jobs, stored.page
        views = tuple(
            self._views.job(
                known.get(row.job.id, row.job),
                progress=stored.progress.get(row.job.id),
                git=row.summary.git,
                description=row.summary.description,
                base_image=row.summary.base_image,
            )
            for row in page.rows
        )
        return JobList(jobs=views, next=str(page.next) if page.next is not None else None)

    def _is_queue(self, which: JobFilter) -> bool:
        return which.states == (JobState.QUEUED,) and which.name is None and which.user in (None, self._user)

    def _queue(self, which: JobFilter) -> JobList:
        """A page of the queue in the order in which it will start; the cursor is the place."""
        start = number(which.cursor) or 0
        queue, jobs = self._state.queue, self._state.jobs
        places = queue[start : start + which.limit]
        end = start + len(places)
        views = tuple(self._views.job(jobs[job_id]) for _, job_id in places)
        return JobList(jobs=views, next=str(end) if end < len(queue) else None)

    def _forget_what_changed(self, all_of_it: bool = False) -> None:
        commits = self._store.commits
        if all_of_it or commits != self._commits:
            self._jobs.clear()
            self._pages.clear()
            self._commits = commits


def number(cursor: str | None) -> int | None:
    """What a cursor says. Raises `ApiProblem`."""
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, f"cursor: expected a `next`, found {cursor!r}")
    return int(cursor)
