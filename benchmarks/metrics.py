"""Metric storage: what taking samples in costs, how fast a long curve is read, and what both take on disk.

Samples come as they do from jobs: lines appended to records files, which the daemon's own reader takes in
twice a second. Time does not pass meanwhile: the processor time of so many samples is held against the
seconds in which they would have come.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks import timing
from benchmarks.figures import Bound, Figure
from benchmarks.scene import Scene
from trainforged.storage.following.records import LiveAttempt, RecordReader
from trainforged.storage.metrics.ingestion import Place, Reading
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import Report

RATE = 10_000  # samples a second
EVERY = 0.5  # seconds between two reads, as in the daemon
JOBS, SERIES = 50, 20
REPORTS = int(RATE * EVERY / JOBS / SERIES)  # of each job between two reads
NAMES = [f"metric_{number}" for number in range(SERIES)]
LONG = 1_000_000  # points
NOW = 1_800_000_000.0


def measure(scene: Scene) -> list[Figure]:
    reads, long = scene.times((40, LONG), (4, LONG // 50))
    file = scene.folder / "metrics.db"
    store = MetricStore(file).open()
    try:
        return [*_taking_in(scene, store, file, reads), *_reading(store, long, scene.times(7, 2))]
    finally:
        store.close()


def _taking_in(scene: Scene, store: MetricStore, file: Path, reads: int) -> list[Figure]:
    attempts = [LiveAttempt(job, 1, scene.folder / f"job-{job}") for job in range(1, JOBS + 1)]
    for attempt in attempts:
        attempt.dir.mkdir()
    reader, spent = RecordReader(store), 0.0
    for number in range(reads):
        for attempt in attempts:
            _report(attempt.dir / "records-0.jsonl", number)
        began = time.process_time()
        while reader.gather(attempts):
            pass
        spent += time.process_time() - began
    samples = reads * JOBS * REPORTS * SERIES
    share = spent / (samples / RATE)
    store.tidy()
    return [
        Figure(
            what=f"{RATE:,} samples a second of {JOBS} jobs, share of a core",
            value=share * 100,
            unit="%",
            bound=Bound(limit=25),
            samples=samples,
        ),
        Figure(what="a sample on disk", value=file.stat().st_size / samples, unit="bytes"),
    ]


def _report(path: Path, read: int) -> None:
    lines = []
    for number in range(REPORTS):
        step = read * REPORTS + number
        values = {name: (step * 7919 + place) % 1009 / 1009 for place, name in enumerate(NAMES)}
        line = {"kind": "report", "time": NOW + step, "step": step, "epoch": step // 100, "metrics": values}
        lines.append(json.dumps(line) + "\n")
    with path.open("a") as file:
        file.writelines(lines)


def _reading(store: MetricStore, points: int, rounds: int) -> list[Figure]:
    job = JOBS + 1
    for start in range(0, points, 10_000):
        reports = tuple(
            Report(time=NOW + n, step=n, epoch=n // 1000, metrics={"loss": n * 7919 % 1_000_003})
            for n in range(start, min(start + 10_000, points))
        )
        store.ingest([Reading(job=job, attempt=1, rank=0, place=Place(start + 1), reports=reports)])
    late = NOW + points * 0.9
    whole = timing.median(timing.timed(lambda: store.query(job, points=1000)) for _ in range(rounds))
    part = timing.median(
        timing.timed(lambda: store.query(job, since=late, points=1000)) for _ in range(rounds)
    )
    again = Report(time=NOW + points, step=points / 2, metrics={"loss": 0.5})
    store.ingest([Reading(job=job, attempt=2, rank=0, place=Place(1), reports=(again,))])
    first = timing.timed(lambda: store.query(job, points=1000))
    resumed = timing.median(timing.timed(lambda: store.query(job, points=1000)) for _ in range(rounds))
    return [
        Figure(
            what=f"{points:,} points of which a second attempt replaces half, asked for the first time",
            value=first * 1000,
            unit="ms",
            bound=Bound(limit=100),
        ),
        Figure(
            what=f"{points:,} points of which a second attempt replaces half, from then on",
            value=resumed * 1000,
            unit="ms",
            bound=Bound(limit=100),
            samples=rounds,
        ),
        Figure(
            what=f"{points:,} points shown as 1,000",
            value=whole * 1000,
            unit="ms",
            bound=Bound(limit=100),
            samples=rounds,
        ),
        Figure(
            what="the newest tenth of them",
            value=part * 1000,
            unit="ms",
            bound=Bound(limit=100),
            samples=rounds,
        ),
    ]
