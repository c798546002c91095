"""What the page draws over time, through the real daemon: GPUs, who had them, what jobs used."""

from __future__ import annotations

import time
from typing import Any

from tests.daemon.real import RealDaemon, wait_until
from tests.support import tcp_is_counted
from trainforge.states import JobState

EATS = """
import socket, time
block = bytearray(50_000_000)
server = socket.create_server(("127.0.0.1", 0))
here = socket.create_connection(server.getsockname())
there, _ = server.accept()
while True:
    here.sendall(bytes(10_000))
    there.recv(1 << 20)
    time.sleep(0.01)
"""


def lane(daemon: RealDaemon, index: int = 0) -> list[dict[str, object]]:
    """What is known of the GPU: without the first part of the day, in which there was no daemon."""
    first, *known = whole_lane(daemon, index)
    assert first["kind"] == "unknown"
    return known


def whole_lane(daemon: RealDaemon, index: int) -> list[dict[str, object]]:
    found = wait_until(lambda: daemon.get("/v1/gpus/timeline")["gpus"], "the first figures")
    return next(gpu["spans"] for gpu in found if gpu["index"] == index)  # type: ignore[no-any-return]


def seen_busy(daemon: RealDaemon, uuid: str) -> dict[str, Any] | None:
    """The history of the GPU, once it has been in use."""
    gpus = daemon.get("/v1/gpus/history?points=100")["gpus"]
    assert {gpu["index"] for gpu in gpus} == {0, 1}
    found: dict[str, Any] = next(gpu for gpu in gpus if gpu["uuid"] == uuid)
    return found if any(found["utilization"]) else None


def test_a_job_is_seen_on_its_gpu_and_in_its_figures_over_a_restart(daemon: RealDaemon) -> None:
    daemon.command("python3", "-c", EATS, name="idle", resources={"gpu": 0, "cpu": 1})
    job = daemon.command("python3", "-c", EATS, name="eats", resources={"gpu": 1, "cpu": 1}).id
    daemon.wait_for(job, JobState.RUNNING)
    wait_until(lambda: [span for span in lane(daemon) if span["job"] == job], "the job on the timeline")
    wait_until(
        lambda: (
            (found := daemon.get(f"/v1/jobs/{job}/history"))["times"]
            and any(found["cpu"])
            and ((any(found["received"]) and any(found["sent"])) or not tcp_is_counted())
        ),
        "the job's figures",
    )
    uuid = daemon.get(f"/v1/jobs/{job}")["gpus"][0]

    daemon.kill()
    daemon.start()

    wait_until(lambda: daemon.get(f"/v1/jobs/{job}")["state"] == "running", "the job to be found again")
    before = lane(daemon)
    wait_until(lambda: lane(daemon)[0]["to"] > before[0]["to"], "time to go on")  # type: ignore[operator]
    (span,) = lane(daemon)
    assert (span["kind"], span["job"], span["name"], span["attempt"]) == ("job", job, "eats", 1)
    history = daemon.get(f"/v1/jobs/{job}/history")
    assert max(m for m in history["memory"] if m is not None) > 40_000_000
    assert [gpu["uuid"] for gpu in history["gpus"]] == [uuid]
    assert history["attempts"][0]["ended_at"] is None
    assert len(history["times"]) == len(history["cpu"]) == len(history["written"])
    assert len(history["times"]) == len(history["received"]) == len(history["sent"])
    busy = wait_until(lambda: seen_busy(daemon, uuid), "its use to be seen")
    assert busy["memory_total"] > 0
    assert len(busy["times"]) <= 101


def test_a_drained_gpu_is_seen_with_its_reason(daemon: RealDaemon) -> None:
    daemon.tfctl("drain", "1")
    wait_until(lambda: [s for s in lane(daemon, 1) if s["kind"] == "drained"], "the drain on the timeline")
    assert lane(daemon, 0) == []
    daemon.tfctl("undrain", "1")
    (span,) = lane(daemon, 1)
    assert span["reason"]
    ended = wait_until(
        lambda: (spans := lane(daemon, 1)) and time.time() - spans[-1]["to"] > 2 and spans,  # type: ignore[operator]
        "the drain to be over",
    )
    assert len(ended) == 1


def test_the_time_before_the_first_daemon_is_unknown_and_not_idle(daemon: RealDaemon) -> None:
    wait_until(lambda: daemon.get("/v1/gpus/history")["gpus"], "the first figures")
    (span,) = whole_lane(daemon, 0)
    assert span["kind"] == "unknown"
    assert time.time() - 86_400 - 60 < span["from"] < span["to"] <= time.time()  # type: ignore[operator]
    since = span["to"]
    later = daemon.get(f"/v1/gpus/timeline?since={since}")["gpus"]
    assert [gpu["spans"] for gpu in later] == [[], []]


def test_odd_times_are_refused_or_answered(daemon: RealDaemon) -> None:
    wait_until(lambda: daemon.get("/v1/gpus/history")["gpus"], "the first figures")
    empty = daemon.get("/v1/gpus/history?since=9e10&until=10")
    assert empty["from"] <= empty["to"]
    assert daemon.get("/v1/gpus/timeline?since=0")["gpus"]
    assert daemon.get("/v1/gpus/history?since=0&points=2")["step"] >= 60
