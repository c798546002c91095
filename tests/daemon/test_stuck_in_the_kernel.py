"""A process that nothing can end, in state D on a frozen disk: its GPU is set aside, nobody waits for it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from tests.daemon.machines import Machine
from tests.daemon.real import wait_until
from tests.shell.execution.disks import FreezableDisk, freezable_disk
from trainforge.states import JobState
from trainforged.execution import processes

WRITES = """
import os, sys
disk = sys.argv[1]
with open(disk + "/file", "ab", buffering=0) as file:
    print(os.getpid(), flush=True)
    while True:
        file.write(bytes(4096))
        file.truncate(0)
"""


@pytest.fixture
def disk(machine: Machine) -> Iterator[FreezableDisk]:
    with freezable_disk(machine.daemon.folder / "disk") as disk:
        yield disk
        disk.thaw()
        machine.daemon.close()


def in_state_d(pid: int) -> bool:
    stat = processes.read_stat(pid)
    return stat is not None and stat.state == "D"


def test_its_gpu_is_set_aside_and_the_daemon_answers(machine: Machine, disk: FreezableDisk) -> None:
    daemon = machine.daemon
    script = daemon.folder / "writes.py"
    script.write_text(WRITES)
    job = daemon.command("python3", str(script), str(disk.place), resources={"gpu": 1}).id
    log = daemon.state_dir / "jobs" / str(job) / "attempts" / "1" / "output.log"
    pid = int(wait_until(lambda: log.exists() and log.read_text(), "it to write"))
    disk.freeze()
    wait_until(lambda: in_state_d(pid), "it to be stuck")
    daemon.tfctl("cancel", "--now", str(job))
    other = daemon.command("true", resources={"gpu": 1}).id
    assert daemon.wait_for(other).state is JobState.SUCCEEDED, "on the other GPU"
    wait_until(lambda: machine.gpu(0).state == "set_aside", "its GPU to be set aside", deadline=120)
    assert in_state_d(pid)
    reason = machine.gpu(0).reason or ""
    assert re.fullmatch(rf"of its last job process {pid} \(\S+, state D\) does not die", reason), reason
    assert daemon.wait_for(job).state is JobState.CANCELLED, "nobody waits for it"
    disk.thaw()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it to end")
    daemon.tfctl("undrain", "0")
    wait_until(lambda: machine.gpu(0).state == "free", "it to be offered again")
