"""`status` while everybody wants something of the daemon, beside an idle one.

500 clients ask once a second each, 80 streams are read a few bytes at a time, 100 connections stop in the
middle of a request, two send a gigabyte over and over, and jobs report 10,000 records a second. The clients
and the jobs run at a lower priority than the daemon and who measures: on a machine of few cores it would else
be the machine that is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import processes, timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene, tfctl
from tests.daemon.real import RealDaemon, request
from trainforge.client.client import Client
from trainforge.states import JobState

CROWD = Path(__file__).parent / "programs" / "crowd.py"
REPORTERS, RATE = 4, 2500  # jobs, records a second of each
SETTLING = 4.0
MB = 1e6
REPORTER = """
import os, time, trainforge
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
os.nice(10)
began, step = time.monotonic(), 0
while True:
    while step < (time.monotonic() - began) * {rate}:
        step += 1
        trainforge.report(step=step, loss=1.0 / step, accuracy=0.5, lr=0.1)
    print("step", step, "x" * 200, flush=True)
    time.sleep(0.02)
"""


def measure(scene: Scene) -> list[Figure]:
    daemon = scene.daemon(REPORTERS)
    seconds = scene.times(20.0, 2.0)
    idle = probe(daemon, seconds / 2)
    command_idle = commands(scene, daemon, seconds / 4)
    job = start_reporters(daemon)
    with crowd(daemon, SETTLING + seconds * 1.5, job) as clients:
        time.sleep(SETTLING)
        before, began = steps(daemon, job), time.monotonic()
        busy = probe(daemon, seconds)
        command_busy = commands(scene, daemon, seconds / 4)
        rate = (steps(daemon, job) - before) / (time.monotonic() - began)
        memory = processes.resident(daemon.pid) / MB
        told = json.loads(clients.communicate()[0])
    answers = told["answers"]
    failed = sum(number for status, number in answers.items() if status != "200")
    return [
        figure("an answer of /v1/status", "ms", [1000 * t for t in busy], [1000 * t for t in idle]),
        figure("the command `tfctl status`", "ms", [1000 * t for t in command_busy],
               [1000 * t for t in command_idle], percent=95),
        Figure(what="the daemon's memory meanwhile", value=memory, unit="MB", bound=Bound(limit=250)),
        Figure(what="records a second that were stored", value=rate, unit="/s",
               bound=Bound(limit=0.9 * REPORTERS * RATE, least=True)),
        Figure(what="answers to the other clients", value=sum(answers.values()), unit=""),
        Figure(what="of these none or an error", value=failed, unit="", bound=Bound(limit=0)),
        Figure(what="sent by those who send too much", value=told["sent"] / MB, unit="MB"),
    ]  # fmt: skip


def figure(what: str, unit: str, busy: list[float], idle: list[float], percent: float = 99) -> Figure:
    ours, floor = timing.percentile(busy, percent), timing.percentile(idle, percent)
    return Figure(
        what=f"{what}, {percent:.0f}th percentile",
        value=ours,
        unit=unit,
        others={"idle": floor},
        ratio=ours / floor,
        bound=Bound(limit=5, of="ratio"),
        samples=len(busy),
        spread=timing.quartiles(busy),
    )


def probe(daemon: RealDaemon, seconds: float) -> list[float]:
    """Each on a connection of its own, as a command has."""

    def once() -> None:
        with Client(daemon.socket) as client:
            client.status()

    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(timing.timed(once))
        time.sleep(0.005)
    return found


def commands(scene: Scene, daemon: RealDaemon, seconds: float) -> list[float]:
    env, until = scene.environment(daemon), time.monotonic() + seconds
    found: list[float] = []
    while time.monotonic() < until or len(found) < 3:
        found.append(timing.run(tfctl("status"), env))
    return found


def start_reporters(daemon: RealDaemon) -> int:
    """Jobs that report without end; the number of the first."""
    script = daemon.folder / "reporter.py"
    script.write_text(REPORTER.format(rate=RATE))
    wanted = request([], daemon.folder, resources={"gpu": 1})
    spec = wanted.spec | {"training": {"script": "reporter.py"}, "environment": {"python": sys.executable}}
    with daemon.client() as client:
        jobs = [
            client.submit(type(wanted)(spec=spec, request_id=f"r{number}", workdir=wanted.workdir)).id
            for number in range(REPORTERS)
        ]
    for job in jobs:
        daemon.wait_for(job, JobState.RUNNING)
    return jobs[0]


def crowd(daemon: RealDaemon, seconds: float, job: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CROWD), str(daemon.socket), str(seconds), str(job)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_step_back,
    )


def _step_back() -> None:
    """Behind the daemon and who measures, also where these go before everything (`--realtime`)."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(10)


def steps(daemon: RealDaemon, job: int) -> float:
    """What the jobs from `job` on have reported, as far as the daemon has taken it in."""
    with daemon.client() as client:
        found = [client.job(job + number).progress for number in range(REPORTERS)]
    return sum(progress.step or 0.0 for progress in found if progress is not None)
