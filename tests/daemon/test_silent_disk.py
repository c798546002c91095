"""A job's disk that answers nobody any more: the other jobs, and the daemon, do not wait for it."""

from __future__ import annotations

from tests.daemon.real import RealDaemon, request, wait_until
from tests.daemon.silent_disk import SilentDisk
from trainforge.states import JobState

REPORTS = """
import trainforge
for step in range(3):
    trainforge.report(step=step, loss=1.0)
"""


def test_nobody_waits_for_a_disk_that_does_not_answer(daemon: RealDaemon, disk: SilentDisk) -> None:
    with daemon.client() as client:
        stuck = client.submit(request(["sleep", "600"], disk.place)).id
    daemon.wait_for(stuck, JobState.RUNNING)
    disk.fall_silent()
    wait_until(disk.asked.is_set, "the daemon to ask it")
    with daemon.client() as client:  # more than there are threads for what waits
        late = [client.submit(request(["true"], disk.place)).id for _ in range(10)]
    (daemon.folder / "train.py").write_text(REPORTS)
    for _ in range(3):
        daemon.tfctl("submit", "train.py", "--gpu", "0")
    ended = [daemon.wait_for(late[-1] + number) for number in (1, 2, 3)]
    assert [(job.state, job.attempt) for job in ended] == [(JobState.SUCCEEDED, 1)] * 3
    assert "loss" in daemon.tfctl("metrics", str(late[-1] + 3)).stdout
    for job in late:
        daemon.tfctl("cancel", "--now", str(job))
        assert daemon.wait_for(job).state in (JobState.CANCELLED, JobState.FAILED)
    daemon.tfctl("cancel", "--now", str(stuck))
    assert daemon.wait_for(stuck).state is JobState.CANCELLED
    assert "does not answer" in daemon.log.read_text()
    assert daemon.stops_within(10.0)
    daemon.start()
    assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED
