"""When a silent attempt is taken for hung: a pure function of what is known of its silence.

A duration in `recovery.hang_timeout` is taken as written. `auto` suspects an attempt that has been silent
for three times its longest gap so far, ten minutes at least, unless it announced a phase without steps; one
whose rhythm is not known yet, since it has reported less than three times, is only warned about. A
suspicion is not yet a verdict: what the ranks do is looked at first, and one that stands still but may be at
work (it computes in one long call, or waits for a disk) is given longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Literal

import msgspec
from msgspec.structs import replace

Timeout = float | Literal["auto", "off"]

LEAST = 600.0  # seconds of silence, under `auto`
GAPS = 3.0  # times the longest gap so far
RHYTHM = 3  # reports until gaps mean something
BUSY_LEAST = 3600.0  # as LEAST and GAPS, for one that stands still and may be at work
BUSY_GAPS = 6.0


class Suspicion(StrEnum):
    NONE = "none"
    WARN = "warn"  # say so, and leave it
    LOOK = "look"  # it hangs, if the ranks stand still too
    HANGS = "hangs"  # its user said so


class Rhythm(msgspec.Struct, frozen=True, kw_only=True):
    """Of one attempt, in monotonic seconds: `last` is when it last gave a sign, or was first seen."""

    last: float
    signs: int = 0
    longest: float = 0.0  # gap between two signs


def heard(rhythm: Rhythm, now: float, signs: int = 1) -> Rhythm:
    """After signs at `now`. The first ends the start-up, which is no gap."""
    gap = now - rhythm.last if rhythm.signs else 0.0
    return Rhythm(last=now, signs=rhythm.signs + signs, longest=max(rhythm.longest, gap))


def recalled(rhythm: Rhythm, times: Sequence[float]) -> Rhythm:
    """With the signs that it gave, at these times, before it was watched (by a daemon that is gone)."""
    gaps = (after - before for before, after in pairwise(times))
    return replace(rhythm, signs=rhythm.signs + len(times), longest=max([rhythm.longest, *gaps]))


def patience(rhythm: Rhythm, *, busy: bool = False) -> float:
    """Seconds of silence that are taken for work, under `auto`."""
    least, gaps = (BUSY_LEAST, BUSY_GAPS) if busy else (LEAST, GAPS)
    return max(least, gaps * rhythm.longest)


def suspicion(rhythm: Rhythm, timeout: Timeout, phase: str | None, now: float) -> Suspicion:
    silent = now - rhythm.last
    if timeout == "off":
        return Suspicion.NONE
    if timeout != "auto":
        return Suspicion.HANGS if silent >= timeout else Suspicion.NONE
    if phase is not None or silent < patience(rhythm):
        return Suspicion.NONE
    return Suspicion.LOOK if rhythm.signs >= RHYTHM else Suspicion.WARN
