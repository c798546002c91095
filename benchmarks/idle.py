"""What is used when nothing happens: the daemon with 8 simulated GPUs, and the shim of a job that sleeps.

The share of a core comes from /proc/<pid>/stat; a figure of 0 means less than a clock tick.
"""

from __future__ import annotations

import time

import msgspec

from benchmarks import processes, timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene
from tests.daemon.real import RealDaemon
from trainforge.states import JobState

MB = 1e6
GPUS = 8
SETTLING = 3.0  # seconds after the start


def measure(scene: Scene) -> list[Figure]:
    daemon = scene.daemon(GPUS)
    time.sleep(scene.times(SETTLING, 0.5))
    seconds = scene.times(30.0, 2.0)
    share = _share(daemon.pid, seconds)
    memory = processes.resident(daemon.pid) / MB
    shim = _shim(daemon)
    shim_share = _share(shim, seconds)
    return [
        Figure(what="the daemon's memory", value=memory, unit="MB", bound=Bound(limit=60)),
        Figure(
            what=f"its share of a core over {seconds:.0f} s", value=share, unit="%", bound=Bound(limit=0.5)
        ),
        Figure(what="a shim's memory", value=processes.resident(shim) / MB, unit="MB", bound=Bound(limit=12)),
        Figure(what=f"its share of a core over {seconds:.0f} s", value=shim_share, unit="%"),
        Figure(what="the daemon's, while one job runs", value=_share(daemon.pid, seconds), unit="%"),
    ]


def _share(pid: int, seconds: float) -> float:
    """Percent of one core."""
    before, began = processes.cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (processes.cpu_seconds(pid) - before) / (time.monotonic() - began)


def _shim(daemon: RealDaemon) -> int:
    """The pid of the shim of a job that sleeps."""
    job = daemon.command("sleep", "1000", resources={"gpu": 1}).id
    daemon.wait_for(job, JobState.RUNNING)
    path = daemon.state_dir / "jobs" / str(job) / "attempts" / "1" / "shim.json"
    timing.wait_until(path.exists, "the shim to say who it is")
    time.sleep(0.5)
    return int(msgspec.json.decode(path.read_bytes())["pid"])
