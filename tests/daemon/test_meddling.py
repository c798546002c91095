"""Jobs that meddle with what is kept of them: they harm nobody but themselves, and not even their status."""

from __future__ import annotations

import sys

import pytest

from tests.daemon.real import RealDaemon, wait_until

MEDDLING = {
    "a FIFO for a rank's report": "mkfifo $A/rank-0.json",
    "a folder for it": "mkdir $A/rank-0.json",
    "a link to itself": "ln -s rank-0.json $A/rank-0.json",
    "a report that lies": 'echo \'{"rank": 0, "exit_code": 1}\' > $A/rank-0.json',
    "a folder for its status": "mkdir $A/exit.json",
    "no place for its status": "rm -f $A/exit.json.room",
    "no folder at all": "rm -rf $TRAINFORGE_JOB_DIR",
    "no right to read": "chmod 000 $A",
    "a number that is none": 'sed -i \'s/"pid": *[0-9]*/"pid": 1180591620717411303424/\' $A/shim.json',
}


@pytest.mark.parametrize("what", MEDDLING)
def test_the_status_is_the_true_one(daemon: RealDaemon, what: str) -> None:
    job = daemon.command("sh", "-c", f"A=$TRAINFORGE_ATTEMPT_DIR; {MEDDLING[what]}; exit 7")
    ended = daemon.wait_for(job.id)
    assert (ended.exit_code, ended.attempt, ended.reason) == (7, 1, "user_error")
    assert "Traceback" not in daemon.log.read_text()
    assert daemon.stops_within(5.0)


def test_many_fifos_do_not_hold_up_the_daemon(daemon: RealDaemon) -> None:
    script = "for i in $(seq 0 20); do mkfifo $TRAINFORGE_ATTEMPT_DIR/rank-$i.json; done"
    jobs = [daemon.command("sh", "-c", script).id for _ in range(12)]
    assert [daemon.wait_for(job).exit_code for job in jobs] == [0] * 12
    daemon.stop()
    daemon.start()
    assert daemon.wait_for(daemon.command("true").id).exit_code == 0


DIGS = """
import os
os.chdir(os.environ["TRAINFORGE_JOB_DIR"])
for _ in range(2000):
    os.mkdir("d")
    os.chdir("d")
"""


def test_folders_in_folders_without_end_are_measured_and_removed(daemon: RealDaemon) -> None:
    """Python's own ways to do that go as deep as its stack: the daemon could not remove the job, nor tidy up
    anything else after its next start."""
    job = daemon.command(sys.executable, "-c", DIGS).id
    assert daemon.wait_for(job).exit_code == 0
    (entry,) = daemon.get("/v1/disk")["jobs"]
    assert entry["job"] == job
    daemon.tfctl("rm", str(job))
    wait_until(lambda: not (daemon.state_dir / "jobs" / str(job)).exists(), "the folder to be removed")
    assert "Traceback" not in daemon.log.read_text()
