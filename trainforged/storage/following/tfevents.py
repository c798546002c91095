"""Scalars out of one event of TensorBoard, read from its protobuf by hand: a handful of fields.

tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto. Whoever wrote it is not
trusted: what is malformed has no scalars, and nothing here raises.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import msgspec

Field = tuple[int, "int | bytes"]  # number and value: a varint, or the bytes of anything else


class Scalar(msgspec.Struct, frozen=True):
    tag: str
    value: float


class TensorBoardEvent(msgspec.Struct, frozen=True):
    """`step` of None: the event names none (which in protobuf is also how 0 is written)."""

    time: float = math.nan  # seconds since the epoch
    step: int | None = None
    scalars: tuple[Scalar, ...] = ()


class _Malformed(Exception):
    pass


def parse(content: bytes) -> TensorBoardEvent | None:
    """The event, or None where it is none."""
    try:
        return _event(content)
    except (_Malformed, struct.error):
        return None


def _event(content: bytes) -> TensorBoardEvent:
    time, step, scalars = math.nan, None, list[Scalar]()
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes) and len(value) == 8:
            time = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = _signed(value)
        elif number == 5 and isinstance(value, bytes):
            scalars += _summary(value)
    return TensorBoardEvent(time, step, tuple(scalars))


def _summary(content: bytes) -> Iterator[Scalar]:
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            scalar = _value(value)
            if scalar is not None:
                yield scalar


def _value(content: bytes) -> Scalar | None:
    """Of `Summary.Value`: tag 1, simple_value 2, tensor 8, metadata 9."""
    tag, simple, tensor, plugin = b"", None, None, b"scalars"
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            tag = value
        elif number == 2 and isinstance(value, bytes) and len(value) == 4:
            simple = float(struct.unpack("<f", value)[0])
        elif number == 8 and isinstance(value, bytes):
            tensor = value
        elif number == 9 and isinstance(value, bytes):
            plugin = _plugin(value) or plugin
    if simple is None and tensor is not None and plugin == b"scalars":
        simple = _tensor(tensor)
    return None if simple is None or not tag else Scalar(tag.decode(errors="replace"), simple)


def _plugin(content: bytes) -> bytes:
    """`SummaryMetadata.plugin_data.plugin_name`, which comes with the first value of a tag only."""
    data = next((v for n, v in _fields(content) if n == 1 and isinstance(v, bytes)), b"")
    return next((v for n, v in _fields(data) if n == 1 and isinstance(v, bytes)), b"")


# `DataType` → format of one element in `tensor_content`
_CONTENT = {
    1: "<f", 2: "<d", 3: "<i", 4: "<B", 5: "<h", 6: "<b", 9: "<q", 10: "<?", 17: "<H", 19: "<e", 22: "<I",
    23: "<Q",
}  # fmt: skip
_BFLOAT16 = 14
_HALF = 19
# field of `TensorProto` → format of one packed element; "" for varints
_LISTS = {5: "<f", 6: "<d", 7: "", 10: "", 11: "", 13: "", 16: "", 17: ""}


def _tensor(content: bytes) -> float | None:
    """The one number of a tensor without dimensions; None of any other tensor."""
    kind, found = 0, None
    raw: bytes | None = None
    for number, value in _fields(content):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            if any(field == 2 for field, _ in _fields(value)):
                return None  # it has dimensions
        elif number == 4 and isinstance(value, bytes):
            raw = value
        elif number in _LISTS:
            found = _only(_LISTS[number], value)
    if raw and kind in _CONTENT and struct.calcsize(_CONTENT[kind]) == len(raw):
        return float(struct.unpack(_CONTENT[kind], raw)[0])
    if raw and kind == _BFLOAT16 and len(raw) == 2:
        return float(struct.unpack("<f", b"\0\0" + raw)[0])
    if isinstance(found, int) and kind in (_HALF, _BFLOAT16):  # half_val: the bits of each
        bits = struct.pack("<H", found & 0xFFFF)
        return float(
            struct.unpack("<e", bits)[0] if kind == _HALF else struct.unpack("<f", b"\0\0" + bits)[0]
        )
    return None if found is None else float(found)


def _only(form: str, value: int | bytes) -> float | int | None:
    """The element of a list of one, packed or not."""
    if isinstance(value, int):
        return _signed(value)
    if form:
        return struct.unpack(form, value)[0] if len(value) == struct.calcsize(form) else None
    number, end = _varint(value, 0)
    return _signed(number) if end == len(value) else None


# ---------------------------------------------------------------- the wire format


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _Malformed
        if at + length > len(data):
            raise _Malformed
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at
    raise _Malformed


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
