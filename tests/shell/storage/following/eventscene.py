"""Attempts that write TensorBoard's event files, and what reads them."""

from __future__ import annotations

import os
from pathlib import Path

from trainforged.storage.following.records import Gathered, LiveAttempt, RecordReader
from trainforged.storage.following.tensorboard import EventFollower
from trainforged.storage.metrics.store import MetricStore


class Scene:
    """Attempts of job 1, a folder in which they write, and what reads it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.store = MetricStore(folder / "metrics.db").open()
        self.reader = RecordReader(self.store)
        self.roots = [self.state / "jobs" / "1" / "project"]
        self.roots[0].mkdir(parents=True)
        self.begin_again()

    def begin_again(self) -> None:
        """As after a restart of the daemon."""
        self.time = 0.0
        self.reader = RecordReader(self.store)
        self.follower = EventFollower(self.reader, lambda job: self.roots, [self.state], lambda: self.time)

    @property
    def project(self) -> Path:
        return self.roots[0]

    def attempt(self, number: int = 1, began: float | None = None) -> LiveAttempt:
        folder = self.state / "jobs" / "1" / "attempts" / str(number)
        folder.mkdir(parents=True)
        (folder / "launch.json").write_text(f'{{"token": "1-{number}-abc"}}')
        if began is not None:
            os.utime(folder / "launch.json", (began, began))
        return LiveAttempt(1, number, folder)

    def look(self, *live: LiveAttempt) -> tuple[Gathered, ...]:
        """Everything that is there now."""
        self.time += 100
        found = list(self.follower.gather(live))
        while more := self.follower.gather(live):
            found += more
        return tuple(found)

    def series(self, rank: int = 0) -> dict[str, list[tuple[float, float | None]]]:
        """Step and value of what is shown, by name."""
        found = self.store.query(1, rank=rank)
        return {one.name: list(zip(one.step, one.value, strict=True)) for one in found}
