"""When a silent attempt is taken for hung: a pure function of what is known of its silence.

A duration in `recovery.hang_timeout` is taken as written. `auto` suspects an attempt that has been silent
for three times its longest gap so far, ten minutes at least, unless it announced a phase without steps; one
whose rhythm is not known yet, since it has reported less than three times, is only warned about. A
suspicion is not yet a verdict: what the ranks do is looked at first, and one that stands still but may be at
work (it computes in one long call, its GPUs do, it waits for a disk) is given longer.
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


class GpuUse(StrEnum):
    """What the GPUs of an attempt do, all together."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    SPINS = "spins"  # kernels run, and do next to nothing: one that waits for another GPU, as a rule
    WORKS = "works"


SPINNING = 95  # per cent of the time in which some kernel runs
WORK = 1 / 3  # of the power limit; one that computes takes more
SPIN = 0.3  # of the power limit; one that only runs a waiting loop took up to 0.25 where it was seen


def gpu_use(utilisation: int | None, power: float | None, limit: float | None) -> GpuUse:
    """Of one GPU. That some kernel runs (its utilisation) is not yet work: a collective that waits for ever
    is one, and takes hardly more power than an idle GPU. That none runs is none, whatever it takes: small
    cards idle at half their limit once a process has opened them. docs/design.md has what was seen. Between
    the two bounds nothing is said."""
    if utilisation is None or power is None or not limit:
        return GpuUse.UNKNOWN
    if utilisation == 0:
        return GpuUse.IDLE
    share = power / limit
    if share > WORK:
        return GpuUse.WORKS
    return GpuUse.SPINS if utilisation >= SPINNING and share < SPIN else GpuUse.UNKNOWN


def together(uses: Sequence[GpuUse]) -> GpuUse:
    """Of all GPUs of an attempt: one that works speaks for all; and where some spin and the others idle, they
    wait for a rank that never came to the collective."""
    kinds = set(uses)
    if GpuUse.WORKS in kinds:
        return GpuUse.WORKS
    if kinds == {GpuUse.SPINS, GpuUse.IDLE}:
        return GpuUse.SPINS
    return uses[0] if len(kinds) == 1 else GpuUse.UNKNOWN


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
