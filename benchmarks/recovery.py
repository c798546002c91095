"""From the death of a rank to training's next new step, beside the start of the same job by hand; and from
the daemon's start until all jobs are its own again.

A new step is one that no attempt had come to. By hand the script, or its launcher, goes on from a copy of the
job's checkpoints: the time is that to its first step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import processes, timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene, tfctl
from benchmarks.starting import LAUNCHER
from tests.daemon.real import RealDaemon, request
from trainforge.client.client import NoDaemon
from trainforge.states import JobState

SCRIPT = Path(__file__).parent / "programs" / "steps.py"
BY_HAND = "the same job by hand"
WARM = 25  # steps, and two checkpoints, before anything is done to it
LONGEST = 120.0
Spans = dict[str, float]
QUEUED, RUNNING = 1000, 8


def measure(scene: Scene) -> list[Figure]:
    return [
        *_killed(scene, 1, scene.times(7, 1)),
        *([] if scene.quick else _killed(scene, 2, 7)),
        _adopted(scene, scene.times(QUEUED, 50), scene.times(5, 2)),
    ]


# ---- a rank is killed


def _killed(scene: Scene, ranks: int, rounds: int) -> list[Figure]:
    script = str(shutil.copy(SCRIPT, scene.folder))
    daemon = scene.daemon(2)
    told = scene.folder / f"killed-{ranks}"
    submit = ("submit", script, "--gpu", str(ranks), "--set", "recovery.max_retries=1000", "--", str(told))
    timing.run(tfctl(*submit), scene.environment(daemon), scene.folder)
    training = _Told(told)
    training.wait_beyond(WARM)
    with daemon.client() as client:
        job = client.jobs(limit=1).jobs[0].id
    checkpoints = daemon.state_dir / "jobs" / str(job) / "checkpoints"
    argv = [sys.executable, *(LAUNCHER if ranks > 1 else ()), script]

    spans: list[Spans] = []

    def killed() -> float:
        before = training.last()[0]
        training.wait_beyond(before + WARM)  # also what it is to go on from is a matter of seconds
        moments = training.beyond_the_kill()
        with daemon.client() as client:
            *_, ended, begun = client.job(job).attempts or ()
        assert ended.ended_at is not None
        spans.append(_spans(moments, ended.ended_at.timestamp(), begun.started_at.timestamp()))
        return moments.beyond - moments.killed

    def by_hand() -> float:
        with daemon.client() as client:
            client.hold(job)
        daemon.wait_for(job, JobState.HELD)
        try:
            return _by_hand(argv, scene.folder / f"hand-{ranks}", checkpoints)
        finally:
            with daemon.client() as client:
                client.release(job)
            training.wait_beyond(training.last()[0])

    taken = timing.alternate(rounds, {BY_HAND: by_hand, "": killed}, scene.times(1, 0))
    with daemon.client() as client:
        client.cancel(job, now=True)
    daemon.wait_for(job)
    whole = Figure(
        what=f"from a killed rank to the next new step, {ranks} rank{'s' if ranks > 1 else ''}",
        value=timing.median(taken[""]),
        unit="s",
        others={BY_HAND: timing.median(taken[BY_HAND])},
        ratio=timing.ratio(taken[""], taken[BY_HAND]),
        bound=Bound(limit=1.3, of="ratio"),
        samples=rounds,
        spread=timing.quartiles(taken[""]),
    )
    parts = [(name, timing.median([span[name] for span in spans[-rounds:]])) for name in spans[0]]
    return [whole, *(Figure(what=f"  of which {name}", value=value, unit="s") for name, value in parts)]


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """Of one kill, by the clock of the wall."""

    killed: float
    stepped: float  # the next attempt's first step, which may have been done before
    beyond: float  # the first step that had not


def _spans(moments: Moments, ended: float, begun: float) -> Spans:
    return {
        "until nothing of the attempt runs": ended - moments.killed,
        "until the next one's command runs": begun - ended,
        "its own start, to its first step": moments.stepped - begun,
        "steps that are done again": moments.beyond - moments.stepped,
    }


def _by_hand(argv: Sequence[str], told: Path, checkpoints: Path) -> float:
    """Seconds until the first step of what a person starts over a copy of the checkpoints."""
    own = told.with_name(f"{told.name}-checkpoints")
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(checkpoints, own)
    path = told.with_name(f"{told.name}.0")
    path.unlink(missing_ok=True)
    env = {name: text for name, text in os.environ.items() if not name.startswith("TRAINFORGE_")}
    began = time.time()
    with _running([*argv, str(told)], env | {"TRAINFORGE_CHECKPOINT_DIR": str(own)}):
        timing.wait_until(lambda: path.exists() and path.read_text().endswith("\n"), "a step", LONGEST)
        return float(path.read_text().split()[1]) - began


@contextlib.contextmanager
def _running(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
    mark = f"TRAINFORGE_BENCHMARK_HAND={os.getpid()}"
    name, value = mark.split("=")
    silent = subprocess.DEVNULL
    process = subprocess.Popen(argv, env={**env, name: value}, stdout=silent, stderr=silent)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        processes.kill(processes.carrying(mark))
        timing.wait_until(lambda: not processes.carrying(mark), "what was started by hand to be gone")


class _Told:
    """What the training says of its steps: of its first rank."""

    def __init__(self, told: Path) -> None:
        self._path = told.with_name(f"{told.name}.0")

    def last(self) -> tuple[int, float, int]:
        """The newest step, when it was done, and by which process."""
        step, moment, pid = self._lines()[-1]
        return int(step), float(moment), int(pid)

    def wait_beyond(self, step: int) -> None:
        timing.wait_until(lambda: self._steps() > step, f"step {step + 1}", LONGEST)

    def beyond_the_kill(self) -> Moments:
        """Kill the rank, and wait for a step that it had not come to."""
        _, _, pid = self.last()
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        timing.wait_until(lambda: not processes.alive(pid), "the rank's end")
        reached = self._steps()
        self.wait_beyond(reached)
        lines = self._lines()
        stepped = min(float(moment) for _, moment, by in lines if int(by) != pid and float(moment) > killed)
        beyond = min(float(moment) for step, moment, _ in lines if int(step) > reached)
        return Moments(killed=killed, stepped=stepped, beyond=beyond)

    def _steps(self) -> int:
        return max((int(line[0]) for line in self._lines()), default=0)

    def _lines(self) -> list[list[str]]:
        if not self._path.exists():
            return []
        text = self._path.read_text()
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]


# ---- the daemon is killed


def _adopted(scene: Scene, queued: int, rounds: int) -> Figure:
    """From the daemon's start until every running job is known to run, and not found out about any more."""
    daemon = scene.daemon(RUNNING)
    one = {"gpu": 1}
    with daemon.client(timeout=LONGEST) as client:
        for count, argv in ((RUNNING, ["sleep", "100000"]), (queued, ["true"])):
            client.submit_all([request(argv, daemon.folder, resources=one) for _ in range(count)])
    timing.wait_until(lambda: _running_jobs(daemon) == RUNNING, "all to run", LONGEST)
    taken = []
    for _ in range(rounds):
        daemon.kill()
        began = time.perf_counter()
        daemon.start(wait=False)
        timing.wait_until(lambda: _running_jobs(daemon) == RUNNING, "all to be adopted", LONGEST)
        taken.append(time.perf_counter() - began)
    return Figure(
        what=f"from the daemon's start until {RUNNING} jobs are adopted, {queued:,} queued",
        value=timing.median(taken),
        unit="s",
        bound=Bound(limit=1),
        samples=rounds,
        spread=timing.quartiles(taken),
    )


def _running_jobs(daemon: RealDaemon) -> int:
    """0 while it does not answer."""
    with contextlib.suppress(NoDaemon), daemon.client(patience=0.0) as client:
        jobs = client.status().jobs
        return 0 if jobs.unknown or jobs.starting else jobs.running
    return 0
