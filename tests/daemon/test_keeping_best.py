"""`rm --keep best`: the best checkpoint outlives its job, and is not touched while the job may still run."""

from __future__ import annotations

import sys

import pytest

from tests.daemon.real import RealDaemon, wait_until
from trainforge.states import JobState

SAVE = """
import sys, time, torch, trainforge
checkpointer = trainforge.Checkpointer(model=torch.nn.Linear(2, 2), keep=1)
checkpointer.resume()
checkpointer.save(1, metric=0.9)
checkpointer.save(2, metric=0.1)
checkpointer.close()
open("saved", "w").close()
while "stay" in sys.argv:
    time.sleep(0.1)
"""


@pytest.fixture
def saving(daemon: RealDaemon) -> RealDaemon:
    pytest.importorskip("torch")
    (daemon.folder / "save.py").write_text(SAVE)
    return daemon


@pytest.mark.torch
def test_the_best_checkpoint_outlives_its_job(saving: RealDaemon) -> None:
    job = saving.command(sys.executable, "save.py")
    assert saving.wait_for(job.id).state is JobState.SUCCEEDED
    best = saving.tfctl("path", str(job.id), "--checkpoint", "best").stdout.strip()
    saving.tfctl("rm", str(job.id), "--keep", "best")
    (kept,) = (saving.state_dir / "kept" / str(job.id)).iterdir()
    assert best.endswith(kept.name)
    assert (kept / "manifest.json").exists()


@pytest.mark.torch
def test_nothing_is_moved_under_a_job_that_runs(saving: RealDaemon) -> None:
    job = saving.command(sys.executable, "save.py", "stay")
    wait_until((saving.folder / "saved").exists, "both checkpoints")
    refused = saving.tfctl("rm", str(job.id), "--keep", "best", check=False)
    assert refused.returncode != 0
    assert "cancel it first" in refused.stderr
    assert not (saving.state_dir / "kept").exists()
    saving.tfctl("cancel", str(job.id), "--now")
    saving.wait_for(job.id)
