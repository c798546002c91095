"""Attempts that stand still: watched by monotonic time, looked at closely, and told to the core.

What counts as a sign is a report, a checkpoint, a phase begun or ended. A silent attempt that has never
had a rhythm is only warned about, and only when its output is silent too and it uses no processor, or its
GPUs only spin. Before an attempt is stopped, the stacks of its ranks are kept in `attempts/<n>/stacks.txt`.
A suspended machine costs nothing: monotonic time stands still meanwhile. A rhythm from before this daemon is
read from the records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Protocol

import msgspec

from trainforge.api import Usage
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.hangs import (
    LEAST,
    GpuUse,
    Rhythm,
    Suspicion,
    Timeout,
    heard,
    patience,
    recalled,
    suspicion,
)
from trainforged.core.state import State
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.observing import flight, stacks
from trainforged.storage.following.records import times_of_signs

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks at the clock
BETWEEN_LOOKS = 30.0  # at the ranks, under `auto`
REST = 300.0  # until the next look at ranks that stand still and may be at work
IDLE = 0.05  # cores; a job that uses more is busy with something

Key = tuple[int, int]  # job, attempt


class Core(Protocol):
    """What the watch needs of the engine."""

    state: State

    def tell(self, event: m.Event) -> None: ...


class Stood(msgspec.Struct, frozen=True):
    """Ranks that stood still and may be at work: since the first look, in this silence; looked at again
    at `again`."""

    rhythm: Rhythm
    first: stacks.Look
    again: float


class Elsewhere(msgspec.Struct, frozen=True):
    """What goes on while its ranks stand still: on its GPUs, and the bytes that its connections carried."""

    gpus: GpuUse
    carried: int | None


def look_at_ranks(folder: Path) -> stacks.Look | None:
    """Of the attempt with this folder; None where it is not known whose it is. Blocks."""
    token = AttemptFolder(folder).token()
    return stacks.look(token, folder) if token is not None else None


class HangWatch:
    """`phase` gives the phase that an attempt has announced, `usage` what a job uses, `gpus` what its GPUs
    do. On the event loop."""

    def __init__(
        self,
        core: Core,
        attempt_dir: Callable[[int, int], Path],
        phase: Callable[[int, int], str | None],
        usage: Callable[[int], Usage | None],
        gpus: Callable[[int], GpuUse],
        look: Callable[[Path], stacks.Look | None] = look_at_ranks,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._core = core
        self._attempt_dir = attempt_dir
        self._phase = phase
        self._usage = usage
        self._gpus = gpus
        self._look = look
        self._clock = clock
        self._sleep = sleep
        self._rhythms: dict[Key, Rhythm] = {}
        self._recalled: set[Key] = set()
        self._warned: set[Key] = set()
        self._spinning: dict[Key, float] = {}  # since when its GPUs only spin
        self._stood: dict[Key, Stood] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def sign(self, job: int, attempt: int, signs: int) -> None:
        """The attempt has given signs of progress."""
        key = job, attempt
        known = self._rhythms.get(key, Rhythm(last=self._clock()))
        self._rhythms[key] = heard(known, self._clock(), signs)
        self._warned.discard(key)
        self._spinning.pop(key, None)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await self._sleep(INTERVAL)
                self._look_round()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _look_round(self) -> None:
        state = self._core.state
        held = (state.jobs[lease.job] for lease in state.leases.values() if not lease.releasing)
        running = {(job.id, job.attempt): job for job in held if job.state is JobState.RUNNING and job.script}
        for key in (self._rhythms.keys() | self._tasks.keys()) - running.keys():
            self._forget(key)
        for key, job in running.items():
            self._rhythms.setdefault(key, Rhythm(last=self._clock()))
            if key not in self._tasks:
                self._suspect(key, job.recovery.hang_timeout)

    def _forget(self, key: Key) -> None:
        self._rhythms.pop(key, None)
        self._stood.pop(key, None)
        self._recalled.discard(key)
        self._warned.discard(key)
        self._spinning.pop(key, None)
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    def _suspect(self, key: Key, timeout: Timeout) -> None:
        now = self._clock()
        found = suspicion(self._rhythms[key], timeout, None, now)
        if found is not Suspicion.NONE:  # only now: who was not gathered from is looked up on disk
            found = suspicion(self._rhythms[key], timeout, self._phase(*key), now)
        match found:
            case Suspicion.WARN if key not in self._recalled:
                self._recalled.add(key)
                self._spawn(key, self._recall(key))
            case Suspicion.WARN if key not in self._warned:
                self._warn(key)
            case Suspicion.LOOK if not self._rests(key, now):
                self._spawn(key, self._look_twice(key))
            case Suspicion.HANGS:
                self._spawn(key, self._look_and_tell(key))

    def _spawn(self, key: Key, work: Coroutine[None, None, None]) -> None:
        task = self._tasks[key] = asyncio.create_task(work)
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: Key, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("job %d could not be looked at", key[0], exc_info=error)

    def _rests(self, key: Key, now: float) -> bool:
        stood = self._stood.get(key)
        return stood is not None and stood.rhythm == self._rhythms[key] and now < stood.again

    async def _recall(self, key: Key) -> None:
        """What its records tell of its rhythm: this daemon may be younger than the attempt."""
        times = await asyncio.to_thread(times_of_signs, self._attempt_dir(*key))
        if (known := self._rhythms.get(key)) is not None and len(times) > known.signs:
            self._rhythms[key] = recalled(Rhythm(last=known.last), times)

    def _warn(self, key: Key) -> None:
        if (why := self._why_warn(key)) is None or self._wrote_lately(key):
            return
        self._warned.add(key)
        words = f"has reported nothing for {self._silence(key)}, writes nothing and {why}: it may hang"
        self._core.tell(m.Noted(time=time.time(), job=key[0], type="hang_suspected", message=words))

    def _why_warn(self, key: Key) -> str | None:
        """A collective that waits for ever keeps processors and GPUs busy: what GPUs take tells it apart."""
        if self._spins_for(key) >= LEAST:
            return f"its GPUs have run for {LEAST / 60:.0f} min at the power of idle ones, as in a collective"
        usage = self._usage(key[0])
        return "uses no processor" if usage is not None and usage.cpu <= IDLE else None

    def _spins_for(self, key: Key) -> float:
        """Seconds for which its GPUs have done nothing but spin, as far as they were asked."""
        if self._gpus(key[0]) is not GpuUse.SPINS:
            self._spinning.pop(key, None)
            return 0.0
        return self._clock() - self._spinning.setdefault(key, self._clock())

    def _wrote_lately(self, key: Key) -> bool:
        try:
            age = time.time() - (self._attempt_dir(*key) / "output.log").stat().st_mtime
        except OSError:
            return False
        return age < self._clock() - self._rhythms[key].last

    async def _look_twice(self, key: Key) -> None:
        """It is a hang only if the ranks stand still between two looks; if they may be at work all the
        same, only once they have stood still for long."""
        rhythm = self._rhythms[key]
        before = self._elsewhere(key)
        first = await self._look_once(key)
        await self._sleep(BETWEEN_LOOKS)
        last = await self._look_once(key)
        if self._rhythms.get(key) != rhythm:
            return  # it has given a sign meanwhile
        stood = self._stood.get(key)
        since = stood.first if stood is not None and stood.rhythm == rhythm else first
        if first is None or since is None or last is None or not _still(last, first, since):
            held = last is not None and last.stopped
            self._begin_anew(key, rhythm, lengthen=not held)
        elif (
            last.may_work_since(first) or _works(before, self._elsewhere(key), last.time - first.time)
        ) and self._clock() - rhythm.last < patience(rhythm, busy=True):
            self._stood[key] = Stood(rhythm, since, self._clock() + REST)
        else:
            await self._tell(key, rhythm, last)

    def _elsewhere(self, key: Key) -> Elsewhere:
        usage = self._usage(key[0])
        carried = None if usage is None or usage.received is None else usage.received + (usage.sent or 0)
        return Elsewhere(self._gpus(key[0]), carried)

    async def _look_and_tell(self, key: Key) -> None:
        """Of one whose user said how long a silence is a hang."""
        rhythm = self._rhythms[key]
        await self._tell(key, rhythm, await self._look_once(key))

    async def _tell(self, key: Key, rhythm: Rhythm, look: stacks.Look | None) -> None:
        where = await asyncio.to_thread(_keep, look, self._attempt_dir(*key))
        if self._rhythms.get(key) != rhythm:
            return  # it has given a sign meanwhile
        message = f"has reported nothing for {self._silence(key)}{where}"
        self._core.tell(m.HangFound(time=time.time(), job=key[0], attempt=key[1], message=message))

    def _begin_anew(self, key: Key, rhythm: Rhythm, *, lengthen: bool) -> None:
        """It moves: silence of this length is its rhythm now. Or somebody holds it, which tells nothing."""
        now = self._clock()
        longest = max(rhythm.longest, now - rhythm.last) if lengthen else rhythm.longest
        self._rhythms[key] = msgspec.structs.replace(rhythm, last=now, longest=longest)

    async def _look_once(self, key: Key) -> stacks.Look | None:
        return await asyncio.to_thread(self._look, self._attempt_dir(*key))

    def _silence(self, key: Key) -> str:
        seconds = self._clock() - self._rhythms[key].last
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _works(before: Elsewhere, after: Elsewhere, seconds: float) -> bool:
    """Its GPUs compute, or it sends and receives more than what watches over connections does."""
    if GpuUse.WORKS in (before.gpus, after.gpus):
        return True
    if before.carried is None or after.carried is None:
        return False
    return after.carried - before.carried > max(stacks.LEAST_MOVED, stacks.MOVED * seconds)


def _still(last: stacks.Look, *before: stacks.Look) -> bool:
    return all(last.stands_still_since(look) for look in before)


def _keep(look: stacks.Look | None, folder: Path) -> str:
    """Write down what can be had of the ranks; the end of a sentence about it."""
    recorded = flight.record(folder)
    said = _keep_stacks(look, folder)
    return f"{said}; the collectives of NCCL: {folder}/{flight.PREFIX}*" if recorded else said


def _keep_stacks(look: stacks.Look | None, folder: Path) -> str:
    if look is None or not any(look.stacks.values()):
        return "; no stacks could be taken"
    path = folder / "stacks.txt"
    text = "".join(f"==> rank {rank} <==\n{stack}\n" for rank, stack in sorted(look.stacks.items()))
    try:
        path.write_text(text)
    except OSError as error:
        return f"; its stacks could not be kept: {error.strerror}"
    places = {rank: stacks.innermost(stack) for rank, stack in look.stacks.items()}
    said = ", ".join(f"rank {rank} in {place}" for rank, place in sorted(places.items()) if place)
    return f"; {said or 'its stacks'}: see {path}"
