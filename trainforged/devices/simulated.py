"""Made-up GPUs, so that everything can be tried on a machine without one.

Their figures follow the leases as a real GPU's follow its job: idle and cool, or busy, hot and full.
They are a function of the leases and the time, and no process is on them but those given.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from uuid import UUID

import msgspec

from trainforge.api import GpuProcess
from trainforged.devices.inventory import SIMULATED, Sample

MEMORY = 80 * 2**30
POWER_LIMIT = 700.0


class _Gpu(msgspec.Struct, frozen=True, kw_only=True):
    uuid: str
    index: int
    phase: float  # 0 … 1, its own: no two GPUs move alike
    job: int | None = None
    since: float = 0.0  # when the job, or the idleness, began
    heat: float = 35.0  # °C at that moment
    processes: tuple[GpuProcess, ...] = ()


class SimulatedInventory:
    """`n` GPUs. The same `seed` (the state folder, say) gives the same UUIDs after a restart."""

    simulated = True
    settled = True
    problem: str | None = None
    driver: str | None = None

    def __init__(self, n: int, seed: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        gpus = [_made_up(seed, index, clock()) for index in range(n)]
        self._gpus = {gpu.uuid: gpu for gpu in gpus}

    async def sample(self) -> tuple[Sample, ...]:
        return self.at(self._clock())

    def at(self, now: float) -> tuple[Sample, ...]:
        """What they would say at `now`, in seconds of the clock."""
        return tuple(_sample(gpu, now) for gpu in self._gpus.values())

    def assign(self, uuid: str, job: int | None, processes: tuple[GpuProcess, ...] = ()) -> None:
        gpu = self._gpus.get(uuid)
        if gpu is None:
            return
        now = self._clock()
        if gpu.job != job:
            gpu = msgspec.structs.replace(gpu, job=job, since=now, heat=_heat(gpu, now))
        self._gpus[uuid] = msgspec.structs.replace(gpu, processes=processes)

    async def close(self) -> None:
        """Nothing to close."""


def _made_up(seed: str, index: int, now: float) -> _Gpu:
    digest = hashlib.sha256(f"{seed}\0{index}".encode()).digest()
    phase = int.from_bytes(digest[16:20], "big") / 2**32
    return _Gpu(uuid=f"{SIMULATED}{UUID(bytes=digest[:16])}", index=index, phase=phase, since=now)


def _sample(gpu: _Gpu, now: float) -> Sample:
    wander, load = _wander(gpu, now), _load(gpu, now)
    return Sample(
        uuid=gpu.uuid,
        index=gpu.index,
        name="Simulated GPU",
        pci=f"00000000:{16 + gpu.index:02X}:00.0",
        memory_total=MEMORY,
        memory_used=_memory(gpu, now),
        utilisation=round((91.5 + 6.5 * wander) * load if gpu.job is not None else 1 + wander),
        temperature=round(_heat(gpu, now)),
        power=round(60 + (440 + 100 * wander) * load + wander, 1),
        power_limit=POWER_LIMIT,
        processes=gpu.processes,
    )


def _wander(gpu: _Gpu, now: float) -> float:
    """-1 … 1, smooth, never quite the same again."""
    turns = (now / period + gpu.phase * weight for period, weight in ((11, 1), (29, 2.3), (83, 4.1)))
    return sum(math.sin(math.tau * turn) for turn in turns) / 3


def _approach(gpu: _Gpu, now: float, seconds: float) -> float:
    """0 … 1: how far what began at `since` has come, with this time constant."""
    return -math.expm1(-max(0.0, now - gpu.since) / seconds)


def _load(gpu: _Gpu, now: float) -> float:
    return _approach(gpu, now, 3) if gpu.job is not None else 0.0


def _heat(gpu: _Gpu, now: float) -> float:
    target = 70 + 5 * _wander(gpu, now) if gpu.job is not None else 35.0
    return gpu.heat + (target - gpu.heat) * _approach(gpu, now, 40)


def _memory(gpu: _Gpu, now: float) -> int:
    """Given back at once: nobody waits for a made-up GPU."""
    full = (0.45 + 0.35 * gpu.phase) * MEMORY
    return int(450 * 2**20 + full * _approach(gpu, now, 20)) if gpu.job is not None else 450 * 2**20
