"""A lease and what follows from it: the record of its attempt, the orders to start and release."""

from __future__ import annotations

from typing import Any

from trainforged.core import messages as m


def attempt_record(lease: m.Lease, **fields: Any) -> m.Attempt:
    """The attempt that the lease is for, as far as `fields` say what became of it."""
    return m.Attempt(
        job=lease.job,
        number=lease.attempt,
        gpus=lease.gpus,
        granted_at=lease.granted_at,
        resumed_from=lease.resumed_from,
        **fields,
    )


def start(lease: m.Lease) -> m.StartAttempt:
    return m.StartAttempt(
        job=lease.job, attempt=lease.attempt, gpus=lease.gpus, cpu=lease.cpu, memory=lease.memory
    )


def release(lease: m.Lease) -> m.ReleaseLease:
    return m.ReleaseLease(job=lease.job, attempt=lease.attempt, gpus=lease.gpus)
