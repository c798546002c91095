"""Where a job goes on: at its own newest whole checkpoint, else at one of the job that it continues."""

from __future__ import annotations

from pathlib import Path

from trainforge.in_job.manifests import best_whole, find_checkpoints, newest_whole
from trainforged.execution.launch import CannotStart
from trainforged.storage.jobs.store import Submission


def resume_point(jobs_dir: Path, job: int, submission: Submission) -> str | None:
    """The checkpoint of the next attempt; None where there is nothing to go on from. Reads the disk.

    Raises `CannotStart` where what the job was submitted to continue is gone: it must not start anew.
    """
    own = checkpoint(jobs_dir, job)
    if own is not None or submission.resume_from is None:
        return own
    found = checkpoint(jobs_dir, submission.resume_from, best=submission.resume_best)
    if found is None:
        gone = f"job {submission.resume_from}, which it continues, has no whole checkpoint any more"
        raise CannotStart(gone, hopeless=True)
    return found


def passed_over(jobs_dir: Path, job: int, chosen: str | None) -> list[str]:
    """The job's own checkpoints that are newer than the `chosen` one and damaged: a sentence about each.
    One whose saving was cut off is none of them: it never was a checkpoint."""
    found = find_checkpoints(str(jobs_dir / str(job) / "checkpoints"))
    paths = [checkpoint.path for checkpoint in found]
    newer = found[paths.index(chosen) + 1 :] if chosen in paths else found
    names = ((Path(checkpoint.path).name, checkpoint.problem) for checkpoint in newer)
    return [f"checkpoint {name} passed over: {why}" for name, why in names if why and name[0] != "."]


def source(jobs_dir: Path, job: int, submission: Submission) -> int | None:
    """The job whose checkpoints a continuation of `job` starts from; None where it starts anew."""
    return job if checkpoint(jobs_dir, job) is not None else submission.resume_from


def checkpoint(jobs_dir: Path, job: int, *, best: bool = False) -> str | None:
    """The newest, or the best where there is one, as far as manifests tell; ranks verify the contents."""
    folder = str(jobs_dir / str(job) / "checkpoints")
    found = (best_whole(folder, verify=False) if best else None) or newest_whole(folder, verify=False)
    return found.path if found is not None else None
