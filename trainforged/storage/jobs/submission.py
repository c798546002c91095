"""What is kept of a submission beside the `Job` that the core decides about."""

from __future__ import annotations

import msgspec

from trainforge.api import Git
from trainforge.spec import JobSpec


class Submission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as it was submitted. `manifest` and `shell` are hashes of contents in the content store:
    the JSON list of `FileEntry`, and the `ShellState`. Exactly one of `workdir` and `manifest` is set.
    """

    spec: JobSpec
    request_id: str
    workdir: str | None = None
    manifest: str | None = None
    shell: str | None = None
    root: str | None = None
    git: Git | None = None
    resume_from: int | None = None  # a job whose checkpoint is the start
    resume_best: bool = False  # its best one in place of its newest
    submit_dir: str | None = None
    varied: tuple[str, ...] = ()  # key paths whose values are the job's label
    python: str | None = None  # of the submitting shell: absolute path of its interpreter


class SummaryProject(msgspec.Struct, frozen=True):
    description: str = ""


class SummaryEnvironment(msgspec.Struct, frozen=True):
    base_image: str | None = None


class SummarySpec(msgspec.Struct, frozen=True):
    project: SummaryProject = SummaryProject()
    environment: SummaryEnvironment = SummaryEnvironment()


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a stored submission that lists show; the rest is not even decoded."""

    spec: SummarySpec
    git: Git | None = None
    workdir: str | None = None

    @property
    def description(self) -> str:
        return self.spec.project.description

    @property
    def base_image(self) -> str | None:
        return self.spec.environment.base_image
