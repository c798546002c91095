"""A stop has an end: what hangs on the way down does not keep the daemon, whose jobs go on without it.

Anything may hang there: a thread in the kernel on a disk that does not answer, which Python waits for at
its end, a program that cannot be killed, a task that does not hear. All that was accepted is on disk, and
what the daemon has learnt since the last commit the next one learns again: leaving at once is as good as
`kill -9`, for which everything is built. Where it hung is written to the log.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

log = logging.getLogger("trainforged")

LONGEST_STOP = 10.0  # seconds; the units allow 15 (TimeoutStopSec), `tfctl daemon stop` a little less
LOOK_EVERY = 1.0
LAST_WORDS = 1.0  # seconds that the log has to take them: its disk may be the one that hangs
BACKSTOP = 2.0  # seconds more, after which the process ends though some thread keeps all others from running
SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def _leave() -> None:
    os._exit(0)  # it was told to stop, and stops


class StopLimit:
    """Watches, on a thread of its own, how long ago the process was told to stop, also where its event loop
    hangs: in Python the signal is taken all the same, in the kernel it is seen to wait."""

    def __init__(self, longest: float = LONGEST_STOP, leave: Callable[[], None] = _leave) -> None:
        self._longest = longest
        self._leave = leave
        self._since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """From now on a stop has an end."""
        threading.Thread(target=self._watch, name="stop", daemon=True).start()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear the signals that `loop` has been told to handle, beside it."""
        self._loop = loop
        for number in SIGNALS:
            signal.signal(number, lambda *_: self.heard())  # the loop is woken by a descriptor

    def heard(self) -> None:
        """The process is stopping. To be called once or more."""
        if self._since is None:
            self._since = time.monotonic()
            faulthandler.dump_traceback_later(self._longest + LOOK_EVERY + LAST_WORDS + BACKSTOP, exit=True)

    def _watch(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # of this thread: only so it sees that they wait
        waits_since = None
        while True:
            time.sleep(LOOK_EVERY)
            now = time.monotonic()
            waits_since = (waits_since or now) if signal.sigpending() & SIGNALS else None
            since = self._since or waits_since
            if since is not None and now - since > self._longest:
                break
        teller = threading.Thread(target=self._tell, daemon=True)
        teller.start()
        teller.join(LAST_WORDS)
        self._leave()

    def _tell(self) -> None:
        log.error(
            "the stop did not come to an end within %g s; the daemon leaves as it is. Nothing accepted is "
            "lost, and jobs go on. It hung here:%s",
            self._longest, "".join(f"\n  {line}" for line in _tasks(self._loop)),
        )  # fmt: skip
        faulthandler.dump_traceback(sys.stderr, all_threads=True)


def _tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[str]:
    """Where each task of `loop` waits, outermost call first."""
    if loop is None:
        return
    for task in asyncio.all_tasks(loop):
        yield f"task {task.get_name()}: {' → '.join(_waits(task.get_coro())) or 'not begun'}"


def _waits(coroutine: object) -> Iterator[str]:
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        coroutine = getattr(coroutine, "cr_await", None)
