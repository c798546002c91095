"""A daemon on GPUs whose driver a test steers: the real pynvml over a stand-in library."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

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
        self.driver = Standin(folder / "driver")
        self.uuids = [f"GPU-{uuid.uuid4()}" for _ in range(2)]  # other tests run beside this one
        self.say()
        self.daemon = RealDaemon(folder, None, env=self.driver.env)

    def say(self, **first: Any) -> None:
        """What the driver answers of GPU 0 from now on."""
        self.say_both(first, {})

    def say_both(self, first: dict[str, Any], second: dict[str, Any], **driver: Any) -> None:
        zero, one = self.uuids
        self.driver.say(gpu(0, uuid=zero, xid=0) | first, gpu(1, uuid=one, xid=0) | second, **driver)

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
