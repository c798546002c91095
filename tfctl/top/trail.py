"""The last while of each GPU, in cells of ten seconds, from the daemon's history and its stream.

Cells are bound to the clock, not to the moment of looking, so that a drawn history moves on without
trembling. `now` is any clock that does not run backwards, in seconds, the same for every call.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainforge.api import GpuHistory, GpuList, GpuView

CELL = 10.0  # seconds
CELLS = 60  # ten minutes: as much as the daemon keeps
KEPT = ("utilisation", "memory", "power")


class Trail:
    """Means over cells of one figure."""

    def __init__(self) -> None:
        self._cells: dict[int, tuple[float, int]] = {}  # sum and count, by number of the cell

    def add(self, when: float, value: float | None) -> None:
        if value is None:
            return
        number = int(when // CELL)
        before, count = self._cells.get(number, (0.0, 0))
        self._cells[number] = (before + value, count + 1)
        if len(self._cells) > CELLS + 1:
            del self._cells[min(self._cells)]

    def last(self, count: int, now: float) -> list[float | None]:
        """The newest `count` cells, oldest first; None where nothing was measured."""
        end = int(now // CELL)
        return [self._mean(number) for number in range(end - count + 1, end + 1)]

    def _mean(self, number: int) -> float | None:
        cell = self._cells.get(number)
        return cell[0] / cell[1] if cell is not None else None


class Trails:
    """The trails of all GPUs."""

    def __init__(self) -> None:
        self._trails: dict[tuple[str, str], Trail] = {}

    def of(self, uuid: str, figure: str) -> Trail:
        return self._trails.setdefault((uuid, figure), Trail())

    def add(self, gpus: GpuList, now: float) -> None:
        """What the stream says of them now."""
        for gpu in gpus.gpus:
            for figure, value in zip(KEPT, _figures(gpu), strict=True):
                self.of(gpu.uuid, figure).add(now, value)

    def fill(self, gpus: GpuList, now: float) -> None:
        """Begin anew with the daemon's history, which ends now."""
        for gpu in gpus.gpus:
            if gpu.history is None:
                continue
            for figure in KEPT:
                trail = self._trails[gpu.uuid, figure] = Trail()
                values = _column(gpu.history, figure)
                for place, value in enumerate(values):
                    trail.add(now - (len(values) - 1 - place) * gpu.history.every, value)


def _figures(gpu: GpuView) -> tuple[float | None, ...]:
    return gpu.utilisation, gpu.memory_used, gpu.power


def _column(history: GpuHistory, figure: str) -> Sequence[float | None]:
    column: Sequence[float | None] = getattr(history, figure)
    return column
