"""What a benchmark found: figures, each beside its floor or its peers, and whether it keeps its bound."""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure must keep. `of`: the value itself, or its ratio to the floor."""

    limit: float
    of: Literal["value", "ratio"] = "value"
    least: bool = False  # the limit is the least that will do, not the most
    waived: str | None = None  # why the bound does not count in this run


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured quantity. `others`: the same of the floor or the peers, in the same unit, None where
    it could not be measured; `ratio`: ours ÷ the first of them, from pairs where they were alternated."""

    what: str
    value: float
    unit: str
    others: dict[str, float | None] = {}
    ratio: float | None = None
    bound: Bound | None = None
    samples: int = 1
    spread: tuple[float, float] | None = None  # the quartiles of the samples
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is nothing to meet."""
        if self.bound is None or self.bound.waived is not None:
            return None
        measured = self.value if self.bound.of == "value" else self.ratio
        if measured is None:
            return None
        return measured >= self.bound.limit if self.bound.least else measured <= self.bound.limit


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured. Sizes in bytes."""

    cpu: str
    cores: int
    memory: int
    kernel: str
    system: str
    python: str
    file_system: str
    fdatasyncs: float  # per second, of 4 KiB appended, where the state folders lie
    version: str  # of TrainForge


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the machine at one moment."""

    at: datetime.datetime
    load: tuple[float, float, float]
    realtime: bool = False  # what was measured went before the rest of the load


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark's run. `notes` say what was skipped, and why."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    quick: bool
    machine: Machine
    before: Conditions
    after: Conditions

    @property
    def missed(self) -> tuple[Figure, ...]:
        return tuple(figure for figure in self.figures if figure.met is False)
