"""Remove ended jobs and their files."""

from __future__ import annotations

import argparse

from tfctl.changing import change_each
from tfctl.selection import job_argument
from trainforge.api import JobView
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument("--keep", choices=("best",), help="keep the best checkpoint")


def run(args: argparse.Namespace) -> int:
    def remove(client: Client, job: int) -> JobView:
        return client.remove(job, keep=args.keep)

    return change_each(args, remove, lambda job: f"removed job {job.id} ({job.name})")
