"""The machine's clock being set, seen from a clock that is not."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 2.0  # seconds: less is correction, and does no harm


def boot_time() -> float:
    """Seconds since the machine started, those in which it slept too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockSteps:
    """Tells of each time that `clock` was set, once."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._clock = clock
        self._steady = steady
        self._apart = self._now_apart()

    def look(self) -> float:
        """By how many seconds the clock was set forward since the last look; 0.0 where it was not."""
        apart = self._now_apart()
        by = apart - self._apart
        if abs(by) < LEAST:
            return 0.0
        self._apart = apart
        return by

    def _now_apart(self) -> float:
        return self._clock() - self._steady()
