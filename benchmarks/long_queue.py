"""With 100,000 jobs queued: submitting one more, looking, deciding, starting up, memory.

All GPUs are held by a job that sleeps; behind it wait jobs of many shapes and priorities. The
scheduling pass is measured on what the daemon stored, in this process: what it decides when one job
is submitted, when a hundred events come together, and when the GPUs come free.
"""

from __future__ import annotations

import random
import time

from benchmarks import processes, timing
from benchmarks.figures import Bound, Figure
from benchmarks.passes import measure_passes
from benchmarks.scene import Scene
from tests.daemon.real import RealDaemon, request
from trainforge.api import SubmitRequest
from trainforge.states import JobState

MB = 1e6
GPUS = 8
CHUNK = 1000
SHAPES = [{"gpu": gpu, "cpu": cpu} for gpu in range(1, GPUS + 1) for cpu in (1, 4, 8)]


def measure(scene: Scene) -> list[Figure]:
    count = scene.times(100_000, 2_000)
    daemon = scene.daemon(GPUS)
    holder = daemon.command("sleep", "100000", resources={"gpu": GPUS}).id
    daemon.wait_for(holder, JobState.RUNNING)
    filled = _fill(daemon, count)
    memory = processes.resident(daemon.pid) / MB
    figures = [
        Figure(what=f"{count:,} queued, 1,000 in a call", value=filled, unit="s"),
        *_one_more(scene, daemon),
        *_pages(scene, daemon),
    ]
    daemon.stop()
    figures += measure_passes(daemon.state_dir / "trainforge.db", scene.times(15, 3))
    began = time.perf_counter()
    daemon.start()
    started = time.perf_counter() - began
    time.sleep(scene.times(3.0, 0.2))
    fresh = processes.resident(daemon.pid) / MB
    return [
        *figures,
        Figure(what="start-up, until it answers", value=started, unit="s", bound=Bound(limit=3)),
        Figure(what="memory once they were submitted", value=memory, unit="MB", bound=Bound(limit=300)),
        Figure(what="memory after a start with them", value=fresh, unit="MB", bound=Bound(limit=300)),
    ]


def _job(daemon: RealDaemon, chance: random.Random) -> SubmitRequest:
    schedule = {"priority": chance.randrange(-5, 6)}
    name = f"job-{chance.randrange(100)}"
    return request(["true"], daemon.folder, name=name, resources=chance.choice(SHAPES), schedule=schedule)


def _fill(daemon: RealDaemon, count: int) -> float:
    """Seconds in all, of the calls alone."""
    chance = random.Random(1)
    seconds = 0.0
    with daemon.client(timeout=120) as client:
        for _ in range(count // CHUNK):
            chunk = [_job(daemon, chance) for _ in range(CHUNK)]
            seconds += timing.timed(lambda chunk=chunk: client.submit_all(chunk))  # type: ignore[misc]
    return seconds


def _one_more(scene: Scene, daemon: RealDaemon) -> list[Figure]:
    chance = random.Random(2)
    jobs = [_job(daemon, chance) for _ in range(scene.times(1000, 20))]
    with daemon.client() as client:
        client.status()
        taken = [1000 * timing.timed(lambda job=job: client.submit(job)) for job in jobs]  # type: ignore[misc]
    median, slow = timing.median(taken), timing.percentile(taken, 99)
    return [
        Figure(
            what="one more submission, p99", value=slow, unit="ms", bound=Bound(limit=20), samples=len(taken)
        ),
        Figure(what="one more submission, median", value=median, unit="ms", samples=len(taken)),
    ]


def _pages(scene: Scene, daemon: RealDaemon) -> list[Figure]:
    """Of 100 jobs: the newest, the front of the queue, and one far down."""
    with daemon.client() as client:
        far = client.jobs(limit=100).next
        for _ in range(scene.times(200, 3)):
            far = client.jobs(limit=100, cursor=far).next
        looks = {
            "the newest": lambda: client.jobs(limit=100),
            "the front of the queue": lambda: client.jobs(limit=100, states=[JobState.QUEUED]),
            "far down": lambda: client.jobs(limit=100, cursor=far),
            "by name": lambda: client.jobs(limit=100, name="job-7"),
        }
        actions = {name: lambda look=look: 1000 * timing.timed(look) for name, look in looks.items()}
        taken = timing.alternate(scene.times(60, 3), actions)
    return [
        Figure(
            what=f"a page of GET /v1/jobs, {name}",
            value=timing.median(times),
            unit="ms",
            bound=Bound(limit=20),
            samples=len(times),
            spread=timing.quartiles(times),
        )
        for name, times in taken.items()
    ]
