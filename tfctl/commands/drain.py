"""Give GPUs out no more: whoever holds one keeps it until its job ends. `undrain` offers them again."""

from __future__ import annotations

import argparse

from tfctl.output import of_what_is_done
from tfctl.selection import gpu_argument, select_gpus
from tfctl.session import with_daemon
from trainforge.api import GpuView
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    gpu_argument(parser)
    parser.add_argument("--reason", help="shown by `gpus` and `top`")


def run(args: argparse.Namespace) -> int:
    def drain(client: Client) -> list[GpuView]:
        return [client.drain(gpu.uuid, args.reason) for gpu in select_gpus(client, args.gpu)]

    for gpu in with_daemon(args, drain):
        held = "" if gpu.job is None else f"; job {gpu.job} keeps it until it ends"
        with of_what_is_done():
            print(f"drained GPU {gpu.index} ({gpu.uuid}){held}")
    return 0
