"""TensorBoard's event files: whose a value is, under which name it is shown, and how far it has come."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shell.event_writer import EventWriter
from tests.shell.storage.following.eventscene import Scene
from tests.shell.storage.following.recording import line
from trainforge import protocol

# ---------------------------------------------------------------- whose, and under which name


def test_only_what_the_attempt_began_is_its_own(scene: Scene) -> None:
    EventWriter(scene.project / "old", begun=time.time() - 500).scalar("loss", 9.0, 1)
    live = scene.attempt()
    EventWriter(scene.project / "new").scalar("loss", 1.0, 2)
    scene.look(live)
    assert scene.series() == {"loss": [(2, 1.0)]}


def test_what_a_later_attempt_repeats_is_superseded_tag_by_tag(scene: Scene) -> None:
    now = time.time()
    first = scene.attempt(1, now - 1000)
    writer = EventWriter(scene.project / "runs" / "one", begun=now - 900)
    for step in (1, 2, 3, 4):
        writer.scalar("loss", 10.0 + step, step * 100)
        writer.scalar("epoch_accuracy", step, step)
    scene.follower.drain(first)
    second = scene.attempt(2, now - 100)
    writer = EventWriter(scene.project / "runs" / "two", begun=now - 90)
    for step in (3, 4, 5):
        writer.scalar("loss", 20.0 + step, step * 100)
        writer.scalar("epoch_accuracy", -step, step)
    scene.look(second)
    assert scene.series() == {
        "loss": [(100, 11.0), (200, 12.0), (300, 23.0), (400, 24.0), (500, 25.0)],
        "epoch_accuracy": [(1, 1.0), (2, 2.0), (3, -3.0), (4, -4.0), (5, -5.0)],
    }


def test_runs_beside_the_first_are_named_by_their_folder(scene: Scene) -> None:
    live = scene.attempt()
    now = time.time()
    EventWriter(scene.project / "runs" / "x", begun=now).scalar("loss", 1.0, 1)
    EventWriter(scene.project / "runs" / "x" / "val", begun=now + 1).scalar("loss", 2.0, 1)
    EventWriter(scene.project / "logs", begun=now + 2).scalar("loss", 3.0, 1)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0)], "val/loss": [(1, 2.0)], "logs/loss": [(1, 3.0)]}


def test_what_the_job_reports_itself_is_not_shown_twice(scene: Scene) -> None:
    live = scene.attempt()
    (live.dir / "records-0.jsonl").write_bytes(line(time=time.time(), step=5, metrics={"train_loss": 1.0}))
    scene.reader.gather([live])
    writer = EventWriter(scene.project)
    writer.scalar("train/loss", 1.0, 5)
    writer.scalar("lr", 0.1, 900)
    scene.look(live)
    assert scene.series() == {"train_loss": [(5, 1.0)], "lr": [(900, pytest.approx(0.1))]}
    progress = scene.reader.progress(1)
    assert progress is not None
    assert (progress.step, progress.metrics) == (5, {"train_loss": 1.0})  # its own word counts


def test_what_is_reported_and_written_at_once_is_shown_once(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    scene.look(live)
    for step, name in ((1, "loss"), (2, "accuracy")):  # the records are read before the files, not after
        with (live.dir / "records-0.jsonl").open("ab") as file:
            file.write(line(time=time.time(), step=step, metrics={name: 0.5}))
        writer.scalar(name, 0.25, step)
        gathered = scene.look(live)
        assert sum(entry.reports for entry in gathered) >= 1
    assert scene.series() == {"loss": [(1, 0.5)], "accuracy": [(2, 0.5)]}


def test_a_report_after_tensorboard_takes_over(scene: Scene) -> None:
    live = scene.attempt()
    EventWriter(scene.project).scalar("loss", 1.0, 77)
    scene.look(live)
    (live.dir / "records-0.jsonl").write_bytes(line(time=time.time(), step=5, metrics={"a": 1.0}))
    scene.reader.gather([live])
    progress = scene.reader.progress(1)
    assert progress is not None
    assert (progress.step, progress.metrics) == (5, {"a": 1.0})


def rank_process(token: str, rank: int) -> subprocess.Popen[bytes]:
    """A living process that looks like a rank of an attempt."""
    environment = {protocol.TOKEN: token, "RANK": str(rank)}
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_what_each_rank_writes_stays_its_own(scene: Scene) -> None:
    live = scene.attempt()
    for rank in (0, 1):
        with rank_process("1-1-abc", rank) as process:
            name = f"events.out.tfevents.123.host.with.dots.{process.pid}.0"
            EventWriter(scene.project, name).scalar("loss", float(rank), 1)
            scene.look(live)
            process.kill()
    assert scene.series(rank=0) == {"loss": [(1, 0.0)]}
    assert scene.series(rank=1) == {"loss": [(1, 1.0)]}


def test_in_a_folder_of_others_only_its_own_processes_count(scene: Scene, tmp_path: Path) -> None:
    scene.roots = [tmp_path / "shared"]
    scene.begin_again()
    live = scene.attempt()
    for token, value in (("2-1-xyz", 9.0), ("1-1-abc", 1.0)):
        with rank_process(token, 0) as process:
            name = f"events.out.tfevents.123.host.{process.pid}.0.v2"
            EventWriter(scene.project / token, name).scalar("loss", value, 1)
            scene.look(live)
            process.kill()
    assert scene.series() == {"loss": [(1, 1.0)]}


def test_of_two_writers_of_one_series_at_once_the_first_counts(scene: Scene) -> None:
    live = scene.attempt()
    now = time.time()
    first = EventWriter(scene.project, "events.out.tfevents.1.host", begun=now)
    second = EventWriter(scene.project, "events.out.tfevents.2.host", begun=now + 1)
    first.scalar("loss", 1.0, 1, now + 5)
    second.scalar("loss", 9.0, 1, now + 5)
    third = EventWriter(scene.project, "events.out.tfevents.3.host", begun=now + 10)
    third.scalar("loss", 2.0, 2, now + 11)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0), (2, 2.0)]}


# ---------------------------------------------------------------- progress


def progress(scene: Scene) -> Any:
    found = scene.reader.progress(1)
    assert found is not None
    return found


def test_the_step_is_the_furthest_of_all_tags(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    writer.scalar("train/loss", 1.0, 5000)
    writer.scalar("val/loss", 2.0, 3)
    writer.scalar("epoch", 3.0, 5000)
    (gathered,) = scene.look(live)
    assert gathered.reports == 3
    assert (progress(scene).step, progress(scene).epoch) == (5000, 3)
    assert progress(scene).metrics == {"train/loss": 1.0, "val/loss": 2.0, "epoch": 3.0}


def test_values_without_steps_are_counted(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for value in (3.0, 2.0, 1.0):
        writer.scalar("loss", value, None)
    scene.look(live)
    assert scene.series() == {"loss": [(0, 3.0), (1, 2.0), (2, 1.0)]}
