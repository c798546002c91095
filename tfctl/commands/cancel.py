"""End jobs. A running one gets SIGTERM and its grace to save, then is killed."""

from __future__ import annotations

import argparse

from tfctl.changing import change_each
from tfctl.selection import job_argument
from trainforge.api import JobView
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument("--now", action="store_true", help="leave a running job no time to save")


def run(args: argparse.Namespace) -> int:
    def cancel(client: Client, job: int) -> JobView:
        return client.cancel(job, now=args.now)

    return change_each(args, cancel)
