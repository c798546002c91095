"""Streams, followed output and waiting, while the daemon goes away and comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.client.daemon import Daemon, lively, request
from tests.support import wait_for
from trainforge.api import EventView, JobView
from trainforge.client.client import Client, NoDaemon
from trainforge.client.transport import Stream
from trainforge.states import JobState


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with lively(tmp_path / "d.sock") as daemon:
        yield daemon


def test_events_go_on_over_restarts_without_gap_or_double(daemon: Daemon) -> None:
    got: list[int] = []
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool, client.watch(0) as stream:
        reading = pool.submit(lambda: got.extend(i.id for i in stream if isinstance(i, EventView)))
        for round in range(10):
            for _ in range(50):
                daemon.do(daemon.service.happen, "one")
            if round % 2:
                daemon.cut()
            else:
                daemon.stop()
                daemon.do(daemon.service.happen, "while_down")
                daemon.start()
        wait_for(lambda: len(got) >= 505)
        wait_for(lambda: stream.connected)
        stream.close()
        reading.result(60)
    assert got == list(range(1, 506))


def test_a_stream_of_new_events_misses_none_while_it_is_cut_off(daemon: Daemon) -> None:
    daemon.do(daemon.service.happen, "past")
    with Client(daemon.path) as client, client.watch() as stream:
        stream.connect()
        daemon.do(daemon.service.happen, "first")
        item = next(stream)
        assert isinstance(item, EventView)
        assert item.type == "first"
    with Client(daemon.path) as client, client.watch() as stream, ThreadPoolExecutor() as pool:
        first = pool.submit(next, stream)
        wait_for(lambda: stream.place == 2)  # told before anything happened
        daemon.stop()
        wait_for(lambda: not stream.connected)
        daemon.do(daemon.service.happen, "while_down")
        daemon.start()
        item = first.result(60)
        assert isinstance(item, EventView)
        assert item.type == "while_down"


def test_without_reconnect_the_end_is_told(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        events = client.events(0, follow=True, reconnect=False)
        daemon.do(daemon.service.happen, "one")
        assert next(events).type == "one"
        daemon.stop()
        with pytest.raises(NoDaemon):
            next(events)


def test_progress_and_gpus_are_in_the_stream(daemon: Daemon) -> None:
    from trainforge.api import GpuList, JobProgress

    with Client(daemon.path) as client, client.watch() as stream:
        stream.connect()
        wait_for(lambda: daemon.service.live.watched)
        daemon.do(daemon.service.live.progress, JobProgress(job=3))
        assert next(stream) == JobProgress(job=3)
        daemon.do(daemon.service.live.gpus, GpuList(gpus=()))
        assert next(stream) == GpuList(gpus=())


def test_a_silent_stream_is_taken_for_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforge.client.client.SILENCE", 0.1)
    quiet = Daemon(tmp_path / "d.sock", heartbeat=60)
    with quiet, Client(quiet.path) as client, pytest.raises(NoDaemon):
        next(client.watch(reconnect=False))


def test_closing_from_another_thread_ends_the_iteration(daemon: Daemon) -> None:
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        stream = client.watch()
        reading = pool.submit(list, stream)
        wait_for(lambda: stream.connected)
        stream.close()
        assert reading.result(60) == []
        daemon.stop()
        waiting = client.watch()
        trying = pool.submit(list, waiting)  # nobody is there: it tries again and again
        waiting.close()
        assert trying.result(60) == []


def test_closing_while_it_connects_ends_the_iteration(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        stream = client.watch(0)
        connect = stream._open

        def closed_meanwhile(place: int | None) -> Stream:
            opened = connect(place)
            stream.close()
            return opened

        stream._open = closed_meanwhile
        assert list(stream) == []


def test_followed_output_and_its_loss(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        client.submit(request("one"))
        output = client.logs(1, follow=True)
        daemon.do(daemon.service.write, 1, b"one\n")
        assert next(output) == b"one\n"
        daemon.do(daemon.service.end, 1)
        daemon.do(daemon.service.write, 1, b"two\n")
        assert b"".join(output) == b"two\n"

        client.submit(request("two"))
        output = client.logs(2, follow=True)
        daemon.do(daemon.service.write, 2, b"one\n")
        assert next(output) == b"one\n"
        daemon.stop()
        with pytest.raises(NoDaemon):
            list(output)


def test_leaving_followed_output_closes_it(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        client.submit(request("one"))
        daemon.do(daemon.service.write, 1, b"one\n")
        output = client.logs(1, follow=True)
        next(output)
        assert daemon.service.followers == 1
        output.close()  # type: ignore[attr-defined]
        wait_for(lambda: daemon.service.followers == 0)


def waiting(client: Client, job: int, timeout: float | None) -> Callable[[], JobState]:
    return lambda: client.wait(job, timeout).state


def test_waiting_for_a_job(daemon: Daemon) -> None:
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        client.submit(request("one"))
        client.submit(request("other"))
        done = pool.submit(waiting(client, 1, None))
        wait_for(lambda: daemon.service.live.watched)
        daemon.do(daemon.service.end, 2)
        daemon.stop()
        daemon.start()
        assert not done.done()
        daemon.do(daemon.service.end, 1, JobState.FAILED)
        assert done.result(60) == JobState.FAILED
        assert client.wait(2, 0).state == JobState.SUCCEEDED


def test_a_job_that_ends_while_it_is_looked_at_is_not_waited_for_in_vain(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        client.submit(request("one"))
        look = client.job

        def ended_meanwhile(job: int) -> JobView:
            seen = look(job)
            if not seen.state.ended:
                daemon.do(daemon.service.end, job)
            return seen

        monkeypatch.setattr(client, "job", ended_meanwhile)
        assert pool.submit(client.wait, 1, 60).result(60).state == JobState.SUCCEEDED


def test_waiting_in_vain(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        client.submit(request("one"))
        with pytest.raises(TimeoutError, match="job 1 has not ended: it waits"):
            client.wait(1, 0.05)
