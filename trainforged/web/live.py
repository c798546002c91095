"""What happens now, from the daemon to any number of readers, without a gap and in bounded memory.

The daemon publishes; a reader owns a `Cursor`, which remembers the id of the last event it gave.
Recent events are kept once, for all readers; one that has fallen behind them reads the database
until it has caught up. So a slow reader costs nothing, and no event is left out or given twice.
Progress and GPU figures are not history: of them a reader gets the latest, and what it missed
is gone.

All calls belong to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from trainforge.api import EventList, EventView, GpuList, JobProgress

History = Callable[[int, int | None, int], Awaitable[EventList]]
"""(after, job, limit) → committed events, as `Service.events`."""

PAGE = 500
PROGRESS_KEPT = 1000  # jobs; far above what runs at once on one machine


class Live:
    """The daemon's side. `last_event` is the id of the newest event that is already committed."""

    def __init__(self, last_event: int = 0, *, keep: int = 2000) -> None:
        self.last_event = last_event
        self.closed = False
        self._floor = last_event  # every event above it is in `_recent`
        self._recent: deque[EventView] = deque()
        self._keep = keep
        self._cursors: set[Cursor] = set()
        self._progress: dict[int, tuple[int, JobProgress]] = {}  # in order of their numbers
        self._gpus: tuple[int, GpuList | None] = (0, None)
        self._count = 0  # numbers the news, so that a reader knows which it has seen

    @property
    def watched(self) -> bool:
        """False while nobody listens: progress and GPU figures need not be made then."""
        return bool(self._cursors)

    def publish(self, events: Sequence[EventView]) -> None:
        """Tell of events that are committed. Each is told once, in order of ids."""
        for event in events:
            self._recent.append(event)
            self.last_event = event.id
        while len(self._recent) > self._keep:
            self._floor = self._recent.popleft().id
        self._wake()

    def progress(self, news: JobProgress) -> None:
        """Tell how a job is getting on. The last word per job counts."""
        self._count += 1
        self._progress.pop(news.job, None)
        self._progress[news.job] = (self._count, news)
        if len(self._progress) > PROGRESS_KEPT:
            del self._progress[next(iter(self._progress))]
        self._wake_for_news()

    def gpus(self, gpus: GpuList) -> None:
        """Tell the figures of the GPUs, without history. The last word counts."""
        self._count += 1
        self._gpus = (self._count, gpus)
        self._wake_for_news()

    def recent(self, after: int, limit: int) -> Sequence[EventView] | None:
        """Events above `after`, at most `limit`; None where memory does not reach back so far."""
        return self._from(after, limit) if after >= self._floor else None

    def _from(self, after: int, limit: int) -> list[EventView]:
        recent = self._recent
        start = bisect.bisect_right(recent, after, key=lambda event: event.id)
        return [recent[i] for i in range(start, min(start + limit, len(recent)))]

    def listen(self, after: int | None, job: int | None, history: History) -> Cursor:
        """A reader of events above `after` (None: of what happens from now on), of one job or all.

        Close it.
        """
        newest = self.last_event  # an id above it is of another database: nothing is missed
        cursor = Cursor(self, newest if after is None else min(after, newest), job, history)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        """The daemon is stopping: readers end."""
        self.closed = True
        self._wake()

    def _wake_for_news(self) -> None:
        """Not who was told some lately: it looks by itself when the next are due."""
        for cursor in self._cursors:
            if cursor.wants_news:
                cursor.woken.set()

    def _wake(self) -> None:
        for cursor in self._cursors:
            cursor.woken.set()


class Cursor:
    """One reader's place. `job` narrows events and progress to one job; GPU figures are left out then."""

    def __init__(self, live: Live, after: int, job: int | None, history: History) -> None:
        self.woken = asyncio.Event()
        self.wants_news = True  # as soon as there are any
        self._live = live
        self._after = after
        self._job = job
        self._history = history
        self._seen = live._count

    @property
    def place(self) -> int:
        """The id that a new reader has to go on after."""
        return self._after

    async def events(self) -> Sequence[EventView]:
        """The next events, at most `PAGE`; none when there is nothing newer."""
        live = self._live
        if self._after >= live.last_event:
            return ()
        if self._after >= live._floor:
            return self._from_memory()
        newest = live.last_event  # committed before the query, so that the query sees it
        page = await self._history(self._after, self._job, PAGE)
        last = page.events[-1].id if page.events else self._after
        more = page.next is not None or len(page.events) >= PAGE
        self._after = last if more else max(last, newest)
        return page.events

    def _from_memory(self) -> Sequence[EventView]:
        found = self._live._from(self._after, PAGE)
        self._after = found[-1].id
        return [event for event in found if self._job in (None, event.job)]

    @property
    def behind(self) -> bool:
        """True while `events` has something to give, or to pass over."""
        return self._after < self._live.last_event

    @property
    def has_news(self) -> bool:
        """True while `news` has something to give."""
        return self._seen < self._live._count

    def news(self) -> tuple[Sequence[JobProgress], GpuList | None]:
        """The latest progress of each job, and of the GPUs, that this reader has not seen."""
        live, seen = self._live, self._seen
        self._seen = live._count
        progress = [news for number, news in live._progress.values() if number > seen]
        if self._job is not None:
            return [news for news in progress if news.job == self._job], None
        number, gpus = live._gpus
        return progress, gpus if number > seen else None

    async def wait(self, seconds: float, *, news: bool = True) -> None:
        """Return when something was told since the last `wait`, or after so long. Without `news`, progress
        and GPU figures do not count."""
        self.wants_news = news
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return
        self.woken.clear()

    def close(self) -> None:
        """Listen no more."""
        self._live._cursors.discard(self)
