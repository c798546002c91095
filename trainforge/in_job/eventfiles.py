"""What a job reports as TensorBoard's files, in `$TRAINFORGE_JOB_DIR/tensorboard`, where that is installed.

A report costs a place in a queue; a thread writes what is in it every few seconds and when the
interpreter ends, so what was reported in the last seconds before a kill is missing here (and in no
record). A file per attempt: what an earlier one wrote beyond this one's first step is hidden by
TensorBoard, as that of a run which was resumed. Where more is reported than curves can show, some
reports are left out.

The format, https://www.tensorflow.org/tutorials/load_data/tfrecord and tensorflow/core/util/event.proto,
is written without tensorboard, whose import takes a second.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import atexit
import collections
import io
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping

from trainforge.in_job import records

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from typing import Union

    Number = Union[int, float]

FOLDER = "tensorboard"
EVERY = 2.0  # seconds
MOST = 20  # reports written at once: curves show no more, and each costs 20 µs of the interpreter
_VERSION = b"brain.Event:2"
_SESSION_STARTS = b"\x08\x01"  # of SessionLog: status = START


class EventFiles:
    """`add` may be called by any thread. Nothing here raises because of the disk."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._waiting: collections.deque[tuple[float, int, Mapping[str, float]]] = collections.deque(
            maxlen=100 * MOST
        )
        self._file: io.FileIO | None = None
        self._reports = 0
        self._ends = threading.Event()
        self._writing = threading.Lock()
        self._owner = os.getpid()
        threading.Thread(target=self._run, name="trainforge-tensorboard", daemon=True).start()
        atexit.register(self.close)

    def add(self, position: Mapping[str, Number], metrics: Mapping[str, float]) -> None:
        """Its place on the axis is the step, else the epoch, else how many reports there were before it."""
        step = int(position.get("step", position.get("epoch", self._reports)))
        self._reports += 1
        if metrics and os.getpid() == self._owner:  # what a forked process reports is in the records alone
            self._waiting.append((time.time(), step, metrics))

    def close(self) -> None:
        """Write what waits."""
        if os.getpid() == self._owner:
            self._ends.set()
            self._write()

    def _run(self) -> None:
        while not self._ends.wait(EVERY):
            self._write()

    def _write(self) -> None:
        with self._writing:
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not waiting:
                return
            try:
                file = self._file or self._open(waiting[0][0], waiting[0][1])
                file.write(b"".join(event(*one) for one in thinned(waiting)))
            except OSError as error:
                records.say(f"cannot write TensorBoard's files in {self._folder}: {error.strerror}")
                self._waiting = collections.deque(maxlen=0)  # once is enough

    def _open(self, now: float, step: int) -> io.FileIO:
        os.makedirs(self._folder, exist_ok=True)
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.0"
        file = self._file = io.FileIO(os.path.join(self._folder, name), "a")
        file.write(frame(_double(1, now) + _bytes(3, _VERSION)))
        file.write(frame(_double(1, now) + _integer(2, step) + _bytes(7, _SESSION_STARTS)))
        return file


def thinned(
    waiting: list[tuple[float, int, Mapping[str, float]]],
) -> Iterable[tuple[float, int, Mapping[str, float]]]:
    """At most about `MOST` of them, the last one in any case."""
    apart = -(-len(waiting) // MOST)
    return waiting[::-1][::apart][::-1]


def event(wall_time: float, step: int, metrics: Mapping[str, float]) -> bytes:
    """The frame of one report."""
    values = b"".join(
        _bytes(1, _bytes(1, name.encode()) + b"\x15" + _single(value)) for name, value in metrics.items()
    )
    return frame(_double(1, wall_time) + _integer(2, step) + _bytes(5, values))


def frame(content: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _single(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


# ---------------------------------------------------------------- protocol buffers, as far as they go here


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value % 2**64)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# ---------------------------------------------------------------- CRC-32C, masked as TFRecord has it


def _table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return tuple(table)


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
