"""A command's connection to the daemon, which is started for this user where there is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TypeVar

from trainforge.client.client import Client, NoDaemon

T = TypeVar("T")


def with_daemon(args: argparse.Namespace, use: Callable[[Client], T], *, submitting: bool = False) -> T:
    """What `use` makes of a client. Raises `NoDaemon` where none answers and none may be started.

    A daemon is started to submit, or while this user's state folder holds unfinished jobs; then
    `use` is called a second time, so it must not have changed anything before its first request.
    """
    with Client(on_silence=_Silence()) as client:
        try:
            return use(client)
        except NoDaemon:
            from tfctl import autostart

            if client.socket is not None or args.no_autostart or not autostart.allowed(submitting):
                raise
            autostart.start()
            return use(client)


class _Silence:
    """Says once that the daemon is late with its answer."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, pid: int) -> None:
        if not self._said:
            print(f"note: the daemon (pid {pid}) has not answered for 3 s; waiting for it", file=sys.stderr)
        self._said = True
