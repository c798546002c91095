"""What one line of a records file says; the kinds are those of `trainforge.protocol`.

A job may write anything into the file, so nothing here raises: a line that cannot be used is
`Rubbish`, named by one word.
"""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Any, Literal, get_args

import msgspec

from trainforge import protocol

LONGEST_LINE = 64 * 1024
_LAST_TIME = 253402300799.0  # the end of the year 9999, where datetime ends too
_POSITION = ("step", "steps", "epoch", "epochs")


class Rubbish(StrEnum):
    """Why a line, or a part of what it said, was skipped."""

    NOT_JSON = "not_json"
    TOO_LONG = "too_long"
    UNKNOWN_KIND = "unknown_kind"  # of a newer library, perhaps
    MALFORMED = "malformed"
    TRUNCATED = "truncated"  # the file got shorter: what it says now is read from its end on
    TOO_MANY_NOTES = "too_many_notes"
    TOO_MANY_SERIES = "too_many_series"  # or a name that is too long


class Line(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind"):
    """`time` is in seconds since the epoch, by the job's clock. Nothing in a record leads back to it, so the
    collector is spared ten thousand of them a second."""

    time: float


class Report(Line, frozen=True, kw_only=True, tag=protocol.REPORT):
    """NaN and infinity stand in `metrics` as they are; positions are finite."""

    step: float | None = None
    steps: float | None = None
    epoch: float | None = None
    epochs: float | None = None
    metrics: dict[str, float] = {}


class Phase(Line, frozen=True, kw_only=True, tag=protocol.PHASE):
    name: str
    state: Literal["begin", "end"]


class Resumed(Line, frozen=True, kw_only=True, tag=protocol.RESUMED):
    step: float
    path: str | None = None


class Checkpoint(Line, frozen=True, kw_only=True, tag=protocol.CHECKPOINT):
    path: str
    step: float
    size: int | None = None
    seconds: float | None = None
    metrics: dict[str, float] = {}


class CheckpointSkipped(Line, frozen=True, kw_only=True, tag=protocol.CHECKPOINT_SKIPPED):
    path: str
    problem: str = ""


class Stopping(Line, frozen=True, kw_only=True, tag=protocol.STOPPING):
    pass


Record = Report | Phase | Resumed | Checkpoint | CheckpointSkipped | Stopping

_KINDS = [kind.__struct_config__.tag for kind in get_args(Record)]
_decode = msgspec.json.Decoder(Record).decode


def parse(line: bytes) -> Record | Rubbish:
    """The record in `line`, which has no newline."""
    if len(line) > LONGEST_LINE:
        return Rubbish.TOO_LONG
    try:
        record: Record = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _parse_patiently(line)
    return record if 0.0 <= record.time <= _LAST_TIME else Rubbish.MALFORMED


def _parse_patiently(line: bytes) -> Record | Rubbish:
    """As `parse`, for what Python's json writes and JSON has not (NaN, Infinity), and for records in
    which one number is none: the rest of them counts."""
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        return Rubbish.NOT_JSON
    if not isinstance(tree, dict):
        return Rubbish.MALFORMED
    if tree.get("kind") not in _KINDS:
        return Rubbish.UNKNOWN_KIND
    try:
        record = msgspec.convert(_with_numbers(tree), Record)
        msgspec.json.encode(record)  # a text that is no Unicode could not be stored
    except (msgspec.ValidationError, UnicodeEncodeError):
        return Rubbish.MALFORMED
    return record if 0.0 <= record.time <= _LAST_TIME else Rubbish.MALFORMED


def _with_numbers(tree: dict[str, Any]) -> dict[str, Any]:
    position = {name: value for name in _POSITION if (value := _number(tree.get(name))) is not None}
    metrics = tree.get("metrics")
    numbers = {name: _number(value) for name, value in metrics.items()} if isinstance(metrics, dict) else {}
    return (
        {name: value for name, value in tree.items() if name not in _POSITION}
        | {name: value for name, value in position.items() if math.isfinite(value)}
        | {"metrics": {name: value for name, value in numbers.items() if value is not None}}
    )


def _number(value: object) -> float | None:
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
