"""Why a job waits, or why it failed: the cause, the evidence, what to do."""

from __future__ import annotations

import argparse

from tfctl.render.words import one_line, plain
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.api import AttemptView, JobView
from trainforge.states import JobState

GO_ON = "tfctl retry {id} goes on from its newest checkpoint"
SEE_LOGS = "see what it wrote: tfctl logs {id} --tail 50; then tfctl retry {id}"
MEND = "mend it, then: tfctl retry {id}"
ADVICE = {
    "user_error": MEND,
    "start_failed": MEND,
    "time_limit": "tfctl retry {id} --set schedule.time_limit=… goes on where it stopped",
    "killed": GO_ON,
    "lost": GO_ON,
    "hang": SEE_LOGS,
    "peer_lost": SEE_LOGS,
    "dependency": "tfctl why on the job it waited for; then tfctl retry {id}",
    "out_of_memory": "give it more, or let it take less: tfctl retry {id} --set resources.memory=…",
    "gpu_out_of_memory": "let it take less (a smaller batch, accumulated), then: tfctl retry {id}",
    "gpu_memory_taken": "tfctl gpus says who uses the GPU; then tfctl retry {id}",
    "gpu_fault": "tfctl gpus says what is wrong with it; tfctl retry {id} takes another",
    "disk_full": "make room (tfctl du), then: tfctl retry {id}",
}
OF_THE_PROJECT = ("user_error", "start_failed", "gpu_out_of_memory")  # mended in the code, perhaps
LINES = 20  # of a traceback, or of output


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)


def run(args: argparse.Namespace) -> int:
    job = with_daemon(args, lambda client: client.job(select_one(client, args.job)))
    print("\n".join(explain(job)))
    return 0


def explain(job: JobView) -> list[str]:
    """What is known of why the job is where it is."""
    lines = [f"job {job.id} ({one_line(job.name)}) {job.why}"]
    ended = [attempt for attempt in job.attempts or () if attempt.ended_at is not None]
    if ended and job.state is not JobState.SUCCEEDED:
        lines += _evidence(ended[-1], job.why)
    if len(ended) > 1:
        lines.append("attempts:")
        lines += [
            f"  {attempt.number}: {attempt.reason}, {one_line(attempt.message or '')}" for attempt in ended
        ]
    if job.state is JobState.FAILED and job.reason in ADVICE:
        lines.append("what to do: " + _advice(job, job.reason))
    return lines


def _advice(job: JobView, reason: str) -> str:
    advice = ADVICE[reason].format(id=job.id)
    if job.root is not None and reason in OF_THE_PROJECT:
        advice += " --code current (else the code runs as it was submitted)"
    return advice


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


def _last(text: str) -> list[str]:
    return [f"  {plain(line)}" for line in text.rstrip().splitlines()[-LINES:]]
