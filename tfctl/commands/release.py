"""Let held jobs go on."""

from __future__ import annotations

import argparse

from tfctl.changing import change_each
from tfctl.selection import job_argument
from trainforge.client.client import Client

arguments = job_argument


def run(args: argparse.Namespace) -> int:
    return change_each(args, Client.release)
