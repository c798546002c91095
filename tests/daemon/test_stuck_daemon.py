"""A daemon that hangs in the kernel holds the state folder: who starts the next one is told what to do."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import wait_until
from tests.daemon.silent_disk import SilentDisk
from trainforged.storage.errors import StateDirBusy
from trainforged.storage.statedir import lock_state_dir, stuck

HANGS = """
import os, pathlib, signal, sys
from trainforged.storage.statedir import lock_state_dir
signal.signal(signal.SIGUSR1, lambda *_: None)
with lock_state_dir(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    os.stat(sys.argv[2])
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SilentDisk]:
    disk = SilentDisk(tmp_path / "served")
    yield disk
    disk.close()


def test_the_next_one_is_told_that_it_hangs_and_starts_once_it_is_killed(
    tmp_path: Path, disk: SilentDisk
) -> None:
    disk.fall_silent()
    holder = subprocess.Popen(
        [sys.executable, "-c", HANGS, str(tmp_path), str(disk.place / "file")], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        def hangs() -> str | None:
            holder.send_signal(signal.SIGUSR1)  # from then on nothing but SIGKILL is taken
            return stuck(holder.pid)

        wait_until(hangs, "it to hang in the kernel")
        with pytest.raises(StateDirBusy, match=rf"hangs in the kernel.*`kill -9 {holder.pid}`"):
            lock_state_dir(tmp_path)
        holder.kill()
        holder.wait(60)
        with lock_state_dir(tmp_path):
            assert stuck(holder.pid) is None
    finally:
        disk.close()
        holder.kill()
        holder.wait(60)
