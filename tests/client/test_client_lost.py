"""What the client does when the daemon goes away, is slow, or talks nonsense."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.client.daemon import Daemon, lively, request
from tests.support import wait_for
from tfctl.failures import described
from trainforge.client.client import ApiError, Client, NoDaemon
from trainforge.states import JobState


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with lively(tmp_path / "d.sock") as daemon:
        yield daemon


@contextlib.contextmanager
def saying(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """A daemon that says these things, one for each connection, whatever is asked."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for answer in answers:
            peer, _ = listener.accept()
            asked.append(peer.recv(10_000))
            peer.sendall(answer)
            peer.close()
        listener.close()
        path.unlink()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield asked
    thread.join(60)
    assert not thread.is_alive()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_a_daemon_that_says_nothing_is_told_of_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainforge.client.transport.SILENT", 0.05)
    silent: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d.sock"))
        listener.listen()
        with pytest.raises(NoDaemon, match=r"has not answered within 0\.2 s") as gone:
            Client(tmp_path / "d.sock", timeout=0.2, on_silence=silent.append).status()
    assert silent == [os.getpid()]
    assert gone.value.silent == os.getpid()
    assert described(gone.value)[0].startswith(f"the daemon (pid {os.getpid()}) hangs or is stopped: ")


def test_the_connection_is_kept(daemon: Daemon) -> None:
    with Client(daemon.path) as client:
        for _ in range(5):
            client.status()
        assert len(daemon.connections()) == 1
    wait_for(lambda: not daemon.connections())


def test_a_restarted_daemon_is_found_again(daemon: Daemon) -> None:
    with Client(daemon.path, patience=0.1) as client:
        client.submit(request("one"))
        daemon.stop()
        with pytest.raises(NoDaemon):
            client.hold(1)
        daemon.start()
        assert client.hold(1).state == JobState.HELD  # though it is not to be sent twice


def test_a_daemon_that_is_being_restarted_is_waited_for(daemon: Daemon) -> None:
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        client.submit(request("one"))
        daemon.stop()
        holding = pool.submit(client.hold, 1)
        with pytest.raises(NoDaemon):  # nothing has answered this one before
            Client(daemon.path).status()
        assert not holding.done()
        daemon.start()
        assert holding.result(60).state == JobState.HELD


def test_a_lost_submission_is_sent_again_and_makes_one_job(daemon: Daemon) -> None:
    daemon.service.slow = 0.2
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        submitting = pool.submit(client.submit, request("one"))
        wait_for(lambda: daemon.service.entered == 1)
        daemon.cut()
        daemon.service.slow = 0.0
        assert submitting.result(60).id == 1
    assert len(daemon.service.all) == 1


def test_a_submission_survives_a_restart(daemon: Daemon) -> None:
    daemon.service.slow = 5.0
    with Client(daemon.path) as client, ThreadPoolExecutor() as pool:
        submitting = pool.submit(client.submit, request("one"))
        wait_for(lambda: daemon.service.entered == 1)
        daemon.cut()
        daemon.stop()
        daemon.service.slow = 0.0
        assert not submitting.done()
        daemon.start()
        assert submitting.result(60).id == 1


def test_what_must_not_be_done_twice_is_not_sent_twice(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    calls: list[Callable[[Client], object]] = [
        lambda client: client.hold(1), lambda client: client.release(1),
        lambda client: client.remove(1), lambda client: client.prune(5),
    ]  # fmt: skip
    for call in calls:
        with saying(path, b"") as asked, pytest.raises(NoDaemon, match="before it had answered"):
            call(Client(path))
        assert len(asked) == 1


def test_patience_with_a_daemon_that_stays_away_ends(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    with saying(path, b"", b"") as asked, pytest.raises(NoDaemon, match="No such file"):
        Client(path, patience=2.0).status()
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    ],
    ids=range(8),
)
def test_nonsense_is_no_daemon(tmp_path: Path, answer: bytes) -> None:
    with saying(tmp_path / "d.sock", answer), pytest.raises(NoDaemon):
        Client(tmp_path / "d.sock", patience=0).status()


def test_other_forms_of_answers_are_read(tmp_path: Path) -> None:
    path, body = tmp_path / "d.sock", b'{"a": 1}'
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n2;x=y\r\n" + body[:2]
    chunks += b"\r\n6\r\n" + body[2:] + b"\r\n0\r\n\r\n"
    forms = (
        ok(body),
        b"HTTP/1.1 100 Continue\r\n\r\n" + ok(body),
        chunks,
        b"HTTP/1.0 200 OK\r\n\r\n" + body,
        b"HTTP/1.1 200\r\nConnection: close\r\n\r\n" + body,
    )
    with saying(path, *forms), Client(path, patience=0) as client:
        assert [client.openapi() for _ in forms] == [{"a": 1}] * len(forms)


def test_an_error_that_is_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "d.sock"
    newer = b'{"error": {"code": "from_the_future", "message": "m", "details": []}}'
    answers = [
        b"HTTP/1.1 502 Bad\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 418 T\r\nContent-Length: %d\r\n\r\n%s" % (len(newer), newer),
    ]
    with saying(path, *answers), Client(path) as client:
        with pytest.raises(ApiError, match="502") as first:
            client.status()
        with pytest.raises(ApiError, match=r"^m$") as second:
            client.status()
    assert (first.value.status, second.value.status, second.value.code) == (502, 418, "internal")


def test_a_daemon_that_does_not_answer_in_time(daemon: Daemon) -> None:
    daemon.service.slow = 0.4
    with Client(daemon.path, timeout=0.1) as client:
        with pytest.raises(NoDaemon, match=r"not answered within 0\.1 s"):
            client.submit(request("one"))
        client._transport.timeout = 60.0
        assert client.status().user == "alice"  # not the late answer of before
    wait_for(lambda: daemon.service.entered)
    assert daemon.service.entered == 1  # a daemon that is slow is not asked once more


def test_too_many_requests_are_put_off_as_told(tmp_path: Path) -> None:
    with Daemon(tmp_path / "d.sock", requests_per_second=2, burst=1) as daemon, Client(daemon.path) as client:
        began = time.monotonic()
        client.status()
        client.status()
        assert time.monotonic() - began >= 0.5
    slow = Daemon(tmp_path / "e.sock", requests_per_second=0.01, burst=1)
    with slow, Client(slow.path, timeout=30.0) as client:
        client.status()
        with pytest.raises(ApiError) as refused:
            client.status()
        assert refused.value.code == "too_many"


def test_a_full_queue_of_connections_is_waited_for(tmp_path: Path) -> None:
    """A Unix socket that has no room for another connection says so at once."""
    path = tmp_path / "d.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(path))
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(Client(path).openapi)
        peer, _ = listener.accept()
        peer.close()
        peer, _ = listener.accept()
        peer.recv(1000)
        peer.sendall(ok(b"{}"))
        assert asking.result(60) == {}
    for sock in (peer, first, listener):
        sock.close()
