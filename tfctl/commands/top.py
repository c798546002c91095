"""The live view: GPUs, running jobs with progress and time left, the queue with why each job waits, events.

Keys: q quits, arrows choose a job, l or Enter opens its log, c cancels it, h holds it, s sorts, ? says more.
Where input or output is no terminal, one plain snapshot is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tfctl.output import to_terminal
from tfctl.session import with_daemon
from trainforge.client.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # none: what is looked at is chosen by keys


def run(args: argparse.Namespace) -> int:
    if not (to_terminal() and sys.stdin.isatty() and os.environ.get("TERM") != "dumb"):
        from tfctl.top.snapshot import snapshot

        print(with_daemon(args, snapshot))
        return 0
    socket = with_daemon(args, _where)
    from tfctl.top.source import begin

    inbox, source = begin(socket)  # asks while the rest is being loaded
    from tfctl.top.app import top

    return top(socket, inbox, source)


def _where(client: Client) -> Path:
    """The socket of a daemon that answers."""
    client.status()
    assert client.socket is not None, "a client that was answered knows where"
    return client.socket
