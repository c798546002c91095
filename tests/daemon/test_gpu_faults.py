"""GPUs that go bad, or that somebody else uses: the real daemon and pynvml over a stand-in driver."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.real import RealDaemon, wait_until
from tests.shell.nvml_standin import Standin, gpu
from trainforge.api import GpuView, JobView
from trainforge.states import JobState

SCRIPT = """
import os, time, trainforge
trainforge.report(step=int(os.environ["TRAINFORGE_ATTEMPT"]))
while os.environ["TRAINFORGE_ATTEMPT"] == "1" and not os.path.exists("fail"):
    time.sleep(0.01)
if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    raise RuntimeError(open("fail").read())
"""


class Machine:
    """A daemon on two GPUs of its own, whose driver a test steers."""

    def __init__(self, folder: Path) -> None:
        (folder / "driver").mkdir()
        self._standin = Standin(folder / "driver")
        self._uuids = [f"GPU-{uuid.uuid4()}" for _ in range(2)]  # other tests run beside this one
        self.say()
        self.daemon = RealDaemon(folder, None, env=self._standin.env)

    def say(self, **first: Any) -> None:
        """What the driver answers of GPU 0 from now on."""
        zero, one = self._uuids
        self._standin.say(gpu(0, uuid=zero, xid=0) | first, gpu(1, uuid=one, xid=0))

    def gpu(self, index: int) -> GpuView:
        with self.daemon.client() as client:
            return client.gpus().gpus[index]

    def job(self, number: int) -> JobView:
        with self.daemon.client() as client:
            return client.job(number)

    def running(self) -> int:
        """A script of one GPU that runs, and ends with what is written to `fail`."""
        (self.daemon.folder / "train.py").write_text(SCRIPT)
        self.daemon.tfctl("submit", "train.py", "--gpu", "1", "--set", "recovery.max_retries=0",
                          "--set", "recovery.backoff=0.1s")  # fmt: skip
        self.daemon.wait_for(1, JobState.RUNNING)
        records = self.daemon.state_dir / "jobs" / "1" / "attempts" / "1" / "records-0.jsonl"
        wait_until(records.exists, "its first report")
        return 1

    def fail(self, error: str) -> None:
        (self.daemon.folder / "fail.new").write_text(error)
        (self.daemon.folder / "fail.new").rename(self.daemon.folder / "fail")


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="tf-"))
    made = Machine(folder)
    try:
        made.daemon.start()
        wait_until(lambda: made.gpu(0).state == "free" and made.gpu(1).state == "free", "both GPUs")
        yield made
    finally:
        made.daemon.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_gpu_that_falls_off_the_bus_is_set_aside_and_its_job_goes_on_elsewhere(machine: Machine) -> None:
    job = machine.running()
    machine.say(xid=79)
    wait_until(lambda: machine.gpu(0).reason, "the GPU to be set aside")
    assert machine.gpu(0).state == "leased", "who holds it keeps it"
    machine.fail("CUDA error: unspecified launch failure")
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "gpu_fault"
    assert ended.attempts[0].gpus != ended.attempts[1].gpus
    aside = wait_until(lambda: (now := machine.gpu(0)).state == "set_aside" and now, "it to be set aside")
    assert aside.reason == "XID 79: it has fallen off the bus"
    wait_until(lambda: machine.gpu(1).state == "free", "the other to be released")
    assert "XID 79" in machine.daemon.tfctl("gpus").stdout
    assert "XID 79" in machine.daemon.tfctl("why", str(job)).stdout
    machine.daemon.tfctl("undrain", "0")
    wait_until(lambda: machine.gpu(0).state == "free", "it to be offered again")


def test_memory_that_somebody_else_takes_is_waited_for_and_not_counted(machine: Machine) -> None:
    job = machine.running()
    machine.daemon.tfctl("drain", "1")  # so that it has to wait for this one
    machine.say(used=70000, compute=f"{os.getpid()}:70000")
    wait_until(lambda: str(os.getpid()) in (machine.gpu(0).reason or ""), "the other to be seen")
    machine.fail("CUDA out of memory. Tried to allocate 2.00 GiB")
    wait_until(lambda: machine.job(job).reason == "waiting_for_gpus", "it to wait for room")
    waiting = machine.job(job)
    assert waiting.retries == 0
    assert waiting.attempts is not None
    assert waiting.attempts[0].reason == "gpu_memory_taken"
    assert str(os.getpid()) in machine.daemon.tfctl("why", str(job)).stdout
    machine.say()
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
