"""Change settings of a job: a waiting one in all, a running one in priority, time limit, recovery."""

from __future__ import annotations

import argparse
from typing import Any

from tfctl.changing import change_each
from tfctl.failures import Failure
from tfctl.render.words import one_line
from tfctl.selection import job_argument
from tfctl.targets import FLAGS
from trainforge.api import JobView
from trainforge.client.client import Client
from trainforge.jobfile.layers import parse_set

SHORT = "priority", "time_limit"  # which most updates are about


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument(
        "--set", metavar="KEY.PATH=VALUE", action="append", default=[], help="a key of the job file"
    )
    parser.add_argument("--priority", metavar="N", help="-100 … 100, higher first")
    parser.add_argument("--time-limit", metavar="D", help="over all attempts: 90s, 30m, 12h, 2d")


def run(args: argparse.Namespace) -> int:
    texts = [*args.set, *(f"{FLAGS[name]}={value}" for name in SHORT if (value := getattr(args, name)))]
    if not texts:
        raise Failure("nothing to change: --priority N, --time-limit D, or --set resources.gpu=2, say")
    changes = changed_keys(texts)

    def update(client: Client, job: int) -> JobView:
        return client.update(job, changes)

    return change_each(
        args, update, lambda job: f"job {job.id} ({job.name}) has {', '.join(texts)}; it {one_line(job.why)}"
    )


def changed_keys(texts: list[str]) -> dict[str, Any]:
    """`KEY.PATH=VALUE` texts as the API takes them. Raises `SpecError`."""
    settings = [parse_set(text) for text in texts]
    return {".".join(setting.keys): setting.value for setting in settings}
