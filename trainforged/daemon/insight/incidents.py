"""Why a job is where it is, put together from what is known of it. Pure but for the stacks' file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainforge.advice import advice
from trainforge.api import AttemptView, EventView, JobView, Value
from trainforge.api.page import Incident, RankStack, Tried

LONGEST_STACKS = 2**20  # bytes of the file
_RANK = re.compile(r"^==> rank (\d+) <==\n", re.M)


def incident(
    job: JobView,
    metrics: dict[str, Value],
    stacks: Sequence[RankStack],
    events: Sequence[EventView],
) -> Incident:
    """Of the whole `job`; `stacks` are those of its newest attempt."""
    attempts = job.attempts or ()
    over = next((attempt for attempt in reversed(attempts) if attempt.ended_at is not None), None)
    what = advice(job)
    return Incident(
        job=job.id,
        state=job.state,
        reason=job.reason,
        sentence=job.why,
        cause=over.reason if over is not None else None,
        evidence=tuple(_evidence(over)) if over is not None else (),
        rank=over.failed_rank if over is not None else None,
        traceback=_traceback(over) if over is not None else None,
        last_metrics=metrics,
        last_progress=job.progress,
        stacks=tuple(stacks),
        tried=tuple(map(_tried, attempts)),
        advice=(what,) if what is not None else (),
        events=tuple(events),
    )


def _evidence(attempt: AttemptView) -> list[str]:
    """What it left, each thing once; a traceback stands by itself."""
    said = [text.rstrip() for text in (attempt.message, attempt.tail) if text and text.strip()]
    others = [
        f"rank {rank.rank}: {rank.error}"
        for rank in attempt.ranks
        if rank.error and rank.rank != attempt.failed_rank
    ]
    return list(dict.fromkeys([*said, *others]))


def _traceback(attempt: AttemptView) -> str | None:
    return next((rank.traceback for rank in attempt.ranks if rank.rank == attempt.failed_rank), None)


def _tried(attempt: AttemptView) -> Tried:
    return Tried(
        attempt=attempt.number,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        reason=attempt.reason,
        message=attempt.message,
        resumed_from=attempt.resumed_from,
        followed=attempt.followed,
    )


def kept_stacks(attempt_dir: Path) -> tuple[RankStack, ...]:
    """What was kept of where the ranks were when the attempt hung; mostly nothing."""
    try:
        with (attempt_dir / "stacks.txt").open("rb") as file:
            text = file.read(LONGEST_STACKS).decode(errors="replace")
    except OSError:
        return ()
    parts = _RANK.split(text)
    return tuple(
        RankStack(rank=int(rank), text=stack.strip("\n"))
        for rank, stack in zip(parts[1::2], parts[2::2], strict=True)
    )
