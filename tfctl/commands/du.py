"""What jobs cost on disk, the largest first."""

from __future__ import annotations

import argparse

from tfctl.output import print_json
from tfctl.render.figures import size
from tfctl.render.plain import table
from tfctl.session import with_daemon


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    answer = with_daemon(args, lambda client: client.disk())
    if args.json:
        print_json(answer)
        return 0
    rows = [
        (str(e.job), e.name, e.state, size(e.project), size(e.checkpoints), size(e.logs), size(e.total))
        for e in answer.jobs
    ]
    heading = ("JOB", "NAME", "STATE", "PROJECT", "CHECKPOINTS", "LOGS", "TOTAL")
    if rows:
        print(table(heading, rows, right=(0, 3, 4, 5, 6)))
    others = f"frozen contents {size(answer.files)}, environments {size(answer.environments)}"
    print(f"{others}, database {size(answer.database)}; {size(answer.total)} in all")
    return 0
