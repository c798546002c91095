"""The last ten minutes of each GPU, for `top` and the page.

Bounded: ten kilobytes a GPU, and a GPU that is not seen any more is forgotten. One value a second;
a second without a new sample is a gap.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from math import nan

from trainforge.api import GpuHistory
from trainforged.devices.inventory import Sample

SECONDS = 600


class _Ring:
    """Four columns of one GPU, by second modulo their length; NaN is a gap."""

    def __init__(self, length: int, now: int) -> None:
        self.columns = [array("f", [nan]) * length for _ in range(4)]
        self.seen = now

    def put(self, slot: int, values: Iterable[float | None]) -> None:
        for column, value in zip(self.columns, values, strict=True):
            column[slot] = nan if value is None else value


class History:
    """`now` is any clock that does not run backwards, in seconds, the same for every call."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self._length = seconds
        self._rings: dict[str, _Ring] = {}
        self._newest: int | None = None

    def add(self, now: float, samples: Iterable[Sample]) -> None:
        self._advance(int(now))
        for sample in samples:
            if sample.uuid and not sample.stale and not sample.lost:
                ring = self._rings.setdefault(sample.uuid, _Ring(self._length, int(now)))
                ring.seen = int(now)
                ring.put(int(now) % self._length, _values(sample))

    def of(self, uuid: str, seconds: float = SECONDS, points: int | None = None) -> GpuHistory:
        """The last `seconds`, at most `points` values of each column: means over equal spans."""
        ring = self._rings.get(uuid)
        length = max(1, min(int(seconds), self._length))
        every = -(-length // points) if points else 1
        count = length // every
        if ring is None or self._newest is None:
            return GpuHistory(every=every, utilisation=(), memory=(), temperature=(), power=())
        end = self._newest + 1
        slots = [[t % self._length for t in range(end - every * i, end - every * (i - 1))]
                 for i in range(count, 0, -1)]  # fmt: skip
        utilisation, memory, temperature, power = (_means(column, slots) for column in ring.columns)
        return GpuHistory(
            every=every,
            utilisation=_whole(utilisation),
            memory=_whole(memory),
            temperature=_whole(temperature),
            power=tuple(None if value is None else round(value, 1) for value in power),
        )

    def _advance(self, now: int) -> None:
        """Empties the seconds since the last call, and forgets GPUs of which nothing is left."""
        last = now - 1 if self._newest is None else self._newest
        self._newest = max(now, last)
        for second in range(max(last + 1, now - self._length + 1), now + 1):
            for ring in self._rings.values():
                ring.put(second % self._length, (None,) * 4)
        gone = [uuid for uuid, ring in self._rings.items() if now - ring.seen >= self._length]
        for uuid in gone:
            del self._rings[uuid]


def _values(sample: Sample) -> tuple[float | None, ...]:
    return sample.utilisation, sample.memory_used, sample.temperature, sample.power


def _means(column: array[float], slots: list[list[int]]) -> list[float | None]:
    means: list[float | None] = []
    for span in slots:
        values = [column[slot] for slot in span if column[slot] == column[slot]]  # NaN is unequal to itself
        means.append(sum(values) / len(values) if values else None)
    return means


def _whole(values: list[float | None]) -> tuple[int | None, ...]:
    return tuple(None if value is None else round(value) for value in values)
