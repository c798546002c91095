"""Killing all our descendants, in rounds, until nobody is left."""

from __future__ import annotations

import os
import time

from trainforged.execution import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainforged.execution.shim.group import Group

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5  # seconds between two rounds
VAIN = 20.0  # seconds after which what survives SIGKILL is left to the daemon


def descendants() -> Iterator[processes.Stat]:
    return processes.descendants(os.getpid())


class Killing:
    """Begun once. A process that is killed leaves its children to us: the next round finds them.

    Where they have a `group` most are gone before the first round.
    """

    def __init__(self, group: Group | None = None) -> None:
        self._group = group
        self.next_round: float | None = None  # monotonic
        self.undying: frozenset[int] = frozenset()  # those of the latest round who had it before, too
        self._pause = FIRST_PAUSE
        self._killed: frozenset[int] = frozenset()
        self._vain_at = 0.0

    def begin(self) -> None:
        self._vain_at = time.monotonic() + VAIN
        if self._group is not None:
            self._group.kill()
        self._round()

    def go_on(self, now: float) -> None:
        """Another round, if it is time for one."""
        if self.next_round is not None and now >= self.next_round:
            self._round()

    def in_vain(self, now: float) -> bool:
        """Somebody cannot die: stuck in the kernel, or not ours to kill."""
        return self.next_round is not None and now > self._vain_at and self._killed == self.undying

    def _round(self) -> None:
        killed = processes.kill(descendants)
        self.undying = killed & self._killed
        self._pause = min(2 * self._pause, LAST_PAUSE) if self.undying == killed else FIRST_PAUSE
        self._killed = killed
        self.next_round = time.monotonic() + self._pause
