"""Block until jobs end. Exits with 0 if all of them succeeded, else with 1."""

from __future__ import annotations

import argparse
import time

from tfctl.failures import Failure
from tfctl.output import of_what_is_done
from tfctl.render.words import one_line
from tfctl.selection import job_argument, select
from tfctl.session import with_daemon
from trainforge.client.client import Client
from trainforge.jobfile.units import parse_duration
from trainforge.states import JobState


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument("--timeout", metavar="D", help="give up after that long (90s, 30m, 12h)")


def run(args: argparse.Namespace) -> int:
    return with_daemon(args, lambda client: _wait(client, args))


def _wait(client: Client, args: argparse.Namespace) -> int:
    try:
        limit = parse_duration(args.timeout) if args.timeout is not None else None
    except ValueError as error:
        raise Failure(f"--timeout: {error}") from None
    deadline = None if limit is None else time.monotonic() + limit
    worst = 0
    for job in select(client, args.jobs):
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            view = client.wait(job, left)
        except TimeoutError:
            raise Failure(f"job {job} has not ended after {args.timeout}", 1) from None
        if view.state is not JobState.SUCCEEDED:
            worst = 1
        with of_what_is_done():
            print(f"job {view.id} ({view.name}) {one_line(view.why)}")
    return worst
