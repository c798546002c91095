"""Records of jobs, read from real files: what is gathered, stored and shown, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.storage.following.recording import Job, line, report, values
from tests.shell.storage.storing import NOW
from tests.support import quickest, spent
from trainforged.storage.following import records
from trainforged.storage.following.records import RecordReader, read_everything, times_of_signs
from trainforged.storage.metrics.store import MetricStore
from trainforged.storage.recordlines import Resumed, Stopping

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
