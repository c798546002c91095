"""Lives of attempts as they may go, for the rule that tells slow ones from hung ones: what happens, when.

A life is a row of spans. Each says what its ranks do: how often they report, where their stacks are, what
processor they and their children use, what goes to and from disks, in which state the kernel shows them.
`Machine` plays it to the real watch at its own pace: days pass in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.core.world import World
from trainforge.api import Usage
from trainforged.core import messages as m
from trainforged.core.hangs import GpuUse
from trainforged.core.state import State
from trainforged.daemon.watching.hangs import HangWatch
from trainforged.execution.observing.stacks import PAGE, UNINTERRUPTIBLE, Look

MINUTE, HOUR = 60.0, 3600.0
TICK = 10.0  # seconds; a loaded machine lets the watch oversleep as much
LINES = 89  # that a rank is found in while it moves
BOOT = 1.8e9  # when the machine's day began, by its clock


class Doing(msgspec.Struct, frozen=True, kw_only=True):
    """What one rank does."""

    place: str = "train (train.py:41)"
    moves: bool = True  # two samples of its stack differ
    cpu: float = 1.0  # cores
    children: float = 0.0  # cores
    state: str = "S"
    io: float = 0.0  # bytes per second, its children's included
    faults: float = 0.0  # pages read back per second
    queues: bool = False  # for a lock on a file


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Of `seconds`. With `suspended` the machine sleeps: only the wall clock goes on. With `restart` the
    daemon is another one from here on."""

    seconds: float
    every: float | None = None  # seconds between two reports
    phase: str | None = None
    ranks: tuple[Doing, ...] = (Doing(),)
    suspended: bool = False
    restart: bool = False
    gpus: GpuUse = GpuUse.UNKNOWN  # where nobody can say
    network: float = 0.0  # bytes per second


class Told(msgspec.Struct, kw_only=True):
    """What the watch said of a life."""

    warnings: list[str] = []
    hang: str | None = None
    after: float | None = None  # seconds of silence, by the monotonic clock


class Core:
    """One running job of the real core; what is told is kept."""

    def __init__(self) -> None:
        world = World()
        world.start(world.submit(gpu=1))
        self.state: State = world.state
        self.told: list[m.Event] = []

    def tell(self, event: m.Event) -> None:
        self.told.append(event)


class Machine:
    """On which a life is lived. `folder` is the attempt's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 5000.0  # monotonic
        self.slept = 0.0  # suspended
        self.span = Span(seconds=0.0)
        self.cpu: dict[int, float] = {}
        self.moved = 0.0
        self.received = 0.0
        self.reported = 0.0
        self.records: list[str] = []
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.core = Core()

    # ---- what the watch is given

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> Awaitable[None]:
        future = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, future))
        return future

    def look(self, folder: Path) -> Look:
        assert folder == self.folder
        ranks = dict(enumerate(self.span.ranks))
        return Look(
            time=self.now,
            stacks={rank: self._stack(doing) for rank, doing in ranks.items()},
            states={rank: doing.state for rank, doing in ranks.items()},
            cpu={rank: self.cpu.get(rank, 0.0) for rank in ranks},
            moved=int(self.moved),
            queueing=frozenset(rank for rank, doing in ranks.items() if doing.queues),
        )

    def _stack(self, doing: Doing) -> str:
        if doing.state == "D":
            return f"{UNINTERRUPTIBLE}: {doing.place}\n"
        line = f"step (model.py:{int(self.now / 0.7) % LINES})\n    " if doing.moves else ""
        return f'Thread 7 (active): "MainThread"\n    {line}{doing.place}\n    <module> (train.py:99)\n'

    def usage(self, job: int) -> Usage:
        used = sum(doing.cpu + doing.children for doing in self.span.ranks)
        came = {"received": int(self.received), "sent": 0}
        return Usage(cpu=used, memory=0, read=0, written=0, processes=len(self.span.ranks), **came)

    # ---- living

    async def live(self, spans: Sequence[Span]) -> Told:
        told = Told()
        watch, running = await self._daemon()
        for span in spans:
            if span.restart:
                await _cancel(running)
                (self.folder / "records-0.jsonl").write_text("".join(self.records))
                watch, running = await self._daemon()
            if span.phase != self.span.phase:
                self._sign(watch)
            self.span = span
            await self._pass(span, watch, told)
            if told.hang is not None:
                break
        await _cancel(running)
        return told

    async def _daemon(self) -> tuple[HangWatch, asyncio.Task[None]]:
        watch = HangWatch(
            self.core,
            attempt_dir=lambda job, attempt: self.folder,
            phase=lambda job, attempt: self.span.phase,
            usage=self.usage,
            gpus=lambda job: self.span.gpus,
            look=self.look,
            clock=self.clock,
            sleep=self.sleep,
        )
        self.sleepers.clear()
        running = asyncio.create_task(_run(watch.run()))
        await self._settle()
        return watch, running

    async def _pass(self, span: Span, watch: HangWatch, told: Told) -> None:
        if span.suspended:
            self.slept += span.seconds
            return
        end, due = self.now + span.seconds, self.now + (span.every or 0.0)
        while self.now < end and told.hang is None:
            self.now += TICK
            for rank, doing in enumerate(span.ranks):
                self.cpu[rank] = self.cpu.get(rank, 0.0) + TICK * (doing.cpu + doing.children)
                self.moved += TICK * (doing.io + doing.faults * PAGE)
            self.received += TICK * span.network
            while span.every is not None and due <= self.now:
                due += span.every
                self._sign(watch)
            await self._wake()
            self._hear(told)

    def _sign(self, watch: HangWatch) -> None:
        watch.sign(1, 1, 1)
        self.reported = self.now
        record = {"kind": "report", "time": BOOT + self.now + self.slept, "step": len(self.records)}
        self.records.append(json.dumps(record) + "\n")

    async def _wake(self) -> None:
        due = [entry for entry in self.sleepers if entry[0] <= self.now]
        self.sleepers = [entry for entry in self.sleepers if entry[0] > self.now]
        for _, future in due:
            if not future.done():
                future.set_result(None)
        await self._settle()

    async def _settle(self) -> None:
        """Until everybody but us sleeps again: threads are waited for."""
        await asyncio.sleep(0)
        while self._awake():  # noqa: ASYNC110  (no event tells that all others sleep)
            await asyncio.sleep(0)

    def _awake(self) -> int:
        return len(asyncio.all_tasks()) - 1 - sum(not future.done() for _, future in self.sleepers)

    def _hear(self, told: Told) -> None:
        for event in self.core.told:
            match event:
                case m.HangFound(message=message):
                    told.hang, told.after = message, self.now - self.reported
                case m.Noted(message=message):
                    told.warnings.append(message)
        self.core.told.clear()


async def _run(work: Coroutine[Any, Any, None]) -> None:
    await work


async def _cancel(running: asyncio.Task[None]) -> None:
    """With what it has begun."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    running.cancel()
    await asyncio.gather(*others, return_exceptions=True)
