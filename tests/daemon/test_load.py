"""Everybody at once: 500 clients, slow readers, halves of requests, gigabytes, and jobs that tell much."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest

from benchmarks import load, processes
from tests.daemon.real import DEADLINE, RealDaemon
from trainforge.client.sockets import connect

LARGEST = 300e6  # bytes of memory
GROWTH = 100e6


def test_the_daemon_answers_everybody_in_bounded_memory(start_daemon: Callable[..., RealDaemon]) -> None:
    daemon = start_daemon(load.REPORTERS)
    job = load.start_reporters(daemon)
    with load.crowd(daemon, 5.0, job) as clients:
        answers, largest = 0, 0
        while clients.poll() is None:
            with daemon.client(timeout=DEADLINE) as client:
                assert client.status().jobs.running == load.REPORTERS
            answers, largest = answers + 1, max(largest, processes.resident(daemon.pid))
        told = json.loads(clients.communicate()[0])
    assert answers > 1, "while the crowd was there"
    assert set(told["answers"]) == {"200"}, told
    assert told["sent"] > 0
    assert largest < LARGEST, f"{largest / 1e6:.0f} MB"
    daemon.wait_for(daemon.command("true").id)


GIGABYTE, PIECE = 1 << 30, bytes(1 << 20)
HEAD = "{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


@pytest.mark.parametrize("target", ["POST /v1/jobs", f"PUT /v1/files/{'5' * 64}"])
def test_a_client_that_sends_a_gigabyte_is_refused_in_bounded_memory(daemon: RealDaemon, target: str) -> None:
    """At once where so much is never wanted, at the end where it is not what it was said to be."""
    with daemon.client(timeout=DEADLINE) as other:
        other.status()
        before, largest = processes.resident(daemon.pid), 0
        with connect(daemon.socket, DEADLINE)[0] as sock, contextlib.suppress(ConnectionError):
            sock.sendall(HEAD.format(target, GIGABYTE).encode())
            for number in range(GIGABYTE // len(PIECE)):
                sock.sendall(PIECE)
                if number % 64 == 0:
                    assert other.status().pid == daemon.pid
                    largest = max(largest, processes.resident(daemon.pid))
            assert sock.recv(64).split()[1] in (b"400", b"413", b"422")
        assert largest - before < GROWTH
        assert daemon.wait_for(daemon.command("true").id).exit_code == 0
    kept = sum(file.stat().st_size for file in daemon.state_dir.rglob("*") if file.is_file())
    assert kept < GIGABYTE / 4, "nothing of it"
