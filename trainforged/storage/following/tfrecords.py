"""The frames of a TensorBoard event file: TFRecord, each with its length and two checksums.

https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details: length (8 bytes, little
endian), masked CRC-32C of it, content, masked CRC-32C of that. The file is a job's to write, so a length is
believed only with its checksum, and what is too large to hold scalars is stepped over without being read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import msgspec

LARGEST = 64 * 1024  # bytes of content that is looked at: an event of scalars has about fifty
STEPS_AT_ONCE = 256  # frames stepped over in one call

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_MASK = 0xA282EAD8


class Frame(msgspec.Struct, frozen=True):
    """One content with the checksum that stood behind it, which is not yet checked: see `sound`."""

    content: bytes
    checksum: int

    @property
    def sound(self) -> bool:
        return masked_crc(self.content) == self.checksum


class Frames(msgspec.Struct, frozen=True):
    """What stands behind a place. `more`: the limit left something to read. `broken`: what follows cannot
    be made out, now or later."""

    offset: int
    frames: tuple[Frame, ...] = ()
    more: bool = False
    broken: bool = False


def read_frames(descriptor: int, offset: int, limit: int) -> Frames:
    """Whole frames from `offset` on, from about `limit` bytes. Raises `OSError`."""
    size = os.fstat(descriptor).st_size
    if size < offset:
        return Frames(offset, broken=True)
    frames: list[Frame] = []
    read = steps = 0
    while read < limit and steps < STEPS_AT_ONCE:
        data = os.pread(descriptor, LARGEST + 16, offset)
        used, broken = _take(data, frames)
        offset, read = offset + used, read + used
        if broken:
            return Frames(offset, tuple(frames), broken=True)
        over = _too_large(data[used:])
        if (over is None and not used) or (over is not None and offset + over > size):
            return Frames(offset, tuple(frames))  # the next one is not yet whole
        if over is not None:
            offset, steps = offset + over, steps + 1
    return Frames(offset, tuple(frames), more=offset < size)


def _take(data: bytes, frames: list[Frame]) -> tuple[int, bool]:
    """Append the whole frames at the beginning of `data`; the bytes they took, and whether what follows is
    none."""
    at = 0
    while at + 12 <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        if masked_crc(data[at : at + 8]) != checksum:
            return at, True
        end = at + 12 + length
        if length > LARGEST or end + 4 > len(data):
            break
        frames.append(Frame(data[at + 12 : end], _CRC.unpack_from(data, end)[0]))
        at = end + 4
    return at, False


def _too_large(data: bytes) -> int | None:
    """Bytes of the frame at the beginning of `data`, whose header is sound, if it is one to be stepped
    over."""
    if len(data) < 12:
        return None
    length = int(_HEADER.unpack_from(data)[0])
    return length + 16 if length > LARGEST else None


def masked_crc(data: bytes) -> int:
    """The checksum as TFRecord stores it."""
    crc = _crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _make_crc32c() -> Callable[[bytes], int]:
    """CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), a byte at a time."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)

    def crc32c(data: bytes) -> int:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
        return crc ^ 0xFFFFFFFF

    return crc32c


_crc32c = _make_crc32c()
