"""Files of an attempt that are torn: how it ended is not guessed, and what else was reported stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState

REPORTS = """
import os, time, trainforge
trainforge.report(step=1, loss=1.0)
while not os.path.exists("GO"):
    time.sleep(0.02)
trainforge.report(step=2, loss=0.5)
"""


def attempt(daemon: RealDaemon, job: int) -> Path:
    return daemon.state_dir / "jobs" / str(job) / "attempts" / "1"


@pytest.mark.parametrize("left", [0, 10])
def test_a_torn_exit_status_is_none_and_nobody_guesses(daemon: RealDaemon, left: int) -> None:
    go = daemon.folder / "go"
    job = daemon.command("sh", "-c", f"until test -e {go}; do sleep 0.02; done").id
    queued = daemon.command("true", hold=True).id
    daemon.wait_for(job, JobState.RUNNING)
    daemon.kill()
    go.touch()
    status = attempt(daemon, job) / "exit.json"
    wait_until(lambda: status.exists() and not daemon.processes(), "it to end by itself")
    os.truncate(status, left)
    daemon.start()
    ended = daemon.wait_for(job)
    assert (ended.state, ended.reason, ended.exit_code, ended.attempt) == (JobState.FAILED, "lost", None, 1)
    assert "Traceback" not in daemon.log.read_text()
    daemon.tfctl("release", str(queued))
    assert daemon.wait_for(queued).state is JobState.SUCCEEDED


def test_a_torn_record_costs_itself(daemon: RealDaemon) -> None:
    go = daemon.folder / "go"
    (daemon.folder / "train.py").write_text(REPORTS.replace("GO", str(go)))
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    records = attempt(daemon, 1) / "records-0.jsonl"
    wait_until(lambda: records.exists() and b'"loss"' in records.read_bytes(), "the first record")
    with records.open("ab") as file:
        file.write(b'{"kind": "rep\n\xff\xfe\0\0\n')
    go.touch()
    assert daemon.wait_for(1).state is JobState.SUCCEEDED
    assert "records that cannot be used" in daemon.log.read_text()
    (loss,) = [one for one in daemon.get("/v1/jobs/1/metrics")["series"] if one["name"] == "loss"]
    assert loss["value"] == [1.0, 0.5]
