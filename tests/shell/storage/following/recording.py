"""Attempts' records, written as ranks do, and what is stored of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.shell.storage.storing import NOW
from trainforged.storage.following.records import LiveAttempt
from trainforged.storage.metrics.store import MetricStore


def line(kind: str = "report", time: float = NOW, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, "time": time, **fields}).encode() + b"\n"


def report(step: int, time: float | None = None, **metrics: float) -> bytes:
    return line(time=NOW + step if time is None else time, step=step, steps=1000, metrics=metrics)


class Job:
    """An attempt's folder, written to as its ranks do."""

    def __init__(self, state: Path, job: int = 1, attempt: int = 1) -> None:
        self.dir = state / "jobs" / str(job) / "attempts" / str(attempt)
        self.dir.mkdir(parents=True)
        self.live = LiveAttempt(job, attempt, self.dir)

    def write(self, data: bytes, rank: int = 0) -> None:
        with open(self.dir / f"records-{rank}.jsonl", "ab") as file:
            file.write(data)


def values(store: MetricStore, job: int = 1, name: str = "loss", rank: int = 0) -> list[float | str | None]:
    series = store.query(job, [name], rank=rank)
    return list(series[0].value) if series else []
