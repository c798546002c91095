"""The machine's NVIDIA GPUs, through a reader process that may hang, crash or lie.

`sample` keeps its deadline whatever the driver does. A GPU on which the reader hung or crashed is
lost, alone, and is left out for a while; the others are read by the next reader. Until then the last that was
heard is given as stale. Without a driver there is no reader: whether one has come is looked at slowly.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from trainforge.driver import driver_present
from trainforged.devices.inventory import SILENT, Sample
from trainforged.devices.reader import Reader, ReaderFailed
from trainforged.devices.wire import End, Line, Order

NONE_HERE = "this machine has no NVIDIA GPU"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds."""

    deadline: float = 2.0  # of one call of `sample`
    patience: float = 15.0  # for a reader's next line, before it counts as hung
    first: float = 60.0  # for its first line: the driver may have to wake up
    tolerance: float = 40.0  # for which the last that was heard of a GPU stands
    retry: float = 1.0  # after a reader failed; doubles
    slowest_retry: float = 60.0
    renewal: float = 60.0  # after which a lost GPU is worth a new reader: the old one never sees it come back
    suspicion: float = 300.0  # for which a GPU that hung or crashed a reader is left alone


DEFAULT = Limits()


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """The last of one GPU, and when."""

    sample: Sample
    time: float


class NvmlInventory:
    """See `inventory.Inventory`. `env` is the reader's environment."""

    simulated = False

    def __init__(
        self,
        *,
        env: Mapping[str, str] = os.environ,
        present: Callable[[Mapping[str, str]], bool] = driver_present,
        limits: Limits = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settled = False
        self.problem: str | None = "the NVIDIA driver has not answered yet"
        self.driver: str | None = None
        self._env, self._present, self._limits, self._clock = env, present, limits, clock
        self._reader: Reader | None = None
        self._dying: Reader | None = None  # killed; no other is started before it is gone
        self._next_start = self._started = clock()
        self._failures = 0  # in a row
        self._waiting: float | None = None  # since when, for the next line of the round under way
        self._waits = limits.first
        self._at: int | None = None  # the GPU that the reader is at
        self._count: int | None = None
        self._gpus: dict[int, Heard] = {}
        self._round: set[int] = set()  # heard in the round under way
        self._fresh: set[int] = set()  # heard in this call
        self._suspects: dict[int, float] = {}  # until when a GPU is left alone

    async def sample(self) -> tuple[Sample, ...]:
        self._fresh = set()
        try:
            reader = await self._ready()
            if reader is not None:
                async with asyncio.timeout(self._limits.deadline):
                    await self._listen(reader)
        except TimeoutError:
            self._check_patience()
        except ReaderFailed as error:
            self._give_up(str(error), blame=error.crashed)
        return tuple(self._view(index) for index in sorted(self._gpus))

    def assign(self, uuid: str, job: int | None) -> None:
        """Nothing to do: a real GPU shows by itself what it does."""

    async def close(self) -> None:
        if self._waiting is not None:
            self._retire()
        for reader in filter(None, (self._reader, self._dying)):
            await reader.close()
        self._reader = self._dying = None

    async def _ready(self) -> Reader | None:
        """The reader, started if it is time to; None while there can be none."""
        if self._dying is not None and self._dying.ended:
            self._dying = None
        if self._reader is None and self._dying is None and self._clock() >= self._next_start:
            if not self._present(self._env):
                self._no_driver(NONE_HERE, self._limits.slowest_retry)
                return None
            self._reader = await Reader.start(self._env)
            self._started, self._waits = self._clock(), self._limits.first
        return self._reader

    async def _listen(self, reader: Reader) -> None:
        """Asks for a round unless one is under way, and takes what comes until its end."""
        if self._waiting is None:
            now = self._clock()
            self._waiting, self._round = now, set()
            reader.ask(Order(skip=tuple(i for i, until in self._suspects.items() if now < until)))
        while self._waiting is not None:
            self._take(await reader.line())

    def _take(self, line: Line) -> None:
        self._waiting, self._waits = self._clock(), self._limits.patience
        if line.at is not None:
            self._at = line.at
        if line.sample is not None:
            self._at = None
            self._keep(line.sample)
        if line.end is not None:
            self._finish(line.end)

    def _keep(self, sample: Sample) -> None:
        index = sample.index
        if sample.lost:
            sample = self._lost(index, sample.lost, sample.uuid)
        self._forget_elsewhere(sample)
        self._gpus[index] = Heard(sample=sample, time=self._clock())
        self._round.add(index)
        self._fresh.add(index)
        self._suspects.pop(index, None)

    def _forget_elsewhere(self, sample: Sample) -> None:
        """The driver may number the GPUs anew when one has gone."""
        for index, heard in tuple(self._gpus.items()):
            if index != sample.index and sample.uuid and heard.sample.uuid == sample.uuid:
                del self._gpus[index]

    def _lost(self, index: int, reason: str, uuid: str = "") -> Sample:
        """What is left to say of a GPU that does not answer: who it was."""
        heard = self._gpus.get(index)
        if heard is None or uuid not in ("", heard.sample.uuid):
            return Sample(uuid=uuid, index=index, lost=reason)
        was = heard.sample
        return Sample(
            uuid=was.uuid, index=index, name=was.name, pci=was.pci, memory_total=was.memory_total, lost=reason
        )

    def _finish(self, end: End) -> None:
        self._waiting = self._at = None
        if end.problem is not None:
            self._retire()
            self._no_driver(end.problem, self._pause())
            return
        self.settled, self.problem, self.driver = True, None, end.driver
        self._failures = 0
        if self._count not in (None, end.count):  # numbered anew: an index means another GPU now
            self._suspects.clear()
        self._count = end.count
        for index in self._gpus.keys() - self._round - self._suspects.keys():
            del self._gpus[index]
        lost = any(heard.sample.lost for index, heard in self._gpus.items() if index in self._round)
        if lost and self._clock() - self._started >= self._limits.renewal:
            self._retire()

    def _no_driver(self, problem: str, delay: float) -> None:
        self.settled, self.problem, self.driver = True, problem, None
        self._gpus.clear()
        self._next_start = self._clock() + delay

    def _pause(self) -> float:
        """Seconds until the next try, after another failure in a row."""
        delay: float = min(self._limits.retry * 2**self._failures, self._limits.slowest_retry)
        self._failures += 1
        return delay

    def _check_patience(self) -> None:
        if self._waiting is not None and self._clock() - self._waiting > self._waits:
            self._give_up(f"did not answer for {self._waits:.0f} s", blame=True)

    def _give_up(self, what: str, blame: bool) -> None:
        """Kills the reader. `blame`: what it was doing is the cause, so that GPU is left alone."""
        at, now = self._at, self._clock()
        self._retire()
        self._next_start = now + self._pause()
        if blame and at is not None:
            self._suspects[at] = now + self._limits.suspicion
            reason = f"the NVIDIA driver fails when asked about it (the GPU reader {what})"
            self._gpus[at] = Heard(sample=self._lost(at, reason), time=now)
        else:
            self.problem = f"the GPU reader {what}; it is started again"
            self.settled = self.settled or blame or self._failures > 1

    def _retire(self) -> None:
        if self._reader is not None:
            self._reader.kill()
        self._reader, self._dying = None, self._reader
        self._waiting = self._at = None

    def _view(self, index: int) -> Sample:
        heard = self._gpus[index]
        if index in self._fresh or index in self._suspects:
            return heard.sample
        if heard.sample.lost is None and self._clock() - heard.time > self._limits.tolerance:
            return replace(self._lost(index, SILENT), stale=True)
        return replace(heard.sample, stale=True)
