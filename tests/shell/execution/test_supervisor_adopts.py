"""A supervisor takes over what a former daemon left: running, ended, half begun."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from tests.shell.attempts import SLEEP, Supervised, alive, command, ready, reap
from tests.support import until
from trainforged.core import messages as m
from trainforged.execution import durable, processes
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.starting import spawn
from trainforged.execution.waiting import readable


async def test_closing_leaves_attempts_alone_and_the_next_one_adopts(tmp_path: Path) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    shim = await ready(first, 1, SLEEP.replace("60", "1") + "; raise SystemExit(6)")
    await first.supervisor.close()
    assert alive(shim)
    second.adopt(1)
    await second.told(m.AttemptStarted, 1)
    assert second.supervisor.attempts()[0].shim == shim
    assert (await second.end(1)).exit_code == 6
    await second.close()


async def test_what_is_ordered_after_closing_is_left_to_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    await first.supervisor.close()
    first.start(1, command("print('hello')"))
    first.stop(2)
    first.release(3)
    await asyncio.sleep(0)
    assert (first.events, caplog.records) == ([], [])
    second.start(1, command("print('hello')"))
    assert (await second.end(1)).exit_code == 0
    await second.close()


async def test_an_attempt_that_ended_meanwhile_has_its_true_status(tmp_path: Path) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    shim = await ready(first, 1, "import time; print('ready'); time.sleep(0.2); raise SystemExit(6)")
    await first.supervisor.close()
    await until(lambda: not alive(shim))
    second.adopt(1)
    assert (await second.end(1)).exit_code == 6
    assert second.of(m.AttemptStarted, 1) == []
    await second.close()


async def test_a_start_ordered_again_adopts(tmp_path: Path) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    shim = await ready(first, 1)
    await first.supervisor.close()
    second.start(1, command(SLEEP))
    await second.told(m.AttemptStarted, 1)
    assert second.prepared == 0
    second.stop(1)
    assert (await second.end(1)).stopped
    assert not alive(shim)
    await second.close()


async def test_a_stop_finds_what_a_former_daemon_started(tmp_path: Path) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    await ready(first, 1)
    await first.supervisor.close()
    second.stop(1)
    assert (await second.end(1)).stopped
    await second.close()


async def test_adopting_what_never_ran_is_lost_and_stays_so(supervised: Supervised) -> None:
    supervised.adopt(1)
    end = await supervised.end(1)
    assert end.lost
    assert end.started_at is None
    supervised.start(1, command("print('too late')"))
    await until(lambda: len(supervised.of(m.AttemptEnded, 1)) == 2)
    assert supervised.prepared == 0


async def test_a_shim_that_comes_late_finds_its_attempt_concluded(supervised: Supervised) -> None:
    """A former daemon had written the order and was killed as it spawned the shim."""
    supervised.launches[1] = command("print('too late')")
    supervised.adopt(1)
    await supervised.end(1)
    shim = spawn.spawn(supervised.folder(1), "token")
    await readable(shim.pidfd)
    reap(shim.pid)
    assert not (supervised.folder(1) / "output.log").exists()


async def test_a_shim_that_has_just_taken_the_lock_is_waited_for(supervised: Supervised) -> None:
    """It is stopped between the lock and its first word; then it goes on."""
    folder = AttemptFolder(supervised.folder(1))
    folder.path.mkdir(parents=True)
    (folder.path / "launch.json").write_text("{}")
    with folder._lock() as locked:
        assert locked
        supervised.adopt(1)
        await asyncio.sleep(0.1)
        assert supervised.events == []
    assert (await supervised.end(1)).lost


async def test_a_process_that_took_off_the_mark_does_not_outlive_a_killed_shim(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforged.execution.supervisor.METER_PERIOD", 0.05)
    source = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            os.execve("/bin/sleep", ["sleep", "600"], {})
        print('ready')
        time.sleep(60)
    """
    shim = await ready(supervised, 1, source)
    known = supervised.supervisor._attempts[1, 1]
    await until(lambda: len({pid for pid, _ in known.family} - {*supervised.left(1)}) == 1)
    os.kill(shim, signal.SIGKILL)
    assert (await supervised.end(1)).lost
    await until(lambda: not any(alive(pid) for pid, _ in known.family))


async def test_a_shim_that_somebody_stopped_is_stopped_all_the_same(supervised: Supervised) -> None:
    shim = await ready(supervised, 1)
    os.kill(shim, signal.SIGSTOP)
    supervised.stop(1, grace=5.0)
    assert (await supervised.end(1)).stopped


@pytest.mark.parametrize("grace", [0.0, 5.0])
async def test_a_command_that_stops_its_shim_at_once_is_stopped_all_the_same(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    """Before the shim has said that the command runs, which nobody would have waited for in vain."""
    monkeypatch.setattr("trainforged.execution.attempt.LONGEST_START", 0.2)
    stops = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)"
    supervised.start(1, command(stops))
    await supervised.told(m.AttemptStarted, 1)
    supervised.stop(1, grace=grace)
    assert (await supervised.end(1)).signal in (signal.SIGKILL, signal.SIGTERM)


async def test_a_shim_that_does_not_obey_is_killed(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforged.execution.attempt.OVERDUE", 0.1)
    monkeypatch.setattr("trainforged.execution.attempt._send", deaf)
    shim = await ready(supervised, 1)
    supervised.stop(1, grace=0.1)
    assert (await supervised.end(1)).lost
    assert supervised.left(1) == []
    assert not alive(shim)


def deaf(pidfd: int, number: signal.Signals) -> None:
    """To everything but the one signal that nobody can be deaf to."""
    if number == signal.SIGKILL:
        signal.pidfd_send_signal(pidfd, number)


async def test_a_killed_shim_is_lost_and_nothing_of_it_is_left(supervised: Supervised) -> None:
    source = """
        import os, signal, time
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.setsid()
            if os.fork(): os._exit(0)
            while True: time.sleep(1)
        os.wait()
        print('ready')
        time.sleep(60)
    """
    shim = await ready(supervised, 1, source)
    assert len(supervised.left(1)) == 3
    os.kill(shim, signal.SIGKILL)
    end = await supervised.end(1)
    assert end.lost
    assert (end.exit_code, end.signal, end.stopped) == (None, None, False)
    assert end.started_at is not None
    assert supervised.left(1) == []
    assert AttemptFolder(supervised.folder(1)).end() == end, "durably"


async def test_a_family_that_forks_all_the_time_is_caught_without_its_shim(supervised: Supervised) -> None:
    source = """
        import os, signal, time
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end = time.time() + 60
            while time.time() < end:      # each lives for a moment and leaves a successor
                if os.fork(): os._exit(0)
                os.setsid()
        print('ready')
        time.sleep(60)
    """
    shim = await ready(supervised, 1, source)
    os.kill(shim, signal.SIGKILL)
    assert (await supervised.end(1)).lost
    assert supervised.left(1) == []


async def test_an_attempt_whose_folder_is_removed_is_not_run_again(supervised: Supervised) -> None:
    shim = await ready(supervised, 1, SLEEP.replace("60", "0.3") + "; raise SystemExit(6)")
    shutil.rmtree(supervised.folder(1))
    assert (await supervised.end(1)).exit_code == 6, "the shim knows it all the same"
    assert supervised.prepared == 1
    assert not alive(shim)


async def test_a_shim_killed_while_nobody_watched_is_lost_too(tmp_path: Path) -> None:
    first, second = Supervised(tmp_path / "state"), Supervised(tmp_path / "state")
    shim = await ready(first, 1)
    await first.supervisor.close()
    os.kill(shim, signal.SIGKILL)
    second.adopt(1)
    assert (await second.end(1)).lost
    assert second.left(1) == []
    await second.close()


@pytest.mark.parametrize(
    ("end", "went_down"),
    [
        ({"exit_code": 0, "stopped": True}, True),
        ({"signal": 9}, True),  # it did not stop in time
        ({"signal": 9, "oom_kills": 1}, False),
        ({"exit_code": 3}, False),  # it had failed by itself before
    ],
)
async def test_what_was_asked_to_stop_before_a_boot_went_down_with_the_machine(
    tmp_path: Path, end: dict[str, object], went_down: bool
) -> None:
    for name, boot_id in (("before", "another boot"), ("since", processes.boot_id())):
        (tmp_path / name).mkdir()
        written = {"ended_at": 1.0, **end, "boot_id": boot_id}
        durable.write(f"{tmp_path / name}/exit.json", msgspec.json.encode(written))
        found = AttemptFolder(tmp_path / name).end()
        assert found is not None
        assert found.rebooted == (went_down and name == "before")


async def test_another_process_under_the_shims_number_is_not_it(supervised: Supervised) -> None:
    stat = processes.read_stat(os.getpid())
    assert stat is not None
    folder = supervised.folder(1)
    folder.mkdir(parents=True)
    says = f'{{"pid": {stat.pid}, "start_time": %d, "boot_id": "%s", "time": 1.0}}'
    ours = (stat.start_time, processes.boot_id())
    for job, (start_time, boot_id) in enumerate([(ours[0] - 1, ours[1]), (ours[0], "another boot")], start=1):
        folder = supervised.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        durable.write(f"{folder}/shim.json", (says % (start_time, boot_id)).encode())
        supervised.adopt(job)
        assert (await supervised.end(job)).lost
    assert alive(os.getpid())


@pytest.mark.parametrize("torn", [b"", b'{"ended_at": 12', b"null", b'{"exit_code": 0}', b"\0" * 100])
async def test_a_torn_status_is_none(supervised: Supervised, torn: bytes) -> None:
    supervised.start(1, command("pass"))
    await supervised.end(1)
    supervised.events.clear()
    (supervised.folder(1) / "exit.json").write_bytes(torn)
    supervised.adopt(1)
    assert (await supervised.end(1)).lost, "not guessed"
