"""The supervisor: orders in, events out, over real shims."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.shell.attempts import ENV, SLEEP, Supervised, command, ready
from tests.support import until
from trainforged.core import messages as m
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import CannotStart, Launch


async def test_an_attempt_starts_ends_and_is_released(supervised: Supervised) -> None:
    supervised.start(1, command("import time; time.sleep(0.3); print('hello'); raise SystemExit(4)"))
    end = await supervised.end(1)
    assert (end.exit_code, end.lost, end.stopped) == (4, False, False)
    supervised.release(1)
    released = await supervised.told(m.LeaseReleased, 1)
    assert released.stuck == {}
    assert [type(event) for event in supervised.events] == [m.AttemptStarted, m.AttemptEnded, m.LeaseReleased]
    assert (supervised.folder(1) / "output.log").read_text() == "hello\n"
    assert supervised.supervisor.attempts() == ()


async def test_when_it_is_told_as_started_it_is_on_disk_and_runs(supervised: Supervised) -> None:
    supervised.start(1, command(SLEEP))
    await supervised.told(m.AttemptStarted, 1)
    folder = AttemptFolder(supervised.folder(1))
    found = folder.look()
    os.close(found.pidfd)  # type: ignore[union-attr]  # it is Running
    assert found.shim.pid == supervised.supervisor.attempts()[0].shim  # type: ignore[union-attr]
    assert len(supervised.left(1)) == 2, "the shim and its command"


async def test_attempts_live_side_by_side(supervised: Supervised) -> None:
    for job in range(1, 9):
        supervised.start(job, command(f"raise SystemExit({job})"))
    ends = await asyncio.gather(*(supervised.end(job) for job in range(1, 9)))
    assert [end.exit_code for end in ends] == list(range(1, 9))


async def test_a_stop_has_its_own_grace(supervised: Supervised) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    await ready(supervised, 1, stubborn, grace=600.0)
    supervised.stop(1, grace=0.2)
    end = await supervised.end(1)
    assert (end.signal, end.stopped) == (signal.SIGKILL, False)


async def test_a_stop_in_time_is_one(supervised: Supervised) -> None:
    await ready(supervised, 1)
    supervised.stop(1)
    supervised.stop(1)
    assert (await supervised.end(1)).stopped


async def test_a_stop_for_now_cuts_the_grace_of_another_short(supervised: Supervised) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    await ready(supervised, 1, stubborn)
    supervised.stop(1, grace=600)
    supervised.stop(1, grace=0)
    assert (await supervised.end(1)).signal == signal.SIGKILL


async def test_what_is_being_prepared_can_be_stopped(supervised: Supervised) -> None:
    began = asyncio.Event()
    undone = []

    async def prepare() -> Launch:
        began.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            undone.append(True)
            raise
        raise AssertionError

    supervised.start(1, prepare)
    await began.wait()
    supervised.stop(1)
    end = await supervised.end(1)
    assert end.stopped
    assert (end.started_at, end.start_error, end.exit_code) == (None, None, None)
    assert undone == [True]
    assert supervised.of(m.AttemptStarted, 1) == []
    supervised.start(1)
    await until(lambda: len(supervised.of(m.AttemptEnded, 1)) == 2)
    assert supervised.prepared == 1, "it has ended, and stays ended"


async def test_a_stop_that_comes_with_the_start_is_obeyed(supervised: Supervised) -> None:
    for job in range(1, 6):
        supervised.start(job, command(SLEEP))
        await asyncio.sleep(0)
        supervised.stop(job)
        assert (await supervised.end(job)).stopped


async def test_a_preparation_that_fails_says_why(supervised: Supervised) -> None:
    async def hopeless() -> Launch:
        raise CannotStart("train.py: no such script", hopeless=True)

    async def broken() -> Launch:
        raise ValueError("a bug")

    async def full() -> Launch:
        raise OSError(28, "No space left on device", "/state/jobs/3")

    supervised.start(1, hopeless)
    supervised.start(2, broken)
    supervised.start(3, full)
    first, second, third = [await supervised.end(job) for job in (1, 2, 3)]
    assert (first.start_error, first.hopeless) == ("train.py: no such script", True)
    assert second.start_error == "the daemon failed to prepare the attempt: ValueError('a bug')"
    assert third.start_error == "the attempt cannot be laid out: No space left on device (/state/jobs/3)"
    assert not third.hopeless


async def test_a_command_that_does_not_exist_ends_without_having_started(supervised: Supervised) -> None:
    supervised.start(1, Launch(argv=("no-such-command",), cwd="/tmp", env=ENV))
    end = await supervised.end(1)
    assert end.start_error == "no-such-command: command not found in the job's PATH"
    assert supervised.of(m.AttemptStarted, 1) == []


async def test_a_shim_that_does_not_start_is_given_up(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path / "state", python="/bin/false")
    supervised.start(1, command(SLEEP))
    end = await supervised.end(1)
    assert end.start_error == "the shim does not start: it says nothing"
    await supervised.close()


async def test_an_order_given_twice_is_obeyed_once(supervised: Supervised) -> None:
    await ready(supervised, 1)
    supervised.start(1)
    supervised.adopt(1)
    assert len(supervised.of(m.AttemptStarted, 1)) == 3, "answered each time"
    assert supervised.prepared == 1
    supervised.stop(1)
    await supervised.end(1)
    assert (supervised.folder(1) / "output.log").read_text() == "ready\n"
    supervised.release(1)
    supervised.release(1)
    await supervised.told(m.LeaseReleased, 1)
    assert len(supervised.of(m.LeaseReleased, 1)) == 1


async def test_a_lease_is_not_released_before_its_attempt_has_ended(supervised: Supervised) -> None:
    await ready(supervised, 1)
    supervised.release(1)
    supervised.stop(1)
    await supervised.told(m.LeaseReleased, 1)
    kinds = [type(event) for event in supervised.events]
    assert kinds == [m.AttemptStarted, m.AttemptEnded, m.LeaseReleased]
