"""Two threads that ask the daemon: one follows its stream, the other looks at the jobs and passes on orders.

Both say what they learn through `tell`, and go on over a restart of the daemon. Neither keeps anything.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from tfctl.top.control import Ask, Change
from tfctl.top.inbox import Inbox
from tfctl.top.known import EVENTS, Away, Began, CurvesSeen, GpusSeen, Looked, Message, Notice
from tfctl.top.trail import CELL, CELLS
from trainforge.api import EventView, GpuList, JobView
from trainforge.client.client import ApiError, Client, NoDaemon
from trainforge.client.events import EventStream
from trainforge.states import ENDED, LIVE, JobState

if TYPE_CHECKING:
    from tfctl.top.logview import LogRead

Tell = Callable[[Message], None]
Wanted = tuple[int, tuple[str, ...]]

UNASKED = 5.0  # seconds between two looks when nothing happens: reasons hold times that go by
SOONEST = 0.5  # seconds between two looks when much happens
SHARE = 20  # a look may take one part in so many of the time
ENDED_SHOWN = 8
POINTS = 400  # of a curve: two to a cell of a wide screen
PAUSE = 0.25  # seconds before a daemon that is away is asked again


class Source:
    """`queue` is how many waiting jobs are asked for, `curves` the job and the names of its series that
    are. Both may be changed at any time; `look` brings it about."""

    def __init__(self, socket: Path, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self.queue = 40
        self.curves: Wanted | None = None
        self._socket = socket
        self._tell = tell
        self._clock = clock
        self._orders: SimpleQueue[Change | None] = SimpleQueue()  # None: look at the jobs
        self._closed = threading.Event()
        self._stream: EventStream | None = None
        self._away = False

    def start(self) -> None:
        for work in (self._follow, self._serve):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def close(self) -> None:
        """The threads end; nobody needs to wait for them."""
        self._closed.set()
        self._orders.put(None)
        if self._stream is not None:
            self._stream.close()

    def look(self) -> None:
        self._orders.put(None)

    def ask(self, change: Change) -> None:
        self._orders.put(change)

    # ---- the stream

    def _follow(self) -> None:
        """What was, then what happens; an event that happens while the daemon is away is told later."""
        with Client(self._socket, patience=0.0) as client:
            place: int | None = None
            while not self._closed.is_set():
                with contextlib.suppress(NoDaemon, ApiError):
                    place = self._begin(client) if place is None else place
                    place = self._pass_on(client, place)
                self._say_away()
                self._closed.wait(PAUSE)

    def _begin(self, client: Client) -> int:
        """Tell what was; the id of the newest event of it."""
        began = first_look(client, self._clock())
        self._tell(began)
        return began.events[-1].id if began.events else 0

    def _pass_on(self, client: Client, place: int) -> int:
        """Tell what happens after that event until the stream ends; how far it came."""
        with client.watch(place, reconnect=False) as stream, contextlib.suppress(NoDaemon):
            self._stream = stream
            stream.connect()
            self._say_there()
            for item in stream:
                if self._closed.is_set():
                    break
                self._tell(GpusSeen(at=self._clock(), gpus=item) if isinstance(item, GpuList) else item)
                if isinstance(item, EventView):
                    self.look()
        return stream.place or place

    def _say_away(self) -> None:
        if not self._away and not self._closed.is_set():
            self._away = True
            self._tell(Away(since=datetime.datetime.now(datetime.UTC)))

    def _say_there(self) -> None:
        if self._away:
            self._away = False
            self._tell(Away(since=None))
            self.look()

    # ---- looks and orders

    def _serve(self) -> None:
        """Orders at once; looks as often as they are wanted and can be afforded."""
        next_look, wanted = self._clock(), True
        with Client(self._socket, patience=1.0) as client:
            while not self._closed.is_set():
                now = self._clock()
                if now >= next_look and wanted:
                    wanted = False
                    next_look = self._look_at_jobs(client)
                until = next_look if wanted else max(next_look, now + UNASKED)
                try:
                    order = self._orders.get(timeout=max(0.0, until - now))
                except Empty:
                    wanted = True
                    continue
                if order is not None:
                    self._tell(perform(client, order, self._clock))
                wanted = True

    def _look_at_jobs(self, client: Client) -> float:
        """Look; when the next look may be."""
        began = self._clock()
        try:
            self._tell(look_at_jobs(client, self.queue, self._clock))
            if (wanted := self.curves) is not None:
                with contextlib.suppress(ApiError):  # the job was removed meanwhile
                    self._tell(look_at_curves(client, *wanted))
        except ApiError as error:
            self._tell(Notice(at=self._clock(), text=str(error), bad=True))
        except NoDaemon:
            return self._clock() + PAUSE  # the other thread tells
        took = self._clock() - began
        return self._clock() + max(SOONEST, SHARE * took)


def begin(socket: Path) -> tuple[Inbox[Message | LogRead], Source]:
    """A source that has started, and where what it tells arrives."""
    inbox: Inbox[Message | LogRead] = Inbox()
    source = Source(socket, inbox.put)
    source.start()
    return inbox, source


def first_look(client: Client, now: float) -> Began:
    """The GPUs with their history, and the newest events."""
    last = client.status().last_event
    events = client.events_page(max(0, last - EVENTS), limit=EVENTS).events
    return Began(at=now, gpus=client.gpus(history=CELL * CELLS), events=events)


def look_at_jobs(client: Client, queue: int, clock: Callable[[], float] = time.monotonic) -> Looked:
    """The jobs as they are. One that moves on while they are asked for appears once, where it came to."""
    queued = client.jobs(states=(JobState.QUEUED,), limit=max(1, min(queue, 1000))).jobs
    others = client.jobs(states=(JobState.BACKOFF, JobState.HELD), limit=100).jobs
    live = client.jobs(states=sorted(LIVE), limit=1000).jobs
    ended = client.jobs(states=sorted(ENDED), limit=ENDED_SHOWN).jobs
    status = client.status()
    later = sorted(others, key=lambda job: (job.state is JobState.HELD, job.id))
    return Looked(
        at=clock(),
        status=status,
        waiting=without((*queued, *later), (*live, *ended)),
        live=without(live, ended),
        ended=ended,
    )


def look_at_curves(client: Client, job: int, names: tuple[str, ...]) -> CurvesSeen:
    """The series, in the order of their names here."""
    answer = client.metrics(job, names, points=POINTS)
    series = sorted(answer.series, key=lambda one: names.index(one.name))
    return CurvesSeen(answer=msgspec.structs.replace(answer, series=tuple(series)))


def without(jobs: Sequence[JobView], others: Iterable[JobView]) -> tuple[JobView, ...]:
    """The jobs that are not among the others."""
    ids = {job.id for job in others}
    return tuple(job for job in jobs if job.id not in ids)


def perform(client: Client, change: Change, clock: Callable[[], float] = time.monotonic) -> Notice:
    """Ask for the change; what came of it."""
    ask = {Ask.CANCEL: client.cancel, Ask.HOLD: client.hold, Ask.RELEASE: client.release}[change.ask]
    try:
        job = ask(change.job)
    except (ApiError, NoDaemon) as error:
        return Notice(at=clock(), text=f"{change.ask} job {change.job}: {error}", bad=True)
    return Notice(at=clock(), text=f"job {job.id} ({job.name}) {job.why}")
