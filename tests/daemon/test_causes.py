"""Why attempts end, each from real evidence, and what follows: the rows of docs/recovery.md."""

from __future__ import annotations

import os
import re
import signal
import textwrap
import venv

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState
from trainforged.execution import processes


def test_a_launcher_without_torch_is_the_users_mistake_at_once(daemon: RealDaemon) -> None:
    venv.create(daemon.folder / "bare", symlinks=True)
    (daemon.folder / "train.py").write_text("")
    python = daemon.folder / "bare" / "bin" / "python"
    daemon.tfctl("submit", "train.py", "--gpu", "2", "--set", f"environment.python={python}")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.reason) == (JobState.FAILED, 1, "user_error")
    said = daemon.tfctl("why", "1").stdout
    assert "ended with 1: ModuleNotFoundError: No module named 'torch'" in said


DIVERGES = """
import time, trainforge
trainforge.report(step=1, loss=2.5)
trainforge.report(step=2, train_loss=float("nan"), accuracy=0.1)
while __WAIT__:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("answer", ["warn", "stop", "off"])
def test_a_loss_that_is_no_number(daemon: RealDaemon, answer: str) -> None:
    (daemon.folder / "train.py").write_text(DIVERGES.replace("__WAIT__", str(answer == "stop")))
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", f"recovery.nan_loss={answer}")
    ended = daemon.wait_for(1)
    with daemon.client() as client:
        told = [e.message for e in client.events(job=1) if e.type == "loss_not_finite"]
    assert told == ([] if answer == "off" else ["rank 0 reported train_loss = nan at step 2"])
    if answer == "stop":
        assert (ended.state, ended.reason, ended.attempt) == (JobState.FAILED, "nan_loss", 1)
        said = daemon.tfctl("why", "1").stdout
        assert "rank 0 reported train_loss = nan at step 2" in said
        assert "a lower learning rate" in said
    else:
        assert ended.state is JobState.SUCCEEDED


def test_a_script_that_somebody_kills_is_continued_and_the_signal_is_named(daemon: RealDaemon) -> None:
    source = """
        import os, signal, trainforge
        trainforge.report(step=int(os.environ["TRAINFORGE_ATTEMPT"]))
        if os.environ["TRAINFORGE_ATTEMPT"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    (daemon.folder / "train.py").write_text(textwrap.dedent(source))
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "killed"
    assert "SIGKILL" in (ended.attempts[0].message or "")


def test_a_loop_of_crashes_at_the_same_step_ends(daemon: RealDaemon) -> None:
    source = "import trainforge\ntrainforge.report(step=7)\nraise ValueError('always')\n"
    (daemon.folder / "train.py").write_text(source)
    daemon.tfctl("submit", "train.py", "--gpu", "0", "--set", "recovery.backoff=0.1s")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.reason) == (JobState.FAILED, "user_error")
    assert ended.attempt <= 5
    said = daemon.tfctl("why", "1").stdout
    assert re.search(r"last progress: step 7, at .* before the end", said), said
    assert "ValueError: always" in said
    assert "Traceback" in said


TIMES_OUT = """
import os, time, trainforge
trainforge.report(step=int(os.environ["TRAINFORGE_ATTEMPT"]))
if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    if os.environ["RANK"] == "1":
        raise RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv")
    time.sleep(600)
"""


def test_a_collective_that_times_out_names_the_rank_and_is_continued(daemon: RealDaemon) -> None:
    (daemon.folder / "train.py").write_text(TIMES_OUT)
    daemon.tfctl("submit", "train.py", "--gpu", "2")
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.attempts is not None
    first = ended.attempts[0]
    assert (first.reason, first.failed_rank) == ("peer_lost", 1), first
    assert "rank 1 RuntimeError: [gloo/transport/" in (first.message or "")


IS_LOST = """
import os, sys, time, trainforge
trainforge.report(step=int(os.environ["TRAINFORGE_ATTEMPT"]))
if os.environ["TRAINFORGE_ATTEMPT"] == "1":
    with open("new", "w") as file:
        file.write(str(os.getpid()))
    os.rename("new", "first")
    time.sleep(600)
try:
    with open(f"/proc/{open('first').read()}/stat") as file:
        stat = file.read()
except OSError:
    sys.exit(0)
if stat.rpartition(")")[2].split()[0] not in "ZX":
    sys.exit(f"the first is still there: {stat}")
"""


def test_an_attempt_that_is_lost_is_continued_once_nothing_of_it_is_left(daemon: RealDaemon) -> None:
    """Daemon and shim are both gone, and left no status."""
    (daemon.folder / "train.py").write_text(IS_LOST)
    daemon.tfctl("submit", "train.py", "--gpu", "0")
    wait_until(lambda: list(daemon.folder.rglob("first")), "its first report")
    daemon.kill()
    for pid in daemon.processes():
        if b"shim" in processes.read_proc(f"/proc/{pid}/cmdline"):
            os.kill(pid, signal.SIGKILL)
    daemon.start()
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.exit_code) == (JobState.SUCCEEDED, 2, 0)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "lost"
