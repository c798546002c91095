"""Durable submissions: what was answered is on disk. What the disk can do is measured first.

The 500 clients are threads with a connection each, let go at once. Once the last is answered the daemon
is killed with SIGKILL; then it is started again, and what was acknowledged is looked for.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import machine, timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene
from tests.daemon.real import RealDaemon, request
from trainforge.api import SubmitRequest

ENOUGH = 1000.0  # fdatasyncs per second, from which on the bounds count
EACH = 2  # submissions of each client
PATIENCE = 120.0


def measure(scene: Scene) -> list[Figure]:
    daemon = scene.daemon()
    disk = machine.fdatasyncs(scene.folder)
    slow = None if disk >= ENOUGH else f"the disk does {disk:.0f} fdatasync/s"
    return [
        Figure(what="fdatasync of 4 KiB, the disk itself", value=disk, unit="/s"),
        _in_one_call(scene, daemon, slow),
        _one_by_one(scene, daemon, slow, disk),
        *_at_once(scene, daemon),
    ]


def held(daemon: RealDaemon, count: int) -> list[SubmitRequest]:
    """Jobs that do not start."""
    return [request(["true"], daemon.folder, name=f"job-{i}", hold=True) for i in range(count)]


def _in_one_call(scene: Scene, daemon: RealDaemon, slow: str | None) -> Figure:
    count = scene.times(1000, 100)
    with daemon.client() as client:
        batches = [held(daemon, count) for _ in range(scene.times(7, 2))]
        taken = [timing.timed(lambda batch=batch: client.submit_all(batch)) for batch in batches]  # type: ignore[misc]
    return Figure(
        what=f"{count:,} in one call",
        value=timing.median(taken),
        unit="s",
        bound=Bound(limit=0.5, waived=slow),
        samples=len(taken),
        spread=timing.quartiles(taken),
    )


def _one_by_one(scene: Scene, daemon: RealDaemon, slow: str | None, disk: float) -> Figure:
    requests = held(daemon, scene.times(1000, 50))
    with daemon.client() as client:
        client.status()  # the connection is there
        taken = [timing.timed(lambda one=one: client.submit(one)) for one in requests]  # type: ignore[misc]
    rate = len(taken) / sum(taken)
    return Figure(
        what="one by one, on a kept connection",
        value=rate,
        unit="/s",
        others={"fdatasync alone": disk},
        ratio=rate / disk,
        bound=Bound(limit=300, least=True, waived=slow),
        samples=len(taken),
    )


def _at_once(scene: Scene, daemon: RealDaemon) -> list[Figure]:
    clients = scene.times(500, 20)
    start = threading.Barrier(clients)
    refused: list[Exception] = []

    def client_of(number: int) -> list[int]:
        accepted = []
        with daemon.client(timeout=PATIENCE) as client:
            requests = held(daemon, EACH)
            start.wait(PATIENCE)
            for one in requests:
                try:
                    accepted.append(client.submit(one).id)
                except Exception as error:
                    refused.append(error)
        return accepted

    with ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        accepted = [job for jobs in pool.map(client_of, range(clients)) for job in jobs]
        daemon.kill()
        took = time.perf_counter() - began
    scene.notes += [f"refused: {error!r}" for error in refused[:3]]
    present = _present(daemon)
    lost = len(set(accepted) - present) + len(accepted) - len(set(accepted))
    sent = clients * EACH
    return [
        Figure(what=f"{clients} clients at once, {EACH} each", value=sent / took, unit="/s", samples=sent),
        Figure(what="of these refused", value=len(refused), unit="", bound=Bound(limit=0), samples=sent),
        Figure(
            what="acknowledged, then lost to kill -9", value=lost, unit="", bound=Bound(limit=0), samples=sent
        ),
    ]


def _present(daemon: RealDaemon) -> set[int]:
    daemon.start()
    with daemon.client() as client:
        return {job.id for job in client.all_jobs()}
