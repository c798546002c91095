"""The words for where a job is, why it is there, and why it ended.

One list for the daemon, the commands and the API. The strings are the contract: they are
stored, sent and matched by scripts outside this repository.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life. `trainforged.core.lifecycle` holds the moves between them."""

    QUEUED = "queued"
    HELD = "held"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for the states that a job never leaves."""
        return self in ENDED

    @property
    def live(self) -> bool:
        """True while an attempt exists or may exist."""
        return self in LIVE


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
LIVE = frozenset({JobState.STARTING, JobState.RUNNING, JobState.STOPPING, JobState.UNKNOWN})


class WaitReason(StrEnum):
    """Why a job that has not ended is not running."""

    WAITING_FOR_GPUS = "waiting_for_gpus"
    WAITING_FOR_CPU = "waiting_for_cpu"
    WAITING_FOR_MEMORY = "waiting_for_memory"
    WAITING_FOR_TURN = "waiting_for_turn"  # it would fit, but what is free is kept for another job
    WAITING_FOR_JOBS = "waiting_for_jobs"
    BEGIN_TIME = "begin_time"
    HELD = "held"
    BACKOFF = "backoff"
    RELEASING = "releasing"  # its previous attempt is not known to be gone yet


class EndReason(StrEnum):
    """Why an attempt, and with it perhaps the job, ended."""

    SUCCEEDED = "succeeded"
    USER_ERROR = "user_error"  # the job's own code failed
    OUT_OF_MEMORY = "out_of_memory"  # of the machine, or of resources.memory
    GPU_OUT_OF_MEMORY = "gpu_out_of_memory"
    GPU_MEMORY_TAKEN = "gpu_memory_taken"  # by a process that is not ours
    GPU_FAULT = "gpu_fault"
    PEER_LOST = "peer_lost"  # a collective timed out or was cut off, and no rank failed of itself
    DISK_FULL = "disk_full"
    KILLED = "killed"  # by a signal that was no order of ours
    LOST = "lost"  # attempt and shim both gone, exit status unknown
    START_FAILED = "start_failed"  # never got as far as the job's first instruction
    CANCELLED = "cancelled"
    HELD = "held"
    TIME_LIMIT = "time_limit"
    HANG = "hang"
    NAN_LOSS = "nan_loss"  # it reported a loss that is no number, and `recovery.nan_loss` is `stop`
    DEPENDENCY = "dependency"  # a job that it waited for ended otherwise than it was to
