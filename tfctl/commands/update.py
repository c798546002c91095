"""Change settings of a job: a waiting one in all, a running one in priority, time limit, recovery."""

from __future__ import annotations

import argparse
from typing import Any

from tfctl.changing import change_each
from tfctl.selection import job_argument
from trainforge.api import JobView
from trainforge.client.client import Client
from trainforge.jobfile.layers import parse_set


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", required=True, help="a key of the job file"
    )


def run(args: argparse.Namespace) -> int:
    changes = changed_keys(args.set)

    def update(client: Client, job: int) -> JobView:
        return client.update(job, changes)

    return change_each(args, update)


def changed_keys(texts: list[str]) -> dict[str, Any]:
    """`KEY.PATH=VALUE` texts as the API takes them. Raises `SpecError`."""
    settings = [parse_set(text) for text in texts]
    return {".".join(setting.keys): setting.value for setting in settings}
