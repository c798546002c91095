"""A job that goes on where another stopped: from whose checkpoint, and when there is none."""

from __future__ import annotations

import sys

import pytest

from tests.daemon.real import RealDaemon
from trainforge.api import RetryRequest
from trainforge.client.client import ApiError


def saving(daemon: RealDaemon) -> int:
    """A job that has ended with a whole checkpoint at step 7."""
    (daemon.folder / "save.py").write_text(
        "import torch, trainforge\n"
        "checkpointer = trainforge.Checkpointer(model=torch.nn.Linear(2, 2))\n"
        "checkpointer.resume()\n"
        "checkpointer.save(7)\n"
        "checkpointer.close()\n"
    )
    job = daemon.command(sys.executable, "save.py")
    assert daemon.wait_for(job.id).exit_code == 0
    return job.id


SHOW = ("sh", "-c", 'basename "${TRAINFORGE_RESUME_FROM:-nothing}"; exit 1')


def shown(daemon: RealDaemon, job: int) -> str:
    daemon.wait_for(job)
    with daemon.client() as client:
        return b"".join(client.logs(job)).decode().strip()


@pytest.mark.torch
def test_a_retry_of_a_retry_goes_on_from_the_newest_there_is(daemon: RealDaemon) -> None:
    pytest.importorskip("torch")
    first = saving(daemon)
    daemon.tfctl("submit", "--resume-from", str(first), "--", *SHOW)
    point = shown(daemon, first + 1)
    assert "7" in point
    daemon.tfctl("retry", str(first + 1))
    assert shown(daemon, first + 2) == point, "the job that it retries has saved nothing itself"
    daemon.tfctl("retry", str(first + 2), "--from", "none")
    assert shown(daemon, first + 3) == "nothing"

    daemon.tfctl("submit", "--hold", "--resume-from", str(first), "--", *SHOW)
    daemon.tfctl("rm", str(first))
    daemon.tfctl("release", str(first + 4))
    ended = daemon.wait_for(first + 4)
    assert ended.reason == "start_failed", "it must not start anew without a word"
    assert f"job {first}, which it continues, has no whole checkpoint any more" in ended.why


def test_there_must_be_something_to_resume_from(daemon: RealDaemon) -> None:
    job = daemon.command("sh", "-c", "exit 1").id
    daemon.wait_for(job)
    refused = daemon.tfctl("submit", "--resume-from", str(job), "--", "true", check=False)
    assert refused.returncode == 2
    assert f"job {job} has no whole checkpoint to resume from" in refused.stderr
    daemon.tfctl("retry", str(job))
    assert daemon.wait_for(job + 1).exit_code == 1, "a retry of what has not saved starts anew"


def test_only_an_ended_job_is_retried(daemon: RealDaemon) -> None:
    held = daemon.command("true", hold=True).id
    running = daemon.command("sleep", "600").id
    with daemon.client() as client:
        with pytest.raises(ApiError, match=f"job {held} is held: `tfctl release {held}` lets it go on"):
            client.retry(held, RetryRequest(request_id="a"))
        with pytest.raises(ApiError, match=f"job {running} is .*: cancel it first"):
            client.retry(running, RetryRequest(request_id="b"))


TEARS = """
import glob, os, signal, torch, trainforge
checkpointer = trainforge.Checkpointer(model=torch.nn.Linear(2, 2))
print("from", checkpointer.resume(), flush=True)
if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    checkpointer.save(3)
    checkpointer.save(6)
    checkpointer.close()
    newest = max(glob.glob(os.environ["TRAINFORGE_CHECKPOINT_DIR"] + "/*6"))
    for path in glob.glob(newest + "/*.pt"):
        os.truncate(path, 10)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.torch
def test_a_torn_newest_checkpoint_is_passed_over_and_named(daemon: RealDaemon) -> None:
    pytest.importorskip("torch")
    (daemon.folder / "train.py").write_text(TEARS)
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    assert daemon.wait_for(1).attempt == 2
    assert "from 3" in shown(daemon, 1)
    with daemon.client() as client:
        said = [event.message for event in client.events(job=1) if event.type == "checkpoint_skipped"]
    (newest,) = (daemon.state_dir / "jobs" / "1" / "checkpoints").glob("*6")
    assert said, "the daemon says so"
    assert all(line.startswith(f"checkpoint {newest.name} passed over: ") for line in said), said
