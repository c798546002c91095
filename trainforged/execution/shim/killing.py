"""Killing all our descendants, in rounds, until nobody is left."""

from __future__ import annotations

import os
import time

from trainforged.execution import processes

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5  # seconds between two rounds
VAIN = 20.0  # seconds after which what survives SIGKILL is left to the daemon


def descendants() -> dict[int, processes.Stat]:
    return processes.descendants(os.getpid())


class Killing:
    """Begun once. A process that is killed leaves its children to us: the next round finds them."""

    def __init__(self) -> None:
        self.next_round: float | None = None  # monotonic
        self._pause = FIRST_PAUSE
        self._since = 0.0

    def begin(self) -> None:
        self._since = time.monotonic()
        self._round()

    def go_on(self, now: float) -> None:
        """Another round, if it is time for one."""
        if self.next_round is not None and now >= self.next_round:
            self._round()

    def in_vain(self, now: float) -> bool:
        """Somebody cannot die: stuck in the kernel, or not ours to kill."""
        return self.next_round is not None and now > self._since + VAIN

    def _round(self) -> None:
        processes.kill(descendants)
        self.next_round = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE)
