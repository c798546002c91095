"""Follows the history of events, makes letters of what somebody wants to be told, and sends them.

Nothing waits for this. Each event makes its letters once, also over a restart: how far the history is told is
kept with the letters. A letter that was handed over as the daemon was killed may come twice; none is lost
until it is two days old.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence

from msgspec.structs import replace

from trainforge.api import ErrorCode, EventView, JobView
from trainforge.api.page import Incident
from trainforge.spec import Notify
from trainforged.config import Notifications
from trainforged.core import messages as m
from trainforged.daemon.engine import Engine
from trainforged.daemon.notices.delivery import NotDelivered, deliver
from trainforged.daemon.notices.letters import KINDS, Letter, Way, letters, notice, ways
from trainforged.daemon.notices.outbox import MOST_FOR_ONE, MOST_LETTERS, Outbox
from trainforged.storage.errors import StorageBroken, StorageError
from trainforged.storage.jobs.store import JobStore
from trainforged.web.errors import ApiProblem

log = logging.getLogger(__name__)

AT_ONCE = 4  # letters on their way
GATHER = 0.2  # seconds in which more may happen
EVENTS_AT_ONCE = 500
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 3600.0  # seconds between two tries
GIVE_UP = 48 * 3600.0
WAITS_EVERY = 60.0  # seconds between two looks at the queue
WAITS_AT_ONCE = 1000  # places of the queue that are looked at
OWN_ACCOUNT: frozenset[Way] = frozenset({"command", "desktop"})  # ways that run as the daemon's user


class NoticeWatch:
    """`view` and `incident` tell of a job, `settings` what is to be told of all. On the event loop."""

    def __init__(
        self,
        outbox: Outbox,
        store: JobStore,
        engine: Engine,
        *,
        user: str,
        view: Callable[[int], Awaitable[JobView | None]],
        incident: Callable[[int], Awaitable[Incident]],
        settings: Callable[[], Notifications],
        clock: Callable[[], float] = time.time,
        deliver: Callable[[Letter], Awaitable[None]] = deliver,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._engine = engine
        self._user = user
        self._view = view
        self._incident = incident
        self._settings = settings
        self._clock = clock
        self._deliver = deliver
        self._first_pause = first_pause
        self._place = 0
        self._waiting: dict[str, Letter] = {}
        self._happened = asyncio.Event()
        self._to_send = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Letters that have not arrived."""
        return len(self._waiting)

    @property
    def told(self) -> int:
        """The last event of which there are letters, where any are due."""
        return self._place

    def hear(self, events: Sequence[EventView]) -> None:
        """These have happened, and are on the disk."""
        if any(event.type in KINDS for event in events):
            self._happened.set()

    async def run(self) -> None:
        """Tell and send until cancelled; what is under way then is tried again by the next daemon."""
        left, self._place = await asyncio.to_thread(self._outbox.open, self._store.last_event)
        self._waiting = {letter.id: letter for letter in left}
        self._happened.set()
        self._to_send.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_on())
            group.create_task(self._send_on())
            group.create_task(self._look_at_waits())

    # ---- events become letters

    async def _tell_on(self) -> None:
        while True:
            await self._happened.wait()
            await asyncio.sleep(GATHER)
            self._happened.clear()
            try:
                while await self._tell_some():
                    pass
            except (StorageError, OSError) as error:
                log.error("notices are late: %s", error)
                await asyncio.sleep(self._first_pause)
                self._happened.set()

    async def _tell_some(self) -> bool:
        """One page of the history; False where there was nothing."""
        events = await asyncio.to_thread(self._store.events, self._place, None, EVENTS_AT_ONCE)
        if not events:
            return False
        made = [letter for event in events if event.type in KINDS for letter in await self._told(event)]
        made = self._with_room(made)
        await _finished(self._outbox.put, made)
        await _finished(self._outbox.go_on, events[-1].id)
        self._place = events[-1].id
        self._waiting |= {letter.id: letter for letter in made}
        if made:
            self._to_send.set()
        return True

    def _with_room(self, made: Sequence[Letter]) -> list[Letter]:
        """Those for which there is room, in all and at who takes them."""
        counts = Counter(letter.place for letter in self._waiting.values())
        kept = []
        for letter in made:
            if counts.total() < MOST_LETTERS and counts[letter.place] < MOST_FOR_ONE:
                counts[letter.place] += 1
                kept.append(letter)
        if len(kept) < len(made):
            log.error("%d notices are dropped: %d wait already", len(made) - len(kept), len(self._waiting))
        return kept

    async def _told(self, event: EventView) -> list[Letter]:
        """An event that cannot be told keeps no other from being told."""
        try:
            return await self._letters(event)
        except (StorageError, OSError):
            raise
        except Exception:
            log.exception("event %d cannot be told", event.id)
            return []

    async def _letters(self, event: EventView) -> list[Letter]:
        job = await asyncio.to_thread(self._store.job, event.job) if event.job is not None else None
        to = [*self._ways(event, job), *(await self._own_ways(event, job) if job is not None else ())]
        if not to:
            return []
        view, known = None, None
        if job is not None:
            try:
                view, known = await self._view(job.id), await self._incident(job.id)
            except ApiProblem as problem:  # removed meanwhile
                if problem.code is ErrorCode.UNAVAILABLE:
                    raise StorageBroken(str(problem)) from problem
                log.info("job %d is told of without its details: it was removed", job.id)
        return letters(notice(event, view, known, socket.gethostname()), to, self._clock())

    def _ways(self, event: EventView, job: m.Job | None) -> Iterator[tuple[Way, tuple[str, ...]]]:
        """What the settings say, of all jobs and of this user's."""
        settings = self._settings()
        yield from ways(settings.spec(), event.type)
        if job is not None and job.user in settings.users:
            yield from ways(settings.users[job.user].spec(), event.type)

    async def _own_ways(self, event: EventView, job: m.Job) -> list[tuple[Way, tuple[str, ...]]]:
        """What the job's file says. Of another user's job nothing is run as the daemon's user."""
        notify = await self._notify(job.id)
        found = list(ways(notify, event.type)) if notify is not None else []
        if job.user != self._user:
            found = [(way, target) for way, target in found if way not in OWN_ACCOUNT]
        return found

    async def _notify(self, job: int) -> Notify | None:
        submission = await asyncio.to_thread(self._store.submission, job)
        return submission.spec.notify if submission is not None else None

    # ---- letters are sent

    async def _send_on(self) -> None:
        under_way: dict[asyncio.Task[None], str] = {}
        try:
            while True:
                for letter in self._due(set(under_way.values()))[: AT_ONCE - len(under_way)]:
                    under_way[asyncio.create_task(self._send(letter))] = letter.id
                self._to_send.clear()
                news = asyncio.create_task(self._to_send.wait())
                await asyncio.wait(
                    [news, *under_way], timeout=self._pause(), return_when=asyncio.FIRST_COMPLETED
                )
                news.cancel()
                for task in [task for task in under_way if task.done()]:
                    del under_way[task]
                    task.result()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _due(self, under_way: set[str]) -> list[Letter]:
        """One for each who takes them, and first what was never tried: one who does not answer holds up only
        what is for him."""
        now = self._clock()
        busy = {self._waiting[id].place for id in under_way if id in self._waiting}
        due = [one for one in self._waiting.values() if one.due_at <= now and one.place not in busy]
        due.sort(key=lambda letter: (letter.tries > 0, letter.due_at))
        first: dict[tuple[Way, str], Letter] = {}
        for letter in due:
            first.setdefault(letter.place, letter)
        return list(first.values())

    def _pause(self) -> float:
        later = [letter.due_at - self._clock() for letter in self._waiting.values()]
        return max(0.05, min([60.0, *(pause for pause in later if pause > 0)]))

    async def _send(self, letter: Letter) -> None:
        try:
            await self._deliver(letter)
        except NotDelivered as error:
            await self._keep(letter, error)
            return
        except Exception as error:
            log.exception("a notice by %s cannot be sent", letter.way)
            await self._keep(letter, NotDelivered(str(error), again=False))
            return
        self._waiting.pop(letter.id, None)
        await self._on_disk(self._outbox.remove, letter)

    async def _keep(self, letter: Letter, error: NotDelivered) -> None:
        """For another try, unless none would help."""
        now = self._clock()
        if not error.again or now - letter.created_at > GIVE_UP:
            log.error("a notice by %s is given up (%s): %s", letter.way, letter.notice.subject, error)
            self._waiting.pop(letter.id, None)
            await self._on_disk(self._outbox.remove, letter)
            return
        if letter.tries == 0:
            log.warning("a notice by %s is tried again: %s", letter.way, error)
        pause = min(LONGEST_PAUSE, self._first_pause * 2**letter.tries) * random.uniform(0.75, 1.25)
        due = now + max(pause, error.after or 0.0)
        kept = replace(letter, tries=letter.tries + 1, due_at=due, last_error=str(error))
        self._waiting[letter.id] = kept
        await self._on_disk(self._outbox.put, [kept])

    async def _on_disk(self, change: Callable[..., None], *args: object) -> None:
        try:
            await _finished(change, *args)
        except OSError as error:
            log.error("the outbox cannot be written: %s", error)

    # ---- waits that are long

    async def _look_at_waits(self) -> None:
        """A job that could run but for want of GPUs, cores or memory, and has waited long: told once."""
        told = await asyncio.to_thread(self._outbox.waited)
        while True:
            limit = float(self._settings().wait)
            await asyncio.sleep(min(WAITS_EVERY, max(0.2, limit / 10)))
            ready = [job for _, job in self._engine.state.ready[:WAITS_AT_ONCE]]
            news = [job for job in ready if job not in told and self._waited(job) >= limit]
            try:
                wanted = [job for job in news if await self._wanted(job)]
            except StorageError as error:
                log.error("long waits are told later: %s", error)
                continue
            if news:
                told = {job for job in (*told, *news) if job in self._engine.state.jobs}
                await self._on_disk(self._outbox.keep_waited, told)  # first: told twice is worse than not
            for job in wanted:
                self._say(job)

    def _waited(self, job_id: int) -> float:
        job = self._engine.state.jobs.get(job_id)
        if job is None:
            return 0.0
        begin = job.schedule.begin.timestamp() if job.schedule.begin is not None else 0.0
        return self._clock() - max(job.submitted_at, begin, job.ended_at or 0.0)

    async def _wanted(self, job_id: int) -> bool:
        """Whether anybody wants to be told: else the history is spared."""
        job = self._engine.state.jobs.get(job_id)
        if job is None:
            return False
        settings = self._settings()
        named = [settings.spec()] + ([settings.users[job.user].spec()] if job.user in settings.users else [])
        own = await self._notify(job_id)
        return any(list(ways(one, "long_wait")) for one in (*named, *([own] if own is not None else [])))

    def _say(self, job: int) -> None:
        seconds = self._waited(job)
        span = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
        words = f"has waited for {span if seconds >= 60 else f'{seconds:.0f} s'}"
        self._engine.tell(m.Noted(time=self._clock(), job=job, type="long_wait", message=words))


async def _finished(change: Callable[..., None], *args: object) -> None:
    """Do it in a thread; cancelled, wait until it is done: what comes after must not meet it."""
    work = asyncio.ensure_future(asyncio.to_thread(change, *args))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
