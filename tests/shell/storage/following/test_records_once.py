"""Every record counts once, over kills, damage and a store that is made anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.storage.following.recording import Job, line, report, values
from tests.shell.storage.storing import NOW, wait_until
from trainforged.storage.errors import StorageDamaged
from trainforged.storage.following.records import RecordReader, attempts_below, read_everything
from trainforged.storage.metrics.store import MetricStore


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
            cwd=Path(__file__).parents[4],
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
    subprocess.run([sys.executable, "-c", script], env=environ, cwd=Path(__file__).parents[4], check=True)
    wait_until(lambda: (job.dir / "records-0.jsonl").exists())
    (news,) = reader.gather([job.live])
    assert (news.reports, news.skipped) == (2, {})
    shown = reader.progress(1)
    assert shown is not None
    assert (shown.step, shown.steps, shown.epoch, shown.epochs) == (1, 4, 1, 2)
    assert shown.metrics == {"loss": 0.5, "lr": None, "accuracy": 1.0}
