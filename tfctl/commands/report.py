"""What GPUs were held for, by user, project and job, and what was made of it.

Hours are GPU-hours: two GPUs held for an hour are two. IDLE is what was held and used for less than 5 %,
LOST what crashes threw away, WON what retries did not do again since they resumed from a checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfctl.output import print_json
from tfctl.render.figures import clock, counted, size
from tfctl.render.plain import table
from tfctl.render.words import one_line
from tfctl.session import with_daemon

if TYPE_CHECKING:
    from trainforge.api.report import Group, JobAccount, ReportAnswer

MOST_JOBS = 20
GROUP = ("JOBS", "GPU HOURS", "USE", "IDLE", "LOST", "WON")
JOB = (
    "JOB",
    "NAME",
    "USER",
    "GPUS",
    "GPU HOURS",
    "USE",
    "GPU MEMORY",
    "CORES",
    "MEMORY",
    "IDLE",
    "LOST",
    "WON",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", default="7d", metavar="T", help="7d, 12h, or a date (default: 7d)")
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    answer = with_daemon(args, lambda client: client.report(args.since))
    if args.json:
        print_json(answer)
    else:
        print("\n".join(lines(answer)))
    return 0


def lines(answer: ReportAnswer) -> list[str]:
    """The report for people."""
    out = [f"since {clock(answer.since)}: {_sentence(answer)}"]
    if not answer.jobs:
        return out
    for title, groups in (("USER", answer.users), ("PROJECT", answer.projects)):
        rows = [(one_line(group.name), *_group(group)) for group in groups]
        out += ["", table((title, *GROUP), rows, right=range(1, 7))]
    out += ["", table(JOB, [_job(job) for job in answer.jobs[:MOST_JOBS]], right=(0, 3, 4, 5, 9, 10, 11))]
    if len(answer.jobs) > MOST_JOBS:
        out.append(f"and {counted(len(answer.jobs) - MOST_JOBS, 'job')} with less (--json shows them)")
    out += [f"job {job.job} ({one_line(job.name)}) {one_line(job.waste)}" for job in answer.jobs if job.waste]
    return out


def _sentence(answer: ReportAnswer) -> str:
    if not answer.gpu_seconds:
        return "no GPU was held"
    idle = f"{hours(answer.idle_seconds)} held but idle, " if answer.idle_seconds else ""
    crashes = f"{hours(answer.lost_seconds)} lost to crashes, {hours(answer.won_seconds)} won by resuming"
    free = f"{hours(answer.free_seconds)} held by nobody"
    return f"{hours(answer.gpu_seconds)} GPU hours held, {idle}{crashes}, {free}"


def _group(group: Group) -> Sequence[str]:
    measured = group.gpu_seconds - group.unmeasured_seconds
    return (
        str(group.jobs),
        hours(group.gpu_seconds),
        _percent(100 * group.busy_seconds / measured if measured > 0 else None),
        hours(group.idle_seconds),
        hours(group.lost_seconds),
        hours(group.won_seconds),
    )


def _job(job: JobAccount) -> Sequence[str]:
    """What it used stands beside what it has or asked for."""
    memory = size(job.peak_memory) + (f" of {size(job.memory)}" if job.memory is not None else "")
    return (
        str(job.job),
        one_line(job.name, 32),
        one_line(job.user, 16),
        str(job.gpus),
        hours(job.gpu_seconds),
        _percent(job.mean_utilization),
        f"{size(job.peak_gpu_memory)} of {size(job.gpu_memory)}",
        ("-" if job.mean_cpu is None else f"{job.mean_cpu:.1f}") + f" of {job.cpu}",
        memory,
        hours(job.idle_seconds),
        hours(job.lost_seconds),
        hours(job.won_seconds),
    )


def hours(seconds: float) -> str:
    """GPU-seconds as hours: `0.02`, `3.5`, `120`."""
    value = seconds / 3600
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"
