"""The supervisor: orders in, events out, over real shims."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.shell.attempts import ENV, PYTHON, Supervised, alive, command
from tests.support import tcp_is_counted, until
from trainforge.protocol import TOKEN
from trainforged.core import messages as m
from trainforged.execution import durable, processes
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import CannotStart, Launch
from trainforged.execution.observing import usage as meter
from trainforged.execution.starting import spawn
from trainforged.execution.waiting import readable

SLEEP = "import time; print('ready'); time.sleep(60)"


async def ready(supervised: Supervised, job: int, source: str = SLEEP, **fields: object) -> int:
    """Start the job and wait until it runs; its shim's pid."""
    supervised.start(job, command(source, **fields))
    await supervised.told(m.AttemptStarted, job)
    log = supervised.folder(job) / "output.log"
    await until(lambda: log.exists() and "ready\n" in log.read_text())
    (live,) = (live for live in supervised.supervisor.attempts() if live.job == job)
    return live.shim


def escape(token: str) -> int:
    """A process that carries the mark and is no descendant of a shim."""
    env = {**ENV, TOKEN: token}
    return os.posix_spawn("/bin/sleep", ["sleep", "60"], env, setsid=True)


def reap(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


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


# ---------------------------------------------------------------- a daemon that takes over


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


# ---------------------------------------------------------------- release


async def test_release_ends_what_the_shim_did_not(supervised: Supervised) -> None:
    supervised.start(1, command("pass"))
    await supervised.end(1)
    token = AttemptFolder(supervised.folder(1)).token()
    assert token is not None
    pid = escape(token)
    await until(lambda: supervised.left(1))
    supervised.release(1)
    await supervised.told(m.LeaseReleased, 1)
    assert reap(pid) == signal.SIGKILL


async def test_a_gpu_that_is_not_clear_is_stuck_with_its_reason(supervised: Supervised) -> None:
    supervised.stuck = {"GPU-b": "3.0 GiB of its memory are in use"}
    supervised.start(1, command("pass"), gpus=("GPU-a", "GPU-b"))
    await supervised.end(1)
    supervised.release(1, gpus=("GPU-a", "GPU-b"))
    assert (await supervised.told(m.LeaseReleased, 1)).stuck == supervised.stuck


async def test_gpus_that_cannot_be_checked_are_not_given_out(tmp_path: Path) -> None:
    async def broken(gpus: tuple[str, ...]) -> dict[str, str]:
        raise ValueError("no driver")

    supervised = Supervised(tmp_path / "state", gpus_clear=broken)
    supervised.start(1, command("pass"), gpus=("GPU-a",))
    await supervised.end(1)
    supervised.release(1, gpus=("GPU-a",))
    stuck = (await supervised.told(m.LeaseReleased, 1)).stuck
    assert stuck == {"GPU-a": "it could not be checked after its last job: ValueError('no driver')"}
    await supervised.close()


async def test_two_attempts_on_one_gpu_are_one_too_many(supervised: Supervised) -> None:
    supervised.start(1, command(SLEEP), gpus=("GPU-a",))
    await supervised.told(m.AttemptStarted, 1)
    supervised.start(2, command(SLEEP), gpus=("GPU-a",))
    end = await supervised.end(2)
    assert end.start_error is not None
    assert end.start_error.startswith("GPU GPU-a is held by process ")
    assert not end.hopeless


async def test_a_lease_is_released_once_its_folder_can_be_read_again(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, failures = AttemptFolder.token, iter([OSError(5, "Input/output error")] * 2)

    def token(folder: AttemptFolder) -> str | None:
        for failure in failures:
            raise failure
        return read(folder)

    monkeypatch.setattr("trainforged.execution.release.TROUBLE", 0.0)
    supervised.start(1, command("pass"))
    await supervised.end(1)
    monkeypatch.setattr(AttemptFolder, "token", token)
    supervised.release(1)
    assert (await supervised.told(m.LeaseReleased, 1)).stuck == {}
    assert caplog.text.count("cannot be looked at") == 1, "the same trouble is told once"


async def test_releasing_what_never_ran(supervised: Supervised) -> None:
    supervised.release(1)
    assert (await supervised.told(m.LeaseReleased, 1)).stuck == {}


# ---------------------------------------------------------------- usage


async def test_usage_is_measured_again_after_a_look_that_failed(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sample, failures = meter.sample, iter([OSError(24, "Too many open files")])

    def failing(*arguments: Any) -> dict[int, meter.Total]:
        for failure in failures:
            raise failure
        return sample(*arguments)

    monkeypatch.setattr("trainforged.execution.supervisor.METER_PERIOD", 0.05)
    monkeypatch.setattr(meter, "sample", failing)
    supervised.start(1, command(SLEEP))
    await supervised.told(m.AttemptStarted, 1)
    await until(lambda: supervised.supervisor.usage(1) is not None)
    assert "what attempts use could not be measured" in caplog.text


async def test_usage_is_of_the_whole_tree(supervised: Supervised, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforged.execution.supervisor.METER_PERIOD", 0.2)
    source = """
        import os, time
        held = b"x" * (64 << 20)
        if os.fork() == 0:
            while True: pass
        with open("written", "wb") as file:
            file.write(held[:8 << 20]); file.flush(); os.fsync(file.fileno())
        print("ready")
        while True: time.sleep(1)
    """
    folder = supervised.state_dir
    folder.mkdir()
    shim = await ready(supervised, 1, source, cwd=str(folder))
    usage = await until(lambda: (now := supervised.supervisor.usage(1)) and now.written >= 8 << 20 and now)
    assert usage.processes == 2
    assert usage.memory > 64 << 20
    await until(lambda: (now := supervised.supervisor.usage(1)) and 0.1 < now.cpu < 2.5)
    found = await supervised.supervisor.processes()
    assert len(found) == 3
    assert found[shim] == 1
    supervised.stop(1, grace=0)
    await supervised.end(1)
    await until(lambda: supervised.supervisor.usage(1) is None)


@pytest.mark.skipif(not tcp_is_counted(), reason="this kernel has no inet_diag")
async def test_usage_has_what_ranks_send_each_other(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforged.execution.supervisor.METER_PERIOD", 0.2)
    source = """
        import os, socket, time
        server = socket.create_server(("127.0.0.1", 0))
        if os.fork() == 0:
            peer = socket.create_connection(server.getsockname())
            peer.sendall(bytes(8 << 20))
        else:
            peer, left = server.accept()[0], 8 << 20
            while left:
                left -= len(peer.recv(1 << 16))
            print("ready")
        while True: time.sleep(1)
    """
    await ready(supervised, 1, source)
    both = range(8 << 20, (8 << 20) + 10)
    await until(
        lambda: (now := supervised.supervisor.usage(1)) and now.received in both and now.sent in both, 60
    )
    supervised.stop(1, grace=0)
    await supervised.end(1)


async def test_python_started_by_a_link_is_found(supervised: Supervised, tmp_path: Path) -> None:
    """A virtual environment's interpreter is a link; the job's keeps its own."""
    link = tmp_path / "python"
    link.symlink_to(PYTHON[0])
    supervised.start(1, Launch(argv=(str(link), "-c", "import sys; print(sys.executable)"), cwd="/", env=ENV))
    assert (await supervised.end(1)).exit_code == 0
    assert (supervised.folder(1) / "output.log").read_text() == f"{link}\n"
