"""TensorBoard's event files, read from real folders: every value once, each under its own name."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.event_writer import EventWriter, event, frame, masked, number, simple, text, varint
from tests.shell.storage.test_records import line
from trainforge import protocol
from trainforged.storage.following import tfrecords
from trainforged.storage.following.eventfolders import DEEPEST, MOST_FILES, search
from trainforged.storage.following.records import Gathered, LiveAttempt, RecordReader, read_everything
from trainforged.storage.following.tensorboard import MOST_NAMES, EventFollower
from trainforged.storage.following.tfevents import Scalar, TensorBoardEvent, parse
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


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


# ---------------------------------------------------------------- the format


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
)
def test_the_checksum_is_that_of_rfc_3720(data: bytes, crc: int) -> None:
    assert tfrecords._crc32c(data) == crc


def tensor(kind: int, *content: bytes) -> bytes:
    return text(1, b"t") + text(8, number(1, kind) + b"".join(content))


HALF = int.from_bytes(struct.pack("<e", 1.5), "little")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (simple("t", 1.5), 1.5),
        (simple("t", float("inf")), float("inf")),
        (tensor(1, text(4, struct.pack("<f", 1.5))), 1.5),
        (tensor(2, text(4, struct.pack("<d", 0.1))), 0.1),
        (tensor(9, text(4, struct.pack("<q", -7))), -7.0),
        (tensor(14, text(4, struct.pack("<f", 1.5)[2:])), 1.5),
        (tensor(1, varint(5 << 3 | 5), struct.pack("<f", 2.5)), 2.5),
        (tensor(1, text(5, struct.pack("<f", 2.5))), 2.5),
        (tensor(2, varint(6 << 3 | 1), struct.pack("<d", 0.3)), 0.3),
        (tensor(3, number(7, -3)), -3.0),
        (tensor(9, text(10, varint(12))), 12.0),
        (tensor(19, number(13, HALF)), 1.5),
        (tensor(1, text(2, b""), text(5, struct.pack("<f", 2.5))), 2.5),
        (tensor(1, text(2, text(2, number(1, 2))), text(4, struct.pack("<ff", 1, 2))), None),
        (tensor(1, text(5, struct.pack("<ff", 1, 2))), None),
        (tensor(7, text(8, b"words")), None),
        (tensor(1, text(4, struct.pack("<f", 1))) + text(9, text(1, text(1, b"histograms"))), None),
        (tensor(1, text(4, struct.pack("<f", 1))) + text(9, text(1, text(1, b"scalars"))), 1.0),
        (text(1, b"t") + text(5, b"a histogram"), None),
        (simple("", 1.0), None),
    ],
)
def test_what_a_value_says(value: bytes, expected: float | None) -> None:
    found = parse(event(5.0, 3, value))
    assert found == TensorBoardEvent(5.0, 3, (Scalar("t", expected),) if expected is not None else ())


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda data: event(1.0, 1, data)))
def test_no_content_raises(content: bytes) -> None:
    found = parse(content)
    assert found is None or isinstance(found, TensorBoardEvent)


@pytest.mark.torch
def test_what_torchs_writer_writes_is_shown(scene: Scene) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    numpy = pytest.importorskip("numpy")
    live = scene.attempt()
    writer = tensorboard.SummaryWriter(scene.project / "runs" / "first")
    writer.add_text("note", "x" * 100_000)
    writer.add_histogram("weights", numpy.arange(1000.0), 0)
    writer.add_image("picture", numpy.zeros((3, 256, 256), dtype="uint8"), 0)
    for step in range(1, 51):
        writer.add_scalar("train/loss", 1 / step, step)
        writer.add_scalar("acc", step / 100, step, new_style=True)
    writer.add_scalars("both", {"a": 1.0, "b": 2.0}, 7)
    writer.flush()
    scene.look(live)
    writer.add_scalar("train/loss", 0.5, 51)
    writer.close()
    scene.look(live)

    shown = scene.series()
    assert [step for step, _ in shown["train/loss"]] == list(range(1, 52))
    assert [value for _, value in shown["train/loss"]] == pytest.approx([*(1 / n for n in range(1, 51)), 0.5])
    assert shown["acc"][-1] == pytest.approx((50, 0.5))
    assert (shown["both_a/both"], shown["both_b/both"]) == ([(7, 1.0)], [(7, 2.0)])
    assert set(shown) == {"train/loss", "acc", "both_a/both", "both_b/both"}


def test_what_tensorboardx_writes_is_shown(scene: Scene) -> None:
    tensorboardx = pytest.importorskip("tensorboardX")
    live = scene.attempt()
    writer = tensorboardx.SummaryWriter(str(scene.project / "runs"))
    for step in range(1, 6):
        writer.add_scalar("train/loss", 1 / step, step)
    writer.add_scalars("both", {"a": 1.0}, 7)
    writer.close()
    scene.look(live)
    shown = scene.series()
    assert [step for step, _ in shown["train/loss"]] == [1, 2, 3, 4, 5]
    assert shown["both/a/both"] == [(7, 1.0)]


# ---------------------------------------------------------------- growth, restarts, damage


def test_a_file_that_grows_byte_by_byte_gives_each_value_once(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project / "runs")
    data = b"".join(frame(event(time.time(), step, simple("loss", step))) for step in range(1, 4))
    for at in range(len(data)):
        writer.raw(data[at : at + 1])
        scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0), (2, 2.0), (3, 3.0)]}


def test_a_restart_neither_loses_nor_doubles(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    writer.scalar("loss", 3.0, 1)
    scene.look(live)
    scene.begin_again()
    writer.scalar("loss", 2.0, 2)
    scene.look(live)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 3.0), (2, 2.0)]}


def test_a_store_that_was_lost_is_filled_again(scene: Scene, tmp_path: Path) -> None:
    now = time.time()
    first = scene.attempt(1, now - 1000)
    EventWriter(scene.project / "a", begun=now - 900).scalar("loss", 3.0, 1, now - 800)
    second = scene.attempt(2, now - 100)
    EventWriter(scene.project / "b", begun=now - 90).scalar("loss", 2.0, 2, now - 80)
    scene.store.close()
    scene.store = MetricStore(tmp_path / "new.db").open()
    scene.begin_again()
    read_everything(scene.reader, scene.state / "jobs", scene.follower.drain)
    (series,) = scene.store.query(1)
    assert (series.attempt, series.step) == ((first.attempt, second.attempt), (1, 2))


def test_what_is_damaged_ends_the_reading_of_that_file(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    writer.scalar("loss", 3.0, 1)
    torn = bytearray(frame(event(time.time(), 2, simple("loss", 2.0))))
    torn[-1] ^= 1
    writer.raw(bytes(torn))
    writer.scalar("loss", 1.0, 3)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 3.0)]}
    scene.begin_again()
    scene.look(live)
    assert scene.series() == {"loss": [(1, 3.0)]}


def test_a_frame_that_claims_to_be_endless_is_never_read(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    length = struct.pack("<Q", 2**62)
    writer.raw(length + masked(length) + b"x" * 1000)
    assert scene.look(live) != ()  # the first event moved the place
    assert scene.look(live) == ()


def test_large_frames_are_stepped_over(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for step in range(1, 4):
        length = struct.pack("<Q", 10**6)
        writer.raw(length + masked(length) + bytes(10**6) + b"crc.")
        writer.scalar("loss", step, step)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0), (2, 2.0), (3, 3.0)]}


@given(st.lists(st.binary(max_size=60) | st.integers(0, 3).map(lambda n: frame(b"x" * n)), max_size=8))
def test_no_file_raises(parts: list[bytes]) -> None:
    read, write = os.memfd_create("frames"), b"".join(parts)
    try:
        os.write(read, write)
        found = tfrecords.read_frames(read, 0, 1000)
        assert 0 <= found.offset <= len(write)
    finally:
        os.close(read)


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


# ---------------------------------------------------------------- hostile folders


def test_no_link_is_followed_and_nothing_but_files_is_opened(scene: Scene, tmp_path: Path) -> None:
    live = scene.attempt()
    outside = EventWriter(tmp_path / "outside")
    outside.scalar("secret", 1.0, 1)
    (scene.project / "link").symlink_to(tmp_path / "outside")
    (scene.project / "events.out.tfevents.1.host").symlink_to(outside.path)
    os.mkfifo(scene.project / "events.out.tfevents.2.host")
    (scene.project / "events.out.tfevents.3.host").mkdir()
    assert scene.look(live) == ()


def test_a_folder_that_becomes_a_link_is_not_followed(scene: Scene, tmp_path: Path) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project / "runs")
    scene.look(live)
    outside = EventWriter(tmp_path / "outside", writer.path.name)
    outside.scalar("secret", 1.0, 1)
    writer.path.parent.rename(scene.project / "moved")
    (scene.project / "runs").symlink_to(tmp_path / "outside")
    scene.look(live)
    assert "secret" not in scene.series()


def test_a_search_is_bounded(tmp_path: Path) -> None:
    EventWriter(tmp_path / "a" / "b")
    EventWriter(tmp_path / "/".join("d" * (DEEPEST + 2)))
    EventWriter(tmp_path / ".hidden")
    many = tmp_path / "many"
    many.mkdir()
    for place in range(MOST_FILES + 50):
        (many / f"events.out.tfevents.{place}.host").touch()
    assert len(search([tmp_path])) == MOST_FILES
    assert len(search([tmp_path], entries=20)) < 20
    assert [file.run for file in search([tmp_path / "a"])] == ["b"]
    assert search([tmp_path / "d"]) == []
    assert len(search([tmp_path / "d" / "d"])) == 1
    assert search([tmp_path / "nowhere"]) == []


def test_a_folder_whose_name_is_no_text_is_named_as_well_as_may_be(scene: Scene) -> None:
    live = scene.attempt()
    now = time.time()
    EventWriter(scene.project / "a", begun=now).scalar("loss", 1.0, 1)
    EventWriter(scene.project / os.fsdecode(b"b\xff"), begun=now + 1).scalar("loss", 2.0, 1)
    scene.look(live)
    assert scene.series() == {"loss": [(1, 1.0)], "b\ufffd/loss": [(1, 2.0)]}


def test_endless_names_are_not_remembered(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for first in range(0, 6000, 1000):
        values = [simple(f"tag-{number}", 1.0) for number in range(first, first + 1000)]
        writer.raw(frame(event(time.time(), 1, *values)))
    scene.look(live)
    assert len(scene.store.names(1)) == 1000  # as of a job that reports as many
    (known,) = scene.follower._attempts.values()
    assert len(known.owners) <= MOST_NAMES


def test_the_state_folder_is_not_searched(scene: Scene) -> None:
    live = scene.attempt()
    EventWriter(scene.state / "jobs" / "2" / "project").scalar("loss", 1.0, 1)
    scene.roots = [scene.state.parent]
    scene.begin_again()
    assert scene.look(live) == ()


def test_an_ended_attempt_is_read_to_its_end(scene: Scene) -> None:
    live = scene.attempt()
    writer = EventWriter(scene.project)
    for step in range(3):
        writer.scalar("loss", step, step + 1)
    assert sum(entry.reports for entry in scene.follower.drain(live)) == 3
    assert msgspec.json.encode(scene.reader.progress(1)).count(b'"step":3')
