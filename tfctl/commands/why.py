"""Why a job waits, or why it failed: the cause, the evidence, what to do."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence

from tfctl.render.figures import clock, duration
from tfctl.render.jobs import position
from tfctl.render.words import one_line, plain
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.advice import advice
from trainforge.api import AttemptView, EventView, JobView, Progress
from trainforge.client.client import Client
from trainforge.states import JobState

LINES = 20  # of a traceback, or of output


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)


def run(args: argparse.Namespace) -> int:
    job, warnings = with_daemon(args, lambda client: _ask(client, args.job))
    print("\n".join([*explain(job), *(f"but: {one_line(warning)}" for warning in warnings)]))
    return 0


def _ask(client: Client, name: str) -> tuple[JobView, list[str]]:
    """The job, and what there is to be said against how it runs."""
    job = client.job(select_one(client, name))
    if job.state is not JobState.RUNNING or not job.attempts:
        return job, []
    return job, against(job, client.events(job=job.id))


def against(job: JobView, events: Iterable[EventView]) -> list[str]:
    """Warnings of the attempt that runs, each once; that it may hang only while it has not moved since."""
    moved = job.progress.time if job.progress is not None else None
    begun = job.attempts[-1].started_at if job.attempts else job.submitted_at
    since = {"loss_not_finite": begun, "hang_suspected": max(begun, moved or begun)}
    said = (event.message for event in events if event.type in since and event.time >= since[event.type])
    return list(dict.fromkeys(said))


def explain(job: JobView) -> list[str]:
    """What is known of why the job is where it is."""
    lines = [f"job {job.id} ({one_line(job.name)}) {job.why}"]
    ended = [attempt for attempt in job.attempts or () if attempt.ended_at is not None]
    if ended and job.state is not JobState.SUCCEEDED:
        lines += _evidence(ended[-1], job.why)
        lines += _progress(job.progress, ended[-1])
    if len(job.attempts or ()) > 1:
        lines += ["attempts:", *_attempts(job.attempts or ())]
    elif ended and ended[0].followed is not None:
        lines.append(f"what was done: {ended[0].followed}")
    if (what := advice(job)) is not None:
        lines.append(f"what to do: {what}")
    return lines


def _evidence(attempt: AttemptView, said: str) -> list[str]:
    """What the attempt left, each thing once: not what was `said`, nor what stands in a traceback."""
    failed = next((rank for rank in attempt.ranks if rank.rank == attempt.failed_rank), None)
    lines = []
    if failed is not None and failed.traceback:
        lines += [f"rank {failed.rank} failed first:", *_last(failed.traceback)]
    elif attempt.message is not None:
        first, *rest = attempt.message.splitlines() or [""]
        if first.strip() not in said:
            lines.append(f"attempt {attempt.number} ended: {plain(first)}")
        lines += [f"  {plain(line)}" for line in rest]
    if attempt.tail and attempt.tail.strip():
        lines += ["the last it wrote:", *_last(attempt.tail)]
    if attempt.resumed_from:
        lines.append(f"it had been continued from {attempt.resumed_from}")
    return lines


def _attempts(attempts: Sequence[AttemptView]) -> Iterator[str]:
    """How each came to its end, what was done about it, and where the next went on."""
    for attempt in attempts:
        if attempt.ended_at is None:
            yield f"  {attempt.number}: goes on {_from(attempt)}"
            continue
        yield f"  {attempt.number}: {attempt.reason}, {one_line(attempt.message or '')}"
        if attempt.followed is not None:
            yield f"     {attempt.followed}"


def _from(attempt: AttemptView) -> str:
    return (
        f"from checkpoint {attempt.resumed_from.rsplit('/', 1)[-1]}"
        if attempt.resumed_from
        else "from the start"
    )


def _progress(progress: Progress | None, attempt: AttemptView) -> list[str]:
    """How far the job had come when the attempt ended, and when it said so."""
    where = position(progress)
    if progress is None or not where:
        return []
    if progress.time is None:
        return [f"last progress: {where}"]
    when, ended = f"{where}, at {clock(progress.time)}", attempt.ended_at
    if progress.time < attempt.started_at:
        return [f"last progress: {when}, in an earlier attempt"]
    if ended is None or progress.time > ended:
        return [f"last progress: {when}"]
    return [f"last progress: {when}, {duration((ended - progress.time).total_seconds())} before the end"]


def _last(text: str) -> list[str]:
    return [f"  {plain(line)}" for line in text.rstrip().splitlines()[-LINES:]]
