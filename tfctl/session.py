"""A command's connection to the daemon, which is started for this user where there is none."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from trainforge.client.client import Client, NoDaemon

T = TypeVar("T")


def with_daemon(args: argparse.Namespace, use: Callable[[Client], T], *, submitting: bool = False) -> T:
    """What `use` makes of a client. Raises `NoDaemon` where none answers and none may be started.

    A daemon is started to submit, or while this user's state folder holds unfinished jobs; then
    `use` is called a second time, so it must not have changed anything before its first request.
    """
    with Client() as client:
        try:
            return use(client)
        except NoDaemon:
            from tfctl import autostart

            if client.socket is not None or args.no_autostart or not autostart.allowed(submitting):
                raise
            autostart.start()
            return use(client)
