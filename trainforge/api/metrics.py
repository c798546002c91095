"""The series that a job reported."""

from __future__ import annotations

from typing import Literal

import msgspec

NotFinite = Literal["NaN", "Infinity", "-Infinity"]
Value = float | NotFinite  # what JSON has no number for is named


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One reported series, oldest first; all columns have the same length. Superseded points are left out."""

    name: str
    step: tuple[float, ...]
    time: tuple[float, ...]  # seconds since the epoch
    value: tuple[Value, ...]
    attempt: tuple[int, ...]
    epoch: tuple[float | None, ...] = ()

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The values; None for what is not finite."""
        return tuple(None if isinstance(value, str) else value for value in self.value)


class PointsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A part of one series, nothing left out; `next` is the cursor of the part after it, if there is one."""

    job: int
    rank: int
    series: Series
    next: str | None = None


class MetricsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Series of one rank; `ranks` are those that have reported any."""

    job: int
    series: tuple[Series, ...]
    rank: int = 0
    ranks: tuple[int, ...] = ()
