"""Lines of records: what each says, and where one begins and ends, whatever else stands there."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.storage.following.recording import Job, line, report, values
from tests.shell.storage.storing import NOW
from trainforged.storage.following import records
from trainforged.storage.following.recordfiles import split
from trainforged.storage.following.records import LiveAttempt, RecordReader
from trainforged.storage.metrics.ingestion import Place
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import (
    LONGEST_LINE,
    Checkpoint,
    CheckpointSkipped,
    Report,
    Resumed,
    Rubbish,
    Stopping,
    parse,
)

# ---------------------------------------------------------------- one line


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (report(3, loss=0.5), Report(time=NOW + 3, step=3, steps=1000, metrics={"loss": 0.5})),
        (
            line(step=1, metrics={"loss": float("inf")}),
            Report(time=NOW, step=1, metrics={"loss": float("inf")}),
        ),
        (line(step=float("nan"), epoch=2), Report(time=NOW, epoch=2)),
        (line(metrics={"a": "x", "b": 1, "c": None, "d": [1]}), Report(time=NOW, metrics={"b": 1.0})),
        (line(step="three", metrics=[1]), Report(time=NOW)),
        (line(new_field={"a": 1}), Report(time=NOW)),
        (line("resumed", step=7, path="/c/7"), Resumed(time=NOW, step=7, path="/c/7")),
        (line("stopping"), Stopping(time=NOW)),
        (
            line("checkpoint_skipped", path="/c", problem="torn"),
            CheckpointSkipped(time=NOW, path="/c", problem="torn"),
        ),
        (
            line("checkpoint", step=5, path="/c/5", size=10, seconds=0.5, metrics=None),
            Checkpoint(time=NOW, step=5, path="/c/5", size=10, seconds=0.5),
        ),
        (b"", Rubbish.NOT_JSON),
        (b"not json", Rubbish.NOT_JSON),
        (b"\0\0\0", Rubbish.NOT_JSON),
        (b"\xff\xfe", Rubbish.NOT_JSON),
        (b'{"kind": "report", "time": 1', Rubbish.NOT_JSON),
        (b"[" * 50_000, Rubbish.NOT_JSON),
        (b"[1, 2]", Rubbish.MALFORMED),
        (b'{"kind": "report"}', Rubbish.MALFORMED),
        (line(time=float("nan")), Rubbish.MALFORMED),
        (line(time=-1.0), Rubbish.MALFORMED),
        (line(time=1e300), Rubbish.MALFORMED),
        (line("checkpoint", path=5, step=1), Rubbish.MALFORMED),
        (line("checkpoint", path="/c", step=float("nan")), Rubbish.MALFORMED),
        (line("resumed", path="/c"), Rubbish.MALFORMED),
        (line("telemetry"), Rubbish.UNKNOWN_KIND),
        (b'{"time": 1}', Rubbish.UNKNOWN_KIND),
        (b'{"kind": ["report"], "time": 1}', Rubbish.UNKNOWN_KIND),
        (line(metrics={"\ud800": 1}), Rubbish.MALFORMED),
        (line("phase", name="\udcff", state="begin"), Rubbish.MALFORMED),
        (line(metrics={"x" * LONGEST_LINE: 1}), Rubbish.TOO_LONG),
    ],
)
def test_what_a_line_says(data: bytes, expected: object) -> None:
    assert parse(data.rstrip(b"\n")) == expected


def test_nan_is_kept() -> None:
    record = parse(line(metrics={"loss": float("nan"), "lr": 0.1}))
    assert isinstance(record, Report)
    assert record.metrics["loss"] != record.metrics["loss"]
    assert record.metrics["lr"] == 0.1


def test_numbers_beyond_a_float_are_infinite() -> None:
    record = parse(b'{"kind": "report", "time": 1, "step": 1, "metrics": {"a": -1' + b"0" * 400 + b"}}")
    assert isinstance(record, Report)
    assert record.metrics == {"a": float("-inf")}


@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: json.dumps({"kind": text, "time": 1}).encode())
)
def test_no_line_raises(data: bytes) -> None:
    parse(data)


# ---------------------------------------------------------------- whole lines


@given(lines=st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=8), cuts=st.data())
def test_lines_come_out_once_however_they_arrive(lines: list[bytes], cuts: st.DataObject) -> None:
    data = b"".join(line + b"\n" for line in lines)
    place, got, arrived = Place(), [], 0
    while arrived < len(data):
        arrived = cuts.draw(st.integers(arrived + 1, len(data)))
        chunk = split(data[place.offset : arrived], place, more=False)
        place, got = chunk.place, got + list(chunk.lines)
    assert got == lines
    assert place == Place(len(data))


def test_a_line_without_end_waits_for_it(reader: RecordReader, store: MetricStore, job: Job) -> None:
    whole = report(2, loss=0.2)
    job.write(report(1, loss=0.1) + whole[:20])
    assert [news.reports for news in reader.gather([job.live])] == [1]
    assert reader.gather([job.live]) == ()
    job.write(whole[20:])
    assert [news.reports for news in reader.gather([job.live])] == [1]
    assert values(store) == [0.1, 0.2]


@pytest.mark.parametrize("length", [LONGEST_LINE + 1, 3 * records.FILE_AT_ONCE])
def test_a_line_that_is_too_long_is_skipped_also_after_a_restart(
    store: MetricStore, job: Job, length: int
) -> None:
    reader = RecordReader(store)
    job.write(report(1, loss=0.1) + b"x" * length)
    skipped: dict[str, int] = {}
    while news := reader.gather([job.live]):
        skipped |= news[0].skipped
        reader = RecordReader(store)
    job.write(b"x" * 10 + b"\n" + report(2, loss=0.2))
    reader.gather([job.live])
    assert values(store) == [0.1, 0.2]
    assert skipped == {"too_long": 1}


def test_a_hole_of_terabytes_is_passed_at_once(reader: RecordReader, store: MetricStore, job: Job) -> None:
    """A job's end waits for its last records: a sparse file would hold its GPUs for days."""
    job.write(report(1, loss=0.1))
    os.truncate(job.dir / "records-0.jsonl", 2**40)
    skipped: dict[str, int] = {}
    for _ in range(10):
        for news in reader.gather([job.live]):
            skipped |= news.skipped
    assert skipped == {"too_long": 1}
    job.write(b"\n" + report(2, loss=0.2))
    reader.gather([job.live])
    assert values(store) == [0.1, 0.2]


def test_rubbish_is_counted_and_stops_nothing(reader: RecordReader, store: MetricStore, job: Job) -> None:
    job.write(b"oops\n\n" + report(1, loss=0.1) + b"\0\0\0\n" + line("future") + report(2, loss=0.2))
    (news,) = reader.gather([job.live])
    assert news.skipped == {"not_json": 2, "unknown_kind": 1}
    assert values(store) == [0.1, 0.2]


def test_a_file_that_gets_shorter_doubles_nothing(reader: RecordReader, store: MetricStore, job: Job) -> None:
    job.write(report(1, loss=0.1) + report(2, loss=0.2))
    reader.gather([job.live])
    os.truncate(job.dir / "records-0.jsonl", len(report(1, loss=0.1)))
    (news,) = reader.gather([job.live])
    assert news.skipped == {"truncated": 1}
    job.write(report(3, loss=0.3))
    reader.gather([job.live])
    assert values(store) == [0.1, 0.2, 0.3]


def test_only_regular_files_named_like_records_are_read(
    reader: RecordReader, store: MetricStore, job: Job
) -> None:
    (job.dir / "elsewhere").write_bytes(report(1, loss=9))
    (job.dir / "records-0.jsonl").symlink_to("elsewhere")
    os.mkfifo(job.dir / "records-1.jsonl")
    (job.dir / "records-2.jsonl").mkdir()
    (job.dir / "records-99999.jsonl").write_bytes(report(1, loss=9))
    assert reader.gather([job.live, LiveAttempt(7, 1, job.dir / "nowhere")]) == ()
