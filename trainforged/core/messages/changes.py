"""Changes: what a decision does to what is remembered, and the history that it makes."""

from __future__ import annotations

from typing import Any

from trainforged.core.messages.base import Message
from trainforged.core.messages.remembered import Attempt, Device, Job, Lease, Machine


class JobChanged(Message, frozen=True, kw_only=True):
    job: Job


class JobAdded(Message, frozen=True, kw_only=True):
    """`key` is the submission's (`NewJob.key`)."""

    job: Job
    key: str


class SubmissionChanged(Message, frozen=True, kw_only=True):
    """The job's submission is to be replaced by the one under `key`."""

    job: int
    key: str


class JobRemoved(Message, frozen=True, kw_only=True):
    job: int


class LeaseChanged(Message, frozen=True, kw_only=True):
    lease: Lease


class LeaseEnded(Message, frozen=True, kw_only=True):
    job: int


class AttemptChanged(Message, frozen=True, kw_only=True):
    attempt: Attempt


class DeviceChanged(Message, frozen=True, kw_only=True):
    device: Device


class DeviceRemoved(Message, frozen=True, kw_only=True):
    uuid: str


class MachineChanged(Message, frozen=True, kw_only=True):
    machine: Machine


class PatienceChanged(Message, frozen=True, kw_only=True):
    patience: float


class Happened(Message, frozen=True, kw_only=True):
    """A line of history. `type` is past tense in snake_case, `message` a sentence for people."""

    time: float
    type: str
    message: str
    job: int | None = None
    data: dict[str, Any] = {}


Change = (
    JobAdded
    | JobChanged
    | SubmissionChanged
    | JobRemoved
    | LeaseChanged
    | LeaseEnded
    | AttemptChanged
    | DeviceChanged
    | DeviceRemoved
    | MachineChanged
    | PatienceChanged
    | Happened
)
