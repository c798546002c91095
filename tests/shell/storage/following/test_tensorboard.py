"""TensorBoard's event files, read from real folders: every value once."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.event_writer import EventWriter, event, frame, masked, number, simple, text, varint
from tests.shell.storage.following.eventscene import Scene
from trainforged.storage.following import tfrecords
from trainforged.storage.following.records import read_everything
from trainforged.storage.following.tfevents import Scalar, TensorBoardEvent, parse
from trainforged.storage.metrics.store import MetricStore

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
