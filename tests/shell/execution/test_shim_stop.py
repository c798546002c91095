"""The shim: stopping, and nothing left of what a command has forked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shell.attempts import Shimmed, alive, python
from tests.support import quickest, wait_for
from trainforged.execution.starting.spawn import spawn

Make = Callable[..., Shimmed]

SAVES = """
    import signal, sys, time
    def save(*_):
        print("saving"); time.sleep(0.1); print("saved"); sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print("ready")
    while True: time.sleep(1)
"""
STUBBORN = """
    import signal, time
    signal.signal(signal.SIGTERM, lambda *_: print("no"))
    print("ready")
    while True: time.sleep(1)
"""

# Each starts one process more, of its kind, then says so and waits as the kind in the main process does.
CHILDREN = {
    "plain": "child()",
    "ignoring TERM": "ignore(); child()",
    "in a session of its own": "child(os.setsid)",
    "both": "ignore(); child(os.setsid)",
    "daemonised": "child(os.setsid, lambda: os.fork() and os._exit(0), lambda: os.chdir('/'), close)",
    "forked all the time": "child(os.setsid, breed)",
}
FAMILY = """
    import os, signal, sys, time
    def ignore():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    def close():
        for fd in (0, 1, 2): os.close(fd)
    def breed():
        ignore()
        end = time.time() + 60
        while time.time() < end:          # each lives for a moment and leaves a successor
            if os.fork(): os._exit(0)
            os.setsid()
            time.sleep(0.002)
        os._exit(0)
    def child(*ways):
        if os.fork() == 0:
            for way in ways: way()
            time.sleep(60); os._exit(0)
    KIND
    time.sleep(0.05)
    print("ready")
    while True: time.sleep(1)
"""


def family(kind: str) -> tuple[str, ...]:
    return python(FAMILY.replace("KIND", CHILDREN[kind]))


def test_a_command_that_saves_and_leaves_is_stopped(shimmed: Make) -> None:
    attempt = shimmed(python(SAVES)).start().says("ready")
    end = attempt.signal(signal.SIGTERM).end()
    assert (end.stopped, end.exit_code, end.signal) == (True, 0, None)
    assert attempt.text() == "ready\nsaving\nsaved\n"


def test_a_command_that_ends_by_the_signal_is_stopped_too(shimmed: Make) -> None:
    end = shimmed(("sleep", "60")).start().signal(signal.SIGTERM).end()
    assert (end.stopped, end.exit_code, end.signal) == (True, None, signal.SIGTERM)


def test_the_order_also_reaches_a_shim_that_has_just_begun(shimmed: Make) -> None:
    """From its first instant it holds signals back until it can obey them."""
    for _ in range(5):
        attempt = shimmed(("sleep", "60"))
        attempt.shims.append(spawn(attempt.path, attempt.token))
        assert attempt.signal(signal.SIGTERM).end().stopped


def test_the_grace_is_given_and_no_more(shimmed: Make) -> None:
    def stop() -> float:
        attempt = shimmed(python(STUBBORN), grace=0.5).start().says("ready")
        began = time.monotonic()
        end = attempt.signal(signal.SIGTERM).end()
        took = time.monotonic() - began
        assert took >= 0.5
        assert (end.stopped, end.exit_code, end.signal) == (False, None, signal.SIGKILL)
        assert attempt.text() == "ready\nno\n", "a stop is asked for once"
        return took

    assert quickest(stop, 5) < 5


def test_the_daemon_may_change_the_grace(shimmed: Make) -> None:
    attempt = shimmed(python(STUBBORN), grace=600.0).start().says("ready")
    attempt.folder.write_grace(0.1)
    assert attempt.signal(signal.SIGTERM).end().signal == signal.SIGKILL


def test_a_second_order_is_not_obeyed_twice(shimmed: Make) -> None:
    attempt = shimmed(python(STUBBORN), grace=600.0).start().says("ready")
    attempt.signal(signal.SIGTERM).says("no").signal(signal.SIGTERM).signal(signal.SIGTERM)
    end = attempt.signal(signal.SIGUSR1).end()
    assert end.signal == signal.SIGKILL, "but one to kill now is"
    assert attempt.text() == "ready\nno\n"


def test_a_frozen_command_hears_the_order(shimmed: Make) -> None:
    attempt = shimmed(python("import os, time; print(os.getpid(), 'ready'); time.sleep(60)"))
    attempt.start().says("ready")
    os.kill(int(attempt.text().split()[0]), signal.SIGSTOP)
    assert attempt.signal(signal.SIGTERM).end().stopped


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("order", [signal.SIGTERM, signal.SIGUSR1], ids=["asked", "now"])
def test_nothing_is_left_after_a_stop(shimmed: Make, kind: str, order: int) -> None:
    attempt = shimmed(family(kind), grace=0.3).start().says("ready")
    assert len(attempt.left()) >= 2, "the shim, the command and perhaps its child carry the mark"
    attempt.signal(order).end()
    assert attempt.left() == []


@pytest.mark.parametrize("kind", CHILDREN)
def test_nothing_is_left_after_a_failure(shimmed: Make, kind: str) -> None:
    source = FAMILY.replace("KIND", CHILDREN[kind])

    def fail() -> float:
        began = time.monotonic()
        attempt = shimmed(python(source[: source.rindex("while True")] + "sys.exit(3)"))
        end = attempt.run()
        assert end.exit_code == 3
        assert attempt.left() == []
        return time.monotonic() - began

    assert quickest(fail, 5) < 5, "a failure leaves no time to what is left"


def test_a_small_fork_bomb_is_put_out(shimmed: Make) -> None:
    bomb = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready")
        end = time.time() + 30
        for _ in range(4):              # sixteen lines, each of which never rests
            os.fork()
        while time.time() < end:
            if os.fork(): os._exit(0)
            os.setsid()
            time.sleep(0.01)
    """
    attempt = shimmed(python(bomb), grace=0.2).start().says("ready")
    attempt.signal(signal.SIGTERM).end()
    assert attempt.left() == []


def test_the_order_goes_to_the_main_process_first(shimmed: Make) -> None:
    """What it has started may be what it needs to save."""
    source = """
        import os, signal, sys, time
        read, write = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, lambda *_: print("helper: TERM"))
            os.write(write, b"x")
            while True: time.sleep(1)
        os.read(read, 1)
        def save(*_):
            time.sleep(0.3); print("main: saved"); sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        print("ready")
        while True: time.sleep(1)
    """
    attempt = shimmed(python(source), grace=1.0).start().says("ready")
    end = attempt.signal(signal.SIGTERM).end()
    assert attempt.text() == "ready\nmain: saved\nhelper: TERM\n"
    assert (end.stopped, end.exit_code) == (True, 0), "the main process ended in time"


def test_success_lets_helpers_finish(shimmed: Make) -> None:
    source = """
        import os, signal, sys, time
        read, write = os.pipe()
        if os.fork() == 0:
            def finish(*_):
                time.sleep(0.2); print("helper: done"); os._exit(0)
            signal.signal(signal.SIGTERM, finish)
            os.write(write, b"x")
            while True: time.sleep(1)
        os.read(read, 1)
    """
    attempt = shimmed(python(source))
    end = attempt.run()
    assert (end.exit_code, end.stopped) == (0, False)
    assert attempt.text() == "helper: done\n"


def test_an_orphan_that_ends_is_reaped(shimmed: Make) -> None:
    source = """
        import os, time
        for _ in range(5):
            if os.fork() == 0:
                if os.fork() == 0: time.sleep(0.05)
                os._exit(0)
        print(os.getpid(), "ready")
        time.sleep(60)
    """
    attempt = shimmed(python(source)).start().says("ready")
    main = int(attempt.text().split()[0])
    children = Path(f"/proc/{attempt.pid}/task/{attempt.pid}/children")
    wait_for(lambda: children.read_text().split() == [str(main)], what="only the command is left below")
    assert alive(main)
