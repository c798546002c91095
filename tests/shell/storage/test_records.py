"""Records of jobs, read from real files: every record once, whatever else stands there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shell.storage.storing import NOW, wait_until
from tests.support import quickest, spent
from trainforged.storage.errors import StorageDamaged
from trainforged.storage.following import records
from trainforged.storage.following.recordfiles import split
from trainforged.storage.following.records import (
    LiveAttempt,
    RecordReader,
    attempts_below,
    read_everything,
    times_of_signs,
)
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


def line(kind: str = "report", time: float = NOW, **fields: Any) -> bytes:
    return json.dumps({"kind": kind, "time": time, **fields}).encode() + b"\n"


def report(step: int, time: float | None = None, **metrics: float) -> bytes:
    return line(time=NOW + step if time is None else time, step=step, steps=1000, metrics=metrics)


class Job:
    """An attempt's folder, written to as its ranks do."""

    def __init__(self, state: Path, job: int = 1, attempt: int = 1) -> None:
        self.dir = state / "jobs" / str(job) / "attempts" / str(attempt)
        self.dir.mkdir(parents=True)
        self.live = LiveAttempt(job, attempt, self.dir)

    def write(self, data: bytes, rank: int = 0) -> None:
        with open(self.dir / f"records-{rank}.jsonl", "ab") as file:
            file.write(data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MetricStore]:
    store = MetricStore(tmp_path / "metrics.db").open()
    yield store
    store.close()


@pytest.fixture
def reader(store: MetricStore) -> RecordReader:
    return RecordReader(store)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def values(store: MetricStore, job: int = 1, name: str = "loss", rank: int = 0) -> list[float | str | None]:
    series = store.query(job, [name], rank=rank)
    return list(series[0].value) if series else []


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


# ---------------------------------------------------------------- what is gathered


def test_what_a_job_says_is_gathered_stored_and_shown(
    reader: RecordReader, store: MetricStore, job: Job
) -> None:
    job.write(report(10, loss=2.0, accuracy=0.1) + line("phase", name="evaluate", state="begin"))
    job.write(line("checkpoint", step=10, path="/c/10", size=5, seconds=1.0, metrics={"loss": 2.0}))
    (news,) = reader.gather([job.live])
    assert (news.job, news.attempt, news.reports, news.skipped, news.more) == (1, 1, 1, {}, False)
    assert news.progress is not None
    assert (news.progress.step, news.progress.steps, news.progress.phase) == (10, 1000, "evaluate")
    assert news.progress.metrics == {"loss": 2.0, "accuracy": 0.1}
    assert [type(note.record).__name__ for note in news.notes] == ["Checkpoint"]

    job.write(line("phase", name="evaluate", state="end") + report(60, loss=float("nan")))
    reader.gather([job.live])
    shown = reader.progress(1, now=NOW + 70)
    assert shown is not None
    assert (shown.step, shown.phase, shown.fraction) == (60, None, 0.06)
    assert shown.metrics == {"loss": None, "accuracy": 0.1}
    assert shown.eta == pytest.approx(940 - 10)
    assert values(store) == [2.0, "NaN"]
    assert reader.progress(2) is None


def test_progress_survives_a_restart(store: MetricStore, job: Job) -> None:
    job.write(report(10) + report(20) + line("phase", name="evaluate", state="begin"))
    before = RecordReader(store)
    before.gather([job.live])
    after = RecordReader(store)
    assert after.phase(1, job.live.attempt) == "evaluate"
    assert after.phase(1, job.live.attempt + 1) is None, "it was another attempt's"
    assert after.progress(1, NOW) == before.progress(1, NOW)
    job.write(report(30))
    after.gather([job.live])
    shown = after.progress(1)
    assert shown is not None
    assert (shown.step, shown.phase, shown.eta) == (30, "evaluate", pytest.approx(970))


def test_when_an_attempt_gave_signs_is_read_from_its_end(job: Job) -> None:
    assert times_of_signs(job.dir) == []
    job.write(report(10) + b"rubbish\n" + line("checkpoint", time=NOW + 11, path="c", step=10) + report(20))
    job.write(report(5), rank=1)
    assert times_of_signs(job.dir) == [NOW + 10, NOW + 11, NOW + 20]
    assert times_of_signs(job.dir, most=len(report(20)) + 1) == [NOW + 20]


def test_other_ranks_are_stored_under_their_rank_and_not_shown(
    reader: RecordReader, store: MetricStore, job: Job
) -> None:
    job.write(report(1, loss=0.1))
    job.write(report(5, loss=0.5) + line("stopping"), rank=3)
    (news,) = reader.gather([job.live])
    assert (news.reports, news.progress and news.progress.step) == (1, 1)
    assert [(note.rank, note.record) for note in news.notes] == [(3, Stopping(time=NOW))]
    assert values(store) == [0.1]
    assert values(store, rank=3) == [0.5]


def test_two_attempts_in_one_call(tmp_path: Path, reader: RecordReader, store: MetricStore, job: Job) -> None:
    second = Job(tmp_path, attempt=2)
    job.write(report(1, loss=1.0) + report(2, loss=2.0) + report(3, loss=3.0))
    second.write(report(2, time=NOW + 100, loss=20.0))
    gathered = reader.gather([job.live, second.live])
    assert [(news.attempt, news.reports) for news in gathered] == [(1, 3), (2, 1)]
    shown = reader.progress(1)
    assert shown is not None
    assert shown.step == 2
    assert values(store) == [1.0, 20.0]


def test_the_end_of_an_old_attempt_does_not_move_the_progress_back(
    tmp_path: Path, reader: RecordReader, job: Job
) -> None:
    second = Job(tmp_path, attempt=2)
    second.write(report(50))
    reader.gather([second.live])
    job.write(report(40))
    reader.drain(job.live)
    shown = reader.progress(1)
    assert shown is not None
    assert shown.step == 50


def test_many_notes_are_thinned(reader: RecordReader, store: MetricStore, job: Job) -> None:
    job.write(b"".join(line("resumed", step=n) for n in range(records.NOTES_AT_ONCE + 7)))
    (news,) = reader.gather([job.live])
    assert len(news.notes) == len(store.notes(1)) == records.NOTES_AT_ONCE
    assert news.skipped == {"too_many_notes": 7}
    assert news.notes == store.notes(1)
    assert news.notes[-1].record == Resumed(time=NOW, step=records.NOTES_AT_ONCE + 6)


def test_too_many_names_are_refused_and_the_others_stay(
    reader: RecordReader, store: MetricStore, job: Job
) -> None:
    for start in (0, 600):
        job.write(line(step=start, metrics={f"m{n}": 1.0 for n in range(start, start + 600)}))
    job.write(line(step=700, metrics={"m0": 2.0, "y" * 201: 1.0}))
    (news,) = reader.gather([job.live])
    assert news.skipped == {"too_many_series": 201}
    assert len(store.names(1)) == 1000
    assert values(store, name="m0") == [1.0, 2.0]


# ---------------------------------------------------------------- bounds


def test_a_job_that_reports_much_delays_nobody(
    tmp_path: Path, reader: RecordReader, store: MetricStore
) -> None:
    jobs = [Job(tmp_path, number) for number in range(1, 31)]
    for loud in jobs[:-1]:
        loud.write(report(1, loss=0.1) * 3000)
    jobs[-1].write(report(1, loss=0.1))
    heard: dict[int, int] = {}
    calls = 0
    while news := reader.gather([job.live for job in jobs]):
        calls += 1
        for entry in news:
            heard[entry.job] = heard.get(entry.job, 0) + entry.reports
        read = sum(store.place(job.live.job, 1, 0).offset for job in jobs)
        assert read <= calls * records.BYTES_AT_ONCE
        assert any(entry.more for entry in news) == (read < sum(_size(job) for job in jobs))
        if calls == 8:
            assert heard.keys() == set(range(1, 31))
    assert heard == dict.fromkeys(range(1, 30), 3000) | {30: 1}


def _size(job: Job) -> int:
    return (job.dir / "records-0.jsonl").stat().st_size


def test_ten_thousand_records_are_taken_in_quickly(reader: RecordReader, job: Job) -> None:
    def take_in() -> None:
        assert sum(news.reports for news in reader.drain(job.live)) == 10_000

    def seconds() -> float:
        job.write(b"".join(report(n, loss=0.5) for n in range(10_000)))
        return spent(take_in)

    assert quickest(seconds, 1.0) < 1.0


# ---------------------------------------------------------------- each record once


def test_what_could_not_be_stored_is_read_again(
    reader: RecordReader, store: MetricStore, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.write(report(1, loss=0.1))
    with store._database.write() as connection:  # a trigger fails as a disk does: inside the transaction
        connection.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON progress BEGIN SELECT raise(FAIL, 'x'); END"
        )
    with pytest.raises(Exception, match="x"):
        reader.gather([job.live])
    assert values(store) == []
    assert reader.progress(1) is None
    with store._database.write() as connection:
        connection.execute("DROP TRIGGER broken")
    job.write(report(2, loss=0.2))
    assert [news.reports for news in reader.gather([job.live])] == [2]
    assert values(store) == [0.1, 0.2]


_GATHER_FOREVER = """
import sys
from pathlib import Path
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.following.records import LiveAttempt, RecordReader
state = Path(sys.argv[1])
reader = RecordReader(MetricStore(state / "metrics.db").open())
live = LiveAttempt(1, 1, state / "jobs" / "1" / "attempts" / "1")
print("ready", flush=True)
while True:
    reader.gather([live])
"""


def test_kill_9_while_gathering_loses_and_doubles_nothing(tmp_path: Path, job: Job) -> None:
    chance, step = random.Random(4), 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _GATHER_FOREVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(chance.randrange(5, 60)):
            data = b"".join(report(n, loss=float(n)) for n in range(step, step + 50))
            cut = chance.randrange(len(data))
            job.write(data[:cut])
            job.write(data[cut:])
            step += 50
        process.send_signal(signal.SIGKILL)
        process.communicate()
    store = MetricStore(tmp_path / "metrics.db").open()
    assert store.set_aside is None
    RecordReader(store).drain(job.live)
    (series,) = store.query(1)
    assert series.step == tuple(map(float, range(step)))
    assert series.value == series.step
    store.close()


def test_a_damaged_store_is_set_aside_and_filled_again(tmp_path: Path, job: Job) -> None:
    second = Job(tmp_path, attempt=2)
    job.write(b"".join(report(n, loss=float(n)) for n in range(100)))
    second.write(b"".join(report(n, time=NOW + 1000 + n, loss=n / 2) for n in range(50, 70)))
    other = Job(tmp_path, 12)
    other.write(report(1, loss=0.5) + line("resumed", step=1))
    store = MetricStore(tmp_path / "metrics.db").open()
    reader = RecordReader(store)
    reader.gather([job.live, second.live, other.live])
    before = [store.query(1), store.query(12), store.notes(12), reader.progress(1), reader.progress(12)]
    store.close()
    (tmp_path / "metrics.db").write_bytes(b"\xa5" * 50_000)

    store = MetricStore(tmp_path / "metrics.db").open()
    assert store.set_aside is not None
    assert store.set_aside.read_bytes() == b"\xa5" * 50_000
    reader = RecordReader(store)
    assert [live.job for live in attempts_below(tmp_path / "jobs")] == [1, 1, 12]
    read_everything(reader, tmp_path / "jobs")
    assert [
        store.query(1),
        store.query(12),
        store.notes(12),
        reader.progress(1),
        reader.progress(12),
    ] == before
    read_everything(reader, tmp_path / "jobs")
    assert store.query(1) == before[0]
    store.close()


def test_a_store_that_breaks_while_open_can_start_over(tmp_path: Path, job: Job) -> None:
    job.write(b"".join(report(n, loss=float(n)) for n in range(2000)))
    store = MetricStore(tmp_path / "metrics.db").open()
    reader = RecordReader(store)
    reader.gather([job.live])
    store.tidy()
    with open(tmp_path / "metrics.db", "r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * 40_000)
    with pytest.raises(StorageDamaged):
        store.query(1)
    aside = reader.start_over()
    assert aside.exists()
    assert reader.progress(1) is None
    job.write(report(2000, loss=0.0))
    assert [news.reports for news in reader.drain(job.live)] == [2001]
    assert len(values(store)) == 2001
    store.close()


def test_a_forgotten_job_is_gone_and_can_be_read_anew(
    reader: RecordReader, store: MetricStore, job: Job
) -> None:
    job.write(report(1, loss=0.1) + line("resumed", step=1))
    reader.gather([job.live])
    reader.forget(1)
    assert (store.query(1), store.notes(1), reader.progress(1)) == ((), (), None)
    reader.gather([job.live])
    assert values(store) == [0.1]


def test_the_in_job_library_and_the_reader_agree(reader: RecordReader, store: MetricStore, job: Job) -> None:
    script = (
        "import trainforge\n"
        "trainforge.report(step=1, steps=4, epoch=0, epochs=2, loss=0.5, lr=float('nan'))\n"
        "with trainforge.phase('evaluate'): pass\n"
        "trainforge.report(epoch=1, accuracy=1)\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TRAINFORGE")}
    environ |= {"TRAINFORGE_ATTEMPT_DIR": str(job.dir), "RANK": "0"}
    subprocess.run([sys.executable, "-c", script], env=environ, cwd=Path(__file__).parents[3], check=True)
    wait_until(lambda: (job.dir / "records-0.jsonl").exists())
    (news,) = reader.gather([job.live])
    assert (news.reports, news.skipped) == (2, {})
    shown = reader.progress(1)
    assert shown is not None
    assert (shown.step, shown.steps, shown.epoch, shown.epochs) == (1, 4, 1, 2)
    assert shown.metrics == {"loss": 0.5, "lr": None, "accuracy": 1.0}


# ---------------------------------------------------------------- room


def test_what_is_stored_gives_its_room_back_but_for_the_newest_part(
    job: Job, store: MetricStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LEAST_KEPT", 0)
    monkeypatch.setattr(records, "GIVEN_AT_ONCE", 100_000)
    reader = RecordReader(store, lambda: 300_000)
    path, count = job.dir / "records-0.jsonl", 12_000
    for start in range(0, count, 1000):
        job.write(b"".join(report(step, loss=float(step)) for step in range(start, start + 1000)))
        while reader.gather([job.live]):
            pass
    job.write(report(count, loss=float(count)))
    reader.gather([job.live])

    assert path.stat().st_size > 900_000
    if path.stat().st_blocks * 512 > 900_000:
        pytest.skip("this file system has no holes")
    assert 300_000 <= path.stat().st_blocks * 512 < 500_000
    assert values(store) == [float(step) for step in range(count + 1)]

    again = MetricStore(tmp_path / "again.db").open()
    read_everything(RecordReader(again), tmp_path / "jobs")
    found = values(again)
    assert found[-1] == count
    assert found == [float(step) for step in range(count + 1 - len(found), count + 1)]
    assert len(found) > 2500, "the newest part is still there"
    again.close()


def test_with_room_nothing_is_given_back(job: Job, store: MetricStore) -> None:
    reader = RecordReader(store, lambda: 0)
    job.write(b"".join(report(step, loss=1.0) for step in range(10_000)))
    before = (job.dir / "records-0.jsonl").read_bytes()
    reader.drain(job.live)
    assert (job.dir / "records-0.jsonl").read_bytes() == before, "so much is always kept"
