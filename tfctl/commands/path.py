"""Where a job's files lie: its folder, or one of its checkpoints."""

from __future__ import annotations

import argparse

from tfctl.failures import Failure
from tfctl.selection import job_argument, select_one
from tfctl.session import with_daemon
from trainforge.api import PathAnswer


def arguments(parser: argparse.ArgumentParser) -> None:
    job_argument(parser, many=False)
    parser.add_argument("--checkpoint", choices=("newest", "best"), help="this checkpoint's folder")


def run(args: argparse.Namespace) -> int:
    answer = with_daemon(args, lambda client: client.path(select_one(client, args.job)))
    print(answer.dir if args.checkpoint is None else _checkpoint(answer, args.checkpoint))
    return 0


def _checkpoint(answer: PathAnswer, which: str) -> str:
    whole = [point for point in answer.checkpoints if point.problem is None]
    if which == "best":
        whole = [point for point in whole if point.best]
    if not whole:
        raise Failure(f"the job has no {which} checkpoint", 1)
    return whole[-1].path
