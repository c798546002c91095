"""A table of jobs: what runs, what waits and why, what ended lately. With a JOB: that job whole.

Several JOBs (20-23, or a name that several have) are a table again; --whole shows each of them whole.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence

from tfctl.failures import Failure
from tfctl.output import coloured, print_json, styled, to_terminal
from tfctl.render import jobs as rows
from tfctl.render.plain import table
from tfctl.render.words import one_line, visible
from tfctl.selection import job_argument, select
from tfctl.session import with_daemon
from trainforge.api import Counts, JobView
from trainforge.client.client import Client
from trainforge.client.home import user_name
from trainforge.states import ENDED, JobState

LATELY = datetime.timedelta(hours=24)
MOST_ENDED = 20
LEAST_ENDED = 3
HEADING = 4  # rows of the table's heading and of the prompts around it
MOST_WAITING = 1000  # to a pipe
LEAST_WAITING = 5
INTERVAL = 2.0  # seconds between two looks of --watch
RUNNING = (JobState.RUNNING, JobState.STARTING, JobState.STOPPING, JobState.UNKNOWN)
WAITING = (JobState.BACKOFF, JobState.HELD)


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, optional=True)
    parser.add_argument("--whole", action="store_true", help="of several jobs, each whole")
    parser.add_argument("--all", action="store_true", help="also what ended long ago")
    parser.add_argument("--mine", action="store_true", help="only your jobs")
    parser.add_argument("--state", metavar="S", action="append", help="only jobs in this state")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--watch", action="store_true", help="look again every two seconds")


def run(args: argparse.Namespace) -> int:
    if not args.watch:
        return with_daemon(args, lambda client: _show(client, args))
    from tfctl.watching import watch

    return watch(args, lambda client: _show(client, args), INTERVAL)


def _show(client: Client, args: argparse.Namespace) -> int:
    if args.jobs:
        named = [client.job(job) for job in select(client, args.jobs)]
        return _show_whole(named, args.json) if len(named) == 1 or args.whole or args.json else _list(named)
    status = client.status()
    jobs, left_out = _jobs(client, args, status.jobs)
    if status.storage_problem:
        print(f"tfctl: {status.storage_problem}", file=sys.stderr)
    if args.json:
        print_json({"jobs": jobs})
    elif not jobs and to_terminal():
        print(_none_of(args))
    else:
        _list(jobs)
    if left_out:
        more = f"{left_out:,} more wait; --state queued, or held, lists all"
        if to_terminal():
            print(f"… and {more}")
        else:
            print(f"note: {more}", file=sys.stderr)
    return 0


def _none_of(args: argparse.Namespace) -> str:
    if args.state:
        return f"no job is {' or '.join(word for part in args.state for word in part.split(','))}"
    return "no jobs; tfctl submit queues one, tfctl init writes a project to begin with"


def _list(jobs: Sequence[JobView]) -> int:
    """Print the table."""
    if to_terminal():
        _print_table(jobs)
    else:
        print(table(rows.HEADING, [rows.row(job) for job in jobs], right=rows.RIGHT))
    return 0


def _jobs(client: Client, args: argparse.Namespace, counts: Counts) -> tuple[Sequence[JobView], int]:
    """The jobs to show, and how many that wait are not among them."""
    user = user_name() if args.mine else None
    if args.state:
        return list(client.all_jobs(states=_states(args.state), user=user)), 0
    if args.all:
        return list(client.all_jobs(user=user)), 0
    running = client.jobs(states=RUNNING, user=user, limit=1000).jobs
    room = room_for_waiting(len(running), _lines())
    next_up = client.jobs(states=(JobState.QUEUED,), user=user, limit=room).jobs
    kept = client.jobs(states=WAITING, user=user, limit=max(LEAST_WAITING, room - len(next_up))).jobs
    first = [*_by_number(running), *_by_number(kept), *next_up]
    ended = client.jobs(states=ENDED, user=user, limit=room_for_ended(len(first), _lines())).jobs
    since = datetime.datetime.now(datetime.UTC) - LATELY
    lately = [job for job in ended if job.ended_at and job.ended_at > since]
    waiting = counts.queued + counts.held + counts.backoff
    full = len(next_up) == room or len(kept) >= max(LEAST_WAITING, room - len(next_up))
    return [*first, *lately], max(0, waiting - len(next_up) - len(kept)) if full else 0


def _by_number(jobs: Sequence[JobView]) -> list[JobView]:
    return sorted(jobs, key=lambda job: job.id)


def room_for_waiting(others: int, lines: int | None) -> int:
    """How many waiting jobs are shown below the others, those that start next: on a screen of so many lines
    as many as leave room for the jobs that ended last."""
    if lines is None:
        return MOST_WAITING
    return min(MOST_WAITING, max(LEAST_WAITING, lines - HEADING - LEAST_ENDED - others))


def room_for_ended(others: int, lines: int | None) -> int:
    """How many ended jobs are shown below the others: on a screen of so many lines, as many as fit."""
    return MOST_ENDED if lines is None else max(LEAST_ENDED, min(MOST_ENDED, lines - HEADING - others))


def _lines() -> int | None:
    """Of the terminal; None where output goes elsewhere."""
    if not to_terminal():
        return None
    import shutil

    return shutil.get_terminal_size().lines


def _states(words: Sequence[str]) -> list[JobState]:
    return [_state(word) for part in words for word in part.split(",")]


def _state(word: str) -> JobState:
    if word in tuple(JobState):
        return JobState(word)
    from difflib import get_close_matches

    near = get_close_matches(word, list(JobState), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise Failure(f"--state: expected one of {', '.join(JobState)}, found {word!r}{hint}")


def _print_table(jobs: Sequence[JobView]) -> None:
    from rich.console import Console

    console = Console(file=styled(), highlight=False, no_color=not coloured())
    console.print(rows.terminal_table(jobs, console.width))


def _show_whole(jobs: Sequence[JobView], as_json: bool) -> int:
    if as_json:
        print_json(jobs[0] if len(jobs) == 1 else jobs)
        return 0
    for number, job in enumerate(jobs):
        print(f"{chr(10) if number else ''}job {job.id}: {one_line(job.name)}")
        for label, value in rows.whole(job):
            print(f"  {label:<11} {visible(value)}")
    return 0
