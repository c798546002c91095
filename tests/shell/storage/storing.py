"""What the tests of storage share: jobs and changes in short words, and waiting for a condition."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainforge.spec import JobSpec, Project, Training
from trainforge.states import JobState
from trainforged.core import messages as m
from trainforged.storage.jobs.store import JobStore, Submission

NOW = 1_800_000_000.0


def a_job(number: int, state: JobState = JobState.QUEUED, **more: Any) -> m.Job:
    fields = {"name": f"job-{number}", "user": "alice", "submitted_at": NOW, "script": True} | more
    return m.Job(id=number, state=state, **fields)


def a_submission(request_id: str = "r", **more: Any) -> Submission:
    spec = JobSpec(project=Project(name="digits"), training=Training(script="train.py"))
    return Submission(**({"spec": spec, "request_id": request_id} | more))


def add(store: JobStore, *jobs: m.Job, **submission: Any) -> None:
    """Commit new jobs, each with the request id `r<id>`."""
    changes = [m.JobAdded(job=job, key=f"k{job.id}") for job in jobs]
    store.commit(changes, {f"k{job.id}": a_submission(f"r{job.id}", **submission) for job in jobs})


def happened(kind: str, job: int | None = None, **data: Any) -> m.Happened:
    return m.Happened(time=NOW, type=kind, message=f"{kind} it is", job=job, data=data)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.005)


def run_with_own_mounts(script: str, folder: Path) -> str:
    """Run Python `script` as root of a mount namespace of its own, with a 4 MiB file system at `folder`;
    returns what it printed."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    probe = subprocess.run(["unshare", "-rm", *mount], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("file systems cannot be mounted here")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", '"$@" && exec "$PYTHON" -c "$SCRIPT"', "sh", *mount],
        env={
            "PYTHON": sys.executable,
            "SCRIPT": script,
            "FOLDER": str(folder),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        },
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
