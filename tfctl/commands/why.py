"""Why a job waits, or why it failed: the cause, the evidence, what to do."""

from __future__ import annotations

import argparse

from tfctl.render.words import one_line
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.api import AttemptView, JobView
from trainforge.states import JobState

ADVICE = {
    "user_error": "mend the script, then: tfctl retry {id} --code current",
    "start_failed": "mend what is missing, then: tfctl retry {id}",
    "time_limit": "tfctl retry {id} --set schedule.time_limit=… goes on where it stopped",
    "killed": "tfctl retry {id} goes on from its newest checkpoint",
    "lost": "tfctl retry {id} goes on from its newest checkpoint",
    "hang": "see what it did last: tfctl logs {id} --tail 50; then tfctl retry {id}",
    "dependency": "tfctl why on the job it waited for; then tfctl retry {id}",
}
TRACEBACK_LINES = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)


def run(args: argparse.Namespace) -> int:
    job = with_daemon(args, lambda client: client.job(select_one(client, args.job)))
    print("\n".join(explain(job)))
    return 0


def explain(job: JobView) -> list[str]:
    """What is known of why the job is where it is."""
    lines = [f"job {job.id} ({job.name}) {job.why}"]
    ended = [attempt for attempt in job.attempts or () if attempt.ended_at is not None]
    if ended and job.state is not JobState.SUCCEEDED:
        lines += _evidence(ended[-1], job.why)
    if len(ended) > 1:
        lines.append("attempts:")
        lines += [
            f"  {attempt.number}: {attempt.reason}, {one_line(attempt.message or '')}" for attempt in ended
        ]
    if job.state is JobState.FAILED and job.reason in ADVICE:
        lines.append("what to do: " + ADVICE[job.reason].format(id=job.id))
    return lines


def _evidence(attempt: AttemptView, said: str) -> list[str]:
    """What the attempt left, each thing once: not what was `said`, nor what stands in a traceback."""
    failed = [rank for rank in attempt.ranks if rank.error or rank.signal or rank.exit_code]
    lines = []
    if failed and failed[0].traceback:
        shown = failed[0].traceback.rstrip().splitlines()[-TRACEBACK_LINES:]
        lines += [f"rank {failed[0].rank} failed first:", *(f"  {line}" for line in shown)]
    elif attempt.message is not None:
        first, *rest = attempt.message.splitlines() or [""]
        if first.strip() not in said:
            lines.append(f"attempt {attempt.number} ended: {first}")
        lines += [f"  {line}" for line in rest]
    if attempt.resumed_from:
        lines.append(f"it had been continued from {attempt.resumed_from}")
    return lines
