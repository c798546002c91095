"""What each program is asked for, on a fresh daemon each time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import processes, timing
from benchmarks.peers.peer import Peer
from benchmarks.scene import Scene

MB = 1e6
MARK = "TRAINFORGE_BENCHMARK_MARK"
SLOWEST = 60.0  # seconds that anything may take
MANY = 10_000
AFTER_CANCEL = 5.0  # seconds that a cancelled job's processes are given

# What a job may well have: a child in a session of its own, and one that became a daemon, deaf to TERM.
FAMILY = """setsid sleep {t} &
(setsid sh -c 'trap "" TERM; sleep {t}; true' &)
sleep 0.2; echo > {ready}; wait"""


class What(msgspec.Struct, frozen=True):
    words: str
    unit: str


How = Callable[[Scene, Peer], tuple[float, ...]]


def submission(scene: Scene, peer: Peer) -> float:
    """Milliseconds of one command; the job waits, so that running it costs nothing meanwhile."""
    argv = peer.submit("true", parked=True)
    timing.run(argv, peer.env, peer.folder)
    return 1000 * timing.median([timing.run(argv, peer.env, peer.folder) for _ in range(scene.times(30, 3))])


def submissions_per_second(scene: Scene, peer: Peer) -> float:
    """A loop of the shell."""
    count = scene.times(100, 5)
    argv = peer.submit("true", parked=True)
    loop = f"i=0; while [ $i -lt {count} ]; do {shlex.join(argv)} >/dev/null || exit 1; i=$((i+1)); done"
    return count / timing.run(["sh", "-c", loop], peer.env, peer.folder)


def first_instruction(scene: Scene, peer: Peer) -> float:
    """Milliseconds from before the command's process is made until `date` runs in the job."""
    taken = []
    for number in range(scene.times(11, 1)):
        told = peer.folder / f"told-{number}"
        began = time.time()
        peer.run(peer.submit(_tell(told)))
        timing.wait_until(told.exists, "the job to begin", SLOWEST)
        taken.append(int(told.read_text()) / 1e9 - began)
        time.sleep(scene.times(0.5, 0.0))
    return 1000 * timing.median(taken)


def one_after_another(scene: Scene, peer: Peer) -> float:
    """Milliseconds from the start of one job to that of the next, where only one runs at a time."""
    count = scene.times(20, 2)
    go, told = peer.folder / "go", peer.folder / "told"
    told.mkdir()
    peer.run(peer.submit(f"while [ ! -e {go} ]; do sleep 0.05; done", alone=True))
    for number in range(count + 1):
        peer.run(peer.submit(_tell(told / str(number)), alone=True))
    go.touch()
    deadline = time.monotonic() + SLOWEST
    while len(list(told.glob("[0-9]*"))) <= count and time.monotonic() < deadline:
        time.sleep(0.05)
    moments = sorted(int(path.read_text()) for path in told.glob("[0-9]*") if path.suffix != ".new")
    return (moments[-1] - moments[0]) / 1e6 / (len(moments) - 1)


def idle(scene: Scene, peer: Peer) -> tuple[float, float]:
    """Megabytes, and percent of a core."""
    time.sleep(scene.times(3.0, 0.5))
    pids, seconds = peer.processes(), scene.times(20.0, 1.0)
    before = sum(map(processes.cpu_seconds, pids))
    time.sleep(seconds)
    share = 100 * (sum(map(processes.cpu_seconds, pids)) - before) / seconds
    return peer.resident() / MB, share


def long_queue(scene: Scene, peer: Peer) -> tuple[float, float]:
    """Megabytes, and milliseconds of the command that lists it."""
    peer.park_many(scene.times(MANY, 20))
    memory = peer.resident() / MB
    taken = [timing.run(peer.listing(), peer.env, peer.folder) for _ in range(scene.times(7, 1))]
    return memory, 1000 * timing.median(taken)


def lost(scene: Scene, peer: Peer) -> float:
    """Of so many acknowledged submissions: how many a daemon that is killed at once, and started again,
    does not know. In percent."""
    count = scene.times(100, 5)
    for _ in range(count):
        peer.run(peer.submit("true", parked=True))
    peer.kill()
    peer.again()
    return 100 * max(0, count - peer.known()) / count


def left_after_cancel(scene: Scene, peer: Peer) -> float:
    """Processes of a cancelled job that still live after a while, of the five that it had."""
    ready = peer.folder / "ready"
    mark = f"{MARK}={peer.folder.name}"
    family = FAMILY.format(t=86399, ready=ready)
    job = peer.job_id(peer.run(peer.submit(f"{mark} sh -c {shlex.quote(family)}")))
    timing.wait_until(ready.exists, "the job to begin", SLOWEST)
    assert processes.carrying(mark), "the job's processes do not carry the mark"
    peer.run(peer.cancel(job), check=False)
    deadline = time.monotonic() + AFTER_CANCEL
    while processes.carrying(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = processes.carrying(mark)
    processes.kill(left)
    return float(len(left))


def _tell(path: Path) -> str:
    return f"date +%s%N > {path}.new && mv {path}.new {path}"


def _one(how: Callable[[Scene, Peer], float]) -> How:
    return lambda scene, peer: (how(scene, peer),)


MEASURES: dict[tuple[What, ...], How] = {
    (What("one submission from the shell", "ms"),): _one(submission),
    (What("submissions from a loop of the shell", "/s"),): _one(submissions_per_second),
    (What("submission to the job's first instruction", "ms"),): _one(first_instruction),
    (What("from one job to the next, one at a time", "ms"),): _one(one_after_another),
    (What("memory, idle", "MB"), What("share of a core, idle", "%")): idle,
    (What(f"memory with {MANY:,} queued", "MB"), What(f"listing {MANY:,} queued", "ms")): long_queue,
    (What("acknowledged, then lost to kill -9 of the daemon", "%"),): _one(lost),
    (What("processes left 5 s after a cancel", ""),): _one(left_after_cancel),
}
