"""A job as its user describes it: the types that a job file is read into.

Sizes are bytes, durations seconds, times aware datetimes. Values here are whole and checked:
`trainforge.jobfile.layers` reads what was written, `trainforge.jobfile.checks` makes a JobSpec of it.
"""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """`project:`. `include`, `exclude` and `link` are patterns relative to the project's root."""

    name: str
    description: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """`training:`. Exactly one of `script` and `command` is set."""

    script: str | None = None
    args: tuple[str, ...] = ()
    requirements: str | None = None
    command: tuple[str, ...] | None = None  # a string in the file becomes ("/bin/sh", "-c", string)


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """`resources:`. `None` means the machine's default; see `trainforged.core.scheduler`."""

    gpu: int | str = 1  # N, or a range as text: "2-8"
    cpu: int | None = None  # cores
    memory: int | None = None  # bytes of host memory

    @property
    def gpu_range(self) -> tuple[int, int]:
        """(least, most) GPUs at each start."""
        if isinstance(self.gpu, int):
            return self.gpu, self.gpu
        least, _, most = self.gpu.partition("-")
        return int(least), int(most)


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """`environment:`. `env` holds the text as written; booleans are `true` and `false`."""

    base_image: str | None = None
    python: str = "current"  # current | isolated | an absolute path
    env: dict[str, str] = {}


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """`schedule:`."""

    priority: int = 0  # -100 … 100, higher first
    time_limit: float | None = None  # seconds over all attempts
    after: tuple[int, ...] = ()  # ids of jobs that must have succeeded
    afterany: tuple[int, ...] = ()  # that must have ended, however
    afternotok: tuple[int, ...] = ()  # that must have failed, or been cancelled
    begin: datetime.datetime | None = None  # not before this moment (UTC)

    @property
    def waits_for(self) -> tuple[int, ...]:
        """All jobs that have to end first."""
        return self.after + self.afterany + self.afternotok


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """`recovery:`. `hang_timeout` is in seconds, where it is no word."""

    max_retries: int = 3
    backoff: float = 10.0
    hang_timeout: float | Literal["auto", "off"] = "auto"
    grace: float = 60.0
    nan_loss: Literal["warn", "stop", "off"] = "warn"  # what a loss that is NaN or infinite is answered with


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True):
    """`checkpoints:`."""

    dir: str = "checkpoints"
    keep: int = 3


NoticeKind = Literal["end", "failure", "hang", "gpu", "wait", "waste"]
NOTICE_KINDS: tuple[NoticeKind, ...] = ("end", "failure", "hang", "gpu", "wait", "waste")


class Notify(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`notify:`. Who is told of what, by which ways. `on` of `end` is any end, of `failure` a failed one."""

    on: tuple[NoticeKind, ...] = NOTICE_KINDS
    command: tuple[str, ...] | None = None
    webhook: tuple[str, ...] = ()
    slack: tuple[str, ...] = ()
    discord: tuple[str, ...] = ()
    mail: tuple[str, ...] = ()
    desktop: bool = False


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A whole job file. Its JSON form is accepted again by `trainforge.jobfile.checks`."""

    project: Project
    training: Training
    resources: Resources = Resources()
    environment: Environment = Environment()
    schedule: Schedule = Schedule()
    recovery: Recovery = Recovery()
    checkpoints: Checkpoints = Checkpoints()
    notify: Notify = Notify()

    def ranks(self, *, gpus: int, cpu: int) -> int:
        """0 for a command; else one per GPU, or per core where `DISTRIBUTED` is asked for without any."""
        if self.training.command is not None:
            return 0
        if gpus == 0 and self.environment.env.get("DISTRIBUTED", "").lower() in ("true", "1", "yes", "on"):
            return max(1, cpu)
        return max(1, gpus)
