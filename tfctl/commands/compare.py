"""Several jobs side by side: the settings in which they differ, their last and best values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfctl.output import print_json
from tfctl.render.figures import metric
from tfctl.render.plain import table
from tfctl.render.words import one_line
from tfctl.selection import job_argument, select
from tfctl.session import with_daemon

if TYPE_CHECKING:
    from trainforge.api.page import Comparison


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    compared = with_daemon(args, lambda client: client.insight.compare(select(client, args.jobs)))
    if args.json:
        print_json(compared)
    else:
        print("\n".join(tables(compared)))
    return 0


def tables(compared: Comparison) -> Iterator[str]:
    """The jobs in columns: what they are, in what they differ, how far they came."""
    jobs = [str(job.id) for job in compared.jobs]
    heading = [f"JOB {job}" for job in jobs]
    rows = [
        ["name", *(one_line(job.name) for job in compared.jobs)],
        ["state", *(str(job.state) for job in compared.jobs)],
    ]
    rows += [
        [
            one_line(setting.path.removeprefix("environment.env.")),
            *(one_line(setting.values.get(job) or "-") for job in jobs),
        ]
        for setting in compared.settings
    ]
    right = range(1, len(jobs) + 1)
    yield table(["SETTING", *heading], rows, right=right)
    if not compared.metrics:
        return
    yield ""
    rows = []
    for series in compared.metrics:
        found = [series.values.get(job) for job in jobs]
        name = one_line(series.name)
        rows.append([name, *(metric(one.last) if one is not None else "-" for one in found)])
        bests = [metric(one.best) if one is not None and one.best is not None else "-" for one in found]
        rows.append([f"{name}, best", *bests])
    yield table(["METRIC", *heading], rows, right=right)
