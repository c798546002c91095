"""TensorBoard event files written by hand, as a job without TensorBoard could: the standard library alone."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path


def crc32c(data: bytes) -> int:
    """Bit by bit, so as not to share a mistake with the table of the reader."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + masked(length) + content + masked(content)


def varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def simple(tag: str, value: float) -> bytes:
    return text(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)


def event(when: float, step: int | None, *values: bytes) -> bytes:
    content = varint(1 << 3 | 1) + struct.pack("<d", when)
    content += number(2, step) if step is not None else b""
    return content + (text(5, b"".join(text(1, value) for value in values)) if values else b"")


class EventWriter:
    """One event file, which grows with each call and begins as a writer's does."""

    def __init__(self, folder: Path, name: str = "", begun: float | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.time() if begun is None else begun
        name = name or f"events.out.tfevents.{int(begun):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self.path = folder / name
        self.raw(frame(varint(1 << 3 | 1) + struct.pack("<d", begun) + text(3, b"brain.Event:2")))

    def raw(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def scalar(self, tag: str, value: float, step: int | None, when: float | None = None) -> None:
        self.raw(frame(event(time.time() if when is None else when, step, simple(tag, value))))


if __name__ == "__main__":  # FOLDER FIRST LAST: a training whose loss falls from step to step
    writer = EventWriter(Path(sys.argv[1]))
    for step in range(int(sys.argv[2]), int(sys.argv[3]) + 1):
        writer.scalar("train/loss", 100.0 - step, step)
    sys.exit(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
