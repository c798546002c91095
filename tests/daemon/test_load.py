"""Everybody at once: 500 clients, slow readers, halves of requests, gigabytes, and jobs that tell much."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks import load, processes
from tests.daemon.real import DEADLINE, RealDaemon

LARGEST = 300e6  # bytes of memory


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
