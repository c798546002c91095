"""What makes a job: submissions, sweeps and retries, and the contents of a frozen project."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class Git(msgspec.Struct, frozen=True, kw_only=True):
    """The commit that the project stood at, and whether it had changes beside it."""

    commit: str
    dirty: bool


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a frozen project. A symbolic link has `target` in place of `sha256`."""

    path: str  # relative, "/" between parts, no ".." and no leading "/"
    sha256: str | None = None  # 64 lower-case hex digits
    mode: int = 0o644  # permission bits
    size: int = 0
    target: str | None = None


class ShellState(msgspec.Struct, frozen=True, kw_only=True):
    """What the job takes over from the shell that submitted it. It holds secrets: never answered."""

    env: dict[str, str] = {}
    python: str | None = None  # absolute path of the interpreter for `python: current`
    cwd: str | None = None  # becomes TRAINFORGE_SUBMIT_DIR
    root: str | None = None  # the project's root, for `project.link`


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a job. Exactly one of `workdir` and `files` is given.

    `spec` has the job file's form and is checked by the daemon (`trainforge.jobfile.checks`).
    """

    spec: dict[str, Any]
    workdir: str | None = None
    files: tuple[FileEntry, ...] | None = None
    shell: ShellState = ShellState()
    git: Git | None = None
    hold: bool = False
    resume_from: int | None = None  # id of the job whose newest checkpoint is the start
    # key paths of the settings that set it apart from others of its name: `JobView.label`
    varied: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)] = ()


class SubmitRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs`: one of these or a list."""

    request_id: str


class SweepJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job of a sweep. `spec` is laid over the sweep's as a JSON merge patch (RFC 7396)."""

    request_id: str
    spec: dict[str, Any] = {}


class SweepRequest(JobRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/sweeps`: many jobs that share files, shell and most of their `spec`."""

    jobs: Annotated[tuple[SweepJob, ...], msgspec.Meta(min_length=1, max_length=10_000)]


class MissingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/files/missing`."""

    files: tuple[str, ...]  # sha256


class MissingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    missing: tuple[str, ...]


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs/{id}/retry`: a new job. `spec` replaces the old one's, where given whole;
    `files` its frozen project (code: current)."""

    request_id: str
    spec: dict[str, Any] | None = None
    checkpoint: str = "newest"  # newest | best | none
    files: tuple[FileEntry, ...] | None = None
    shell: ShellState | None = None
    git: Git | None = None
    varied: Annotated[tuple[str, ...], msgspec.Meta(max_length=32)] = ()  # beside the old one's
