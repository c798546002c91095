"""Attempts that stand still: watched by monotonic time, looked at closely, and told to the core.

What counts as a sign is a report, a checkpoint, a phase begun or ended. A silent attempt that has never
had a rhythm is only warned about, and only when its output is silent too and it uses no processor. Before an
attempt is stopped, the stacks of its ranks are kept in `attempts/<n>/stacks.txt`. A suspended machine costs
nothing: monotonic time stands still meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from trainforge.api import Usage
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.core.hangs import Rhythm, Suspicion, Timeout, heard, suspicion
from trainforged.daemon.engine import Engine
from trainforged.execution import stacks
from trainforged.execution.folder import AttemptFolder

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two looks at the clock
BETWEEN_LOOKS = 30.0  # at the ranks, under `auto`
IDLE = 0.05  # cores; a job that uses more is busy with something

Key = tuple[int, int]  # job, attempt


class HangWatch:
    """`phase` gives the phase that a job has announced, `usage` what it uses. On the event loop."""

    def __init__(
        self,
        engine: Engine,
        attempt_dir: Callable[[int, int], Path],
        phase: Callable[[int], str | None],
        usage: Callable[[int], Usage | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._attempt_dir = attempt_dir
        self._phase = phase
        self._usage = usage
        self._clock = clock
        self._rhythms: dict[Key, Rhythm] = {}
        self._warned: set[Key] = set()
        self._looking: dict[Key, asyncio.Task[None]] = {}

    def sign(self, job: int, attempt: int, signs: int) -> None:
        """The attempt has given signs of progress."""
        key = job, attempt
        known = self._rhythms.get(key, Rhythm(last=self._clock()))
        self._rhythms[key] = heard(known, self._clock(), signs)
        self._warned.discard(key)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                self._look_round()
        finally:
            for task in self._looking.values():
                task.cancel()

    def _look_round(self) -> None:
        state = self._engine.state
        held = (state.jobs[lease.job] for lease in state.leases.values() if not lease.releasing)
        running = {(job.id, job.attempt): job for job in held if job.state is JobState.RUNNING and job.script}
        for known in (self._rhythms, self._looking):
            for key in known.keys() - running.keys():
                gone = known.pop(key)
                if isinstance(gone, asyncio.Task):
                    gone.cancel()
        self._warned &= running.keys()
        for key, job in running.items():
            self._rhythms.setdefault(key, Rhythm(last=self._clock()))
            self._suspect(key, job.recovery.hang_timeout)

    def _suspect(self, key: Key, timeout: Timeout) -> None:
        match suspicion(self._rhythms[key], timeout, self._phase(key[0]), self._clock()):
            case Suspicion.WARN if key not in self._warned:
                self._warn(key)
            case Suspicion.LOOK | Suspicion.HANGS as found if key not in self._looking:
                twice = found is Suspicion.LOOK
                self._looking[key] = asyncio.create_task(self._look(key, twice))

    def _warn(self, key: Key) -> None:
        usage = self._usage(key[0])
        if usage is None or usage.cpu > IDLE or self._wrote_lately(key):
            return
        self._warned.add(key)
        silent = f"has reported nothing for {self._silence(key)}"
        words = f"{silent}, writes nothing and uses no processor: it may hang"
        self._engine.tell(m.Noted(time=time.time(), job=key[0], type="hang_suspected", message=words))

    def _wrote_lately(self, key: Key) -> bool:
        try:
            age = time.time() - (self._attempt_dir(*key) / "output.log").stat().st_mtime
        except OSError:
            return False
        return age < self._clock() - self._rhythms[key].last

    async def _look(self, key: Key, twice: bool) -> None:
        """At the ranks; under `auto` it is a hang only if they stand still between two looks."""
        rhythm = self._rhythms[key]
        try:
            first = await self._look_once(key)
            if twice:
                await asyncio.sleep(BETWEEN_LOOKS)
                second = await self._look_once(key)
                if second is None or first is None or not second.stands_still_since(first):
                    self._begin_anew(key, rhythm)
                    return
                first = second
            if self._rhythms.get(key) != rhythm:
                return  # it has given a sign meanwhile
            where = await asyncio.to_thread(_keep, first, self._attempt_dir(*key))
            message = f"has reported nothing for {self._silence(key)}{where}"
            self._engine.tell(m.HangFound(time=time.time(), job=key[0], attempt=key[1], message=message))
        finally:
            self._looking.pop(key, None)

    def _begin_anew(self, key: Key, rhythm: Rhythm) -> None:
        """It moves, or somebody holds it: silence of this length is its rhythm now."""
        if self._rhythms.get(key) == rhythm:
            now = self._clock()
            longest = max(rhythm.longest, now - rhythm.last)
            self._rhythms[key] = msgspec.structs.replace(rhythm, last=now, longest=longest)

    async def _look_once(self, key: Key) -> stacks.Look | None:
        folder = self._attempt_dir(*key)
        token = await asyncio.to_thread(AttemptFolder(folder).token)
        return await asyncio.to_thread(stacks.look, token, folder) if token is not None else None

    def _silence(self, key: Key) -> str:
        seconds = self._clock() - self._rhythms[key].last
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _keep(look: stacks.Look | None, folder: Path) -> str:
    """Write the stacks down; the end of a sentence about them."""
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
