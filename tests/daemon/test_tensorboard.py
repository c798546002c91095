"""A job that knows nothing of us and writes TensorBoard files: its curves and its progress are shown."""

from __future__ import annotations

import sys

from tests.daemon.real import RealDaemon, wait_until
from tests.shell import event_writer
from trainforge.states import JobState

WRITER = event_writer.__file__


def test_event_files_become_curves_over_attempts_and_a_restart(daemon: RealDaemon) -> None:
    go_on = f"""
if [ "$TRAINFORGE_ATTEMPT" = 1 ]; then {sys.executable} {WRITER} runs/one 1 20 1; exit 1; fi
{sys.executable} {WRITER} runs/two 11 30
while [ ! -e finish ]; do sleep 0.05; done
"""
    job = daemon.command("sh", "-c", go_on, recovery={"max_retries": 1, "backoff": "0s"}).id
    with daemon.client() as client:

        def step() -> float | None:
            progress = client.job(job).progress
            return progress.step if progress is not None else None

        wait_until(lambda: step() == 30, "step 30")
    daemon.kill()
    daemon.start()
    (daemon.folder / "finish").touch()
    ended = daemon.wait_for(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)
    assert ended.progress is not None
    assert ended.progress.step == 30
    with daemon.client() as client:
        (series,) = client.metrics(job).series
    assert series.name == "train/loss"
    assert series.step == tuple(range(1, 31))
    assert series.attempt == (1,) * 10 + (2,) * 20


def test_a_script_that_only_prints_shows_where_it_is(daemon: RealDaemon) -> None:
    job = daemon.command("sh", "-c", r"printf 'step=3/10 loss=1.5\n\r 50%%|#| 5/10 [0<5, 1it/s]'").id
    progress = daemon.wait_for(job).progress
    assert progress is not None
    assert (progress.step, progress.steps, progress.metrics) == (5, 10, {"loss": 1.5})
