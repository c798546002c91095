"""Offer GPUs again that were drained, or set aside because they could not be trusted."""

from __future__ import annotations

import argparse

from tfctl.output import of_what_is_done
from tfctl.selection import gpu_argument, select_gpus
from tfctl.session import with_daemon
from trainforge.api import GpuView
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    gpu_argument(parser)


def run(args: argparse.Namespace) -> int:
    def undrain(client: Client) -> list[GpuView]:
        return [client.undrain(gpu.uuid) for gpu in select_gpus(client, args.gpu)]

    for gpu in with_daemon(args, undrain):
        kept = "" if gpu.reason is None else f"; it is still kept back: {gpu.reason}"
        with of_what_is_done():
            print(f"undrained GPU {gpu.index} ({gpu.uuid}){kept}")
    return 0
