"""The devices: what they are, how busy, who holds them, and why one is not given out."""

from __future__ import annotations

import argparse

from tfctl.output import print_json
from tfctl.render.gpus import HEADING as MEASURED
from tfctl.render.gpus import measured
from tfctl.render.plain import table
from tfctl.render.words import one_line
from tfctl.session import with_daemon
from trainforge.api import GpuView

HEADING = ("GPU", "NAME", "STATE", "JOB", *MEASURED, "UUID")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    answer = with_daemon(args, lambda client: client.gpus())
    if args.json:
        print_json(answer)
    elif answer.gpus:
        print(table(HEADING, [_row(gpu) for gpu in answer.gpus], right=(0, 3, 4, 6, 7)))
        for gpu in answer.gpus:
            if gpu.reason is not None:
                print(f"GPU {gpu.index} ({gpu.state}): {one_line(gpu.reason)}")
    else:
        print(f"no GPUs: {answer.problem or 'the driver sees none'}; tfctl doctor says more")
    return 0


def _row(gpu: GpuView) -> tuple[str, ...]:
    job = "-" if gpu.job is None else str(gpu.job)
    return (str(gpu.index), gpu.name, gpu.state, job, *measured(gpu), gpu.uuid)
