"""What people do meanwhile: cancel, hold, release."""

from __future__ import annotations

import contextlib

from tests.torture.scene import Kinds, Scene
from trainforge.client.client import ApiError, NoDaemon
from trainforge.states import JobState

RARELY = 0.3  # else too few would come to their own end


def kinds(scene: Scene) -> Kinds:
    chance = scene.chance

    def a_job(*states: JobState) -> int | None:
        with scene.daemon.client() as client:
            jobs = [job.id for job in client.all_jobs() if job.state in states]
        return chance.choice(sorted(jobs)) if jobs else None

    def cancel() -> bool:
        if chance.random() > RARELY:
            return False
        job = a_job(JobState.QUEUED, JobState.RUNNING, JobState.STARTING)
        if job is None:
            return False
        scene.mark(job, "cancel")
        with scene.daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.cancel(job, now=chance.random() < 0.5)
        return True

    def hold() -> bool:
        """Held in one fault, and released in another, or at the end."""
        held = a_job(JobState.HELD)
        job = held or a_job(JobState.QUEUED, JobState.RUNNING)
        if job is None:
            return False
        scene.mark(job, "hold")
        with scene.daemon.client() as client, contextlib.suppress(ApiError, NoDaemon):
            client.release(job) if held else client.hold(job)
        return True

    return {"cancel": cancel, "hold and release": hold}
