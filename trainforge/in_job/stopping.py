"""The stop flag of this process: how SIGTERM (and Ctrl-C outside a job) becomes `should_stop()`.

`watch()` is called by the first `should_stop()` and by a `Checkpointer`. Before it, nothing here is
active and signals do what they do to any Python process: SIGTERM ends it at once, which is right for
a script that would not save. From then on:

SIGTERM   sets the flag and returns. It is seen at once, by a thread that `signal.set_wakeup_fd`
          wakes, also while the main thread is inside a collective. A handler that the script had
          installed before is called too; one that it installs later replaces ours, and the thread
          still sets the flag. Inside a job SIGTERM never ends the process any more: what ends it
          is the script, or the end of the grace. Outside, a second SIGTERM ends it as usual.
SIGINT    inside a job, untouched. Outside (and not at a prompt): the first sets the flag, the
          second is the usual KeyboardInterrupt.

Forked children (data-loader workers, pools) get SIGTERM as it was before `watch`, so that
`Process.terminate()` works; they let the first Ctrl-C pass, so that the script can still use them to
save. Programs started by the script inherit nothing: handlers do not survive exec.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

from trainforge.in_job import records


class _State:
    """Of this process. `before` holds the handlers that ours took the place of; empty: not watching."""

    requested = False
    before: dict[int, Any] = {}
    seen: set[int] = set()  # signals that have come to the handler
    listening = False  # by our thread; otherwise the script has a wakeup fd of its own
    hooked = False  # into fork, which a child inherits
    refused = False


_masks = threading.local()  # what a forking thread had blocked


def requested() -> bool:
    """True once this process was asked to stop. Other ranks may not know yet: see `should_stop`."""
    return _State.requested


def watch() -> None:
    """Take over the signals, once. Only the main thread can; elsewhere one line says that it was not done."""
    if _State.before:
        return
    if threading.current_thread() is not threading.main_thread():
        _refuse()
        return
    numbers = [signal.SIGTERM]
    if not records.in_job() and not hasattr(sys, "ps1"):
        numbers.append(signal.SIGINT)
    _State.before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    _listen(numbers)
    for number in numbers:
        signal.signal(number, _on_signal)
    if not _State.hooked:
        _State.hooked = True
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_forget)


def _refuse() -> None:
    if not _State.refused:
        _State.refused = True
        records.say("should_stop() was first called outside the main thread: SIGTERM is not taken over")


def _listen(numbers: Iterable[int]) -> None:
    """Start the thread that sees a signal before the main thread can run its handler."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    taken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if taken != -1:  # an event loop of the script's: leave it, the handler alone sets the flag
        signal.set_wakeup_fd(taken)
        os.close(reader)
        os.close(writer)
        return
    _State.listening = True
    arguments = (reader, frozenset(numbers))
    threading.Thread(target=_heed, args=arguments, name="trainforge-signals", daemon=True).start()


def _heed(reader: int, numbers: frozenset[int]) -> None:
    while True:
        for number in os.read(reader, 64):
            if number in numbers:
                _request(number)


def _request(number: int) -> None:
    if _State.requested:
        return
    _State.requested = True
    if records.rank() == 0:
        hint = "; Ctrl-C again interrupts at once" if number == signal.SIGINT else ""
        records.say(
            f"asked to stop by {signal.Signals(number).name}: should_stop() says so from now on{hint}"
        )


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Runs in the main thread, perhaps after the listening thread has already set the flag."""
    again = number in _State.seen
    _State.seen.add(number)
    _request(number)
    before = _State.before[number]
    if before is signal.default_int_handler:
        if again:
            before(number, frame)
    elif callable(before):
        before(number, frame)
    elif again and before is signal.SIG_DFL and not records.in_job():
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _block() -> None:
    """Before a fork: while the child still has our handlers, its signals would be taken for the parent's."""
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _State.before)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _forget() -> None:
    """In a forked child: what the module's text says of children."""
    if _State.listening:
        signal.set_wakeup_fd(-1)
        _State.listening = False
    for number, before in _State.before.items():
        if signal.getsignal(number) is _on_signal:
            spare = number == signal.SIGINT and before is signal.default_int_handler
            signal.signal(number, _spare_once if spare else before)
    _State.before = {}
    _unblock()


def _spare_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.default_int_handler)
