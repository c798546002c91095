"""Leases are released when nothing is left; what attempts use is measured."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.shell.attempts import ENV, PYTHON, SLEEP, Supervised, command, escape, ready, reap
from tests.support import tcp_is_counted, until
from trainforged.core import messages as m
from trainforged.execution.folder import AttemptFolder
from trainforged.execution.launch import Launch
from trainforged.execution.observing import usage as meter

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
