"""A thread with much to do rests now and then, so that the event loop finds the interpreter free.

Each of the dozen system calls of an answer gives the interpreter away, and a thread that works without a
pause keeps it for half a millisecond every time: an answer that meets one takes several times as long.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

WORK = 0.00025  # seconds without a rest, about
REST = 0.00075


class Rests:
    """Of one worker. `clock` and `sleep` are for tests."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._rested = clock()
        self._hurried = 0
        self._counting = threading.Lock()

    def begin(self) -> None:
        """Work begins: what was before it was no work."""
        self._rested = self._clock()

    def rest(self) -> None:
        """To be called in short intervals while there is work. Costs less than a microsecond."""
        if self._clock() - self._rested < WORK:
            return
        if not self._hurried:
            self._sleep(REST)
        self._rested = self._clock()

    @contextlib.contextmanager
    def hurry(self) -> Iterator[None]:
        """Somebody waits for what is being done: no rests meanwhile."""
        with self._counting:
            self._hurried += 1
        try:
            yield
        finally:
            with self._counting:
                self._hurried -= 1
