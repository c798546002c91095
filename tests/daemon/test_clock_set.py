"""The clock is set while the real daemon runs: nothing is lost, and nothing ends for it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.real import RealDaemon, wait_until
from tests.daemon.settable_clock import SettableClock
from trainforge.states import JobState

HOUR = 3600


@pytest.fixture
def clock(folder: Path) -> SettableClock:
    return SettableClock(folder)


@pytest.fixture
def daemon(folder: Path, clock: SettableClock) -> Iterator[RealDaemon]:
    daemon = RealDaemon(folder, env=clock.env)
    yield daemon.start()
    daemon.close()


def test_a_clock_that_jumps_ends_nothing_and_loses_nothing(daemon: RealDaemon, clock: SettableClock) -> None:
    """Given a job with an hour's limit and one that begins in two, when the clock is set three hours forward
    and a day back, then the one goes on to its end, the other begins, and what comes meanwhile is done;
    all of it is there after a restart."""
    waits = "while [ ! -e finish ]; do sleep 0.05; done"
    runs = daemon.command("sh", "-c", waits, resources={"gpu": 1}, schedule={"time_limit": "1h"}).id
    daemon.wait_for(runs, JobState.RUNNING)
    begin = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)
    later = daemon.command("true", schedule={"begin": begin.isoformat()}).id

    clock.set(3 * HOUR)
    daemon.command("true")  # that is when the daemon looks, else twice a minute
    assert daemon.wait_for(later).state is JobState.SUCCEEDED
    clock.set(-24 * HOUR)
    assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED
    wait_until(lambda: len(steps(daemon)) == 2, "both steps of the clock to be told")
    forward, back = steps(daemon)
    assert re.search(r"forward by 1(0799|080[01]) s$", forward)
    assert re.search(r"back by 9(7199|720[01]) s$", back)
    with daemon.client() as client:
        assert client.job(runs).state is JobState.RUNNING
    daemon.stop()
    daemon.start()
    (daemon.folder / "finish").touch()
    ended = daemon.wait_for(runs)
    assert (ended.state, ended.exit_code, ended.attempt) == (JobState.SUCCEEDED, 0, 1)
    with daemon.client() as client:
        assert [job.state for job in client.jobs().jobs] == 4 * [JobState.SUCCEEDED]


TRAINS = """
import os, time, trainforge
for step in range(1, 7):
    if step == 5:
        while not os.path.exists("FINISH"):
            time.sleep(0.02)
    trainforge.report(step=step)
"""


def test_a_suspended_machine_hangs_nothing(daemon: RealDaemon, clock: SettableClock) -> None:
    """Given a training that counts as hung after an hour of silence, when the machine sleeps for three days,
    then it goes on to its end. Another one hangs, which tells that silence was looked at afterwards."""
    finish = daemon.folder / "finish"
    (daemon.folder / "train.py").write_text(TRAINS.replace("FINISH", str(finish)))
    for timeout in ("1h", "off"):
        words = ("--set", f"recovery.hang_timeout={timeout}", "--set", "recovery.max_retries=0")
        daemon.tfctl("submit", "train.py", "--gpu", "0", *words)

    def reported(job: int) -> bool:
        with daemon.client() as client:
            progress = client.job(job).progress
        return progress is not None and progress.step == 4

    wait_until(lambda: reported(1) and reported(2), "their reports")
    clock.suspend(72 * HOUR)
    assert daemon.wait_for(daemon.command("true").id).state is JobState.SUCCEEDED
    daemon.tfctl("update", "2", "--set", "recovery.hang_timeout=1s", "--set", "recovery.grace=0s")
    assert daemon.wait_for(2).reason == "hang"
    assert steps(daemon) == [], "nobody has set the clock"
    finish.touch()
    ended = daemon.wait_for(1)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 1, 0)


def steps(daemon: RealDaemon) -> list[str]:
    """Of the clock, as the daemon told them."""
    with daemon.client() as client:
        return [event.message for event in client.events_page(0).events if event.type == "clock_set"]
