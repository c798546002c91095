"""A command's output again and again, on a cleared screen, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable
from typing import TextIO, cast

from tfctl.output import Shown, styled, to_terminal
from tfctl.session import with_daemon
from trainforge.client.client import Client, NoDaemon

CLEAR = "\x1b[H\x1b[2J"


def watch(args: argparse.Namespace, show: Callable[[Client], int], interval: float) -> int:
    """Show it every `interval` seconds. A daemon that goes away is waited for."""
    try:
        while True:
            text = io.StringIO()
            terminal = sys.stdout
            with contextlib.redirect_stdout(Shown(cast(TextIO, _Like(text, terminal.isatty())))):
                try:
                    with_daemon(args, show)
                except NoDaemon as error:
                    print(f"{error}; waiting for it")
            styled().write((CLEAR if to_terminal() else "") + text.getvalue())
            sys.stdout.flush()
            time.sleep(interval)
    except KeyboardInterrupt:
        return 0


class _Like(io.TextIOBase):
    """Collects text, and passes for a terminal where the real output is one."""

    encoding = "utf-8"

    def __init__(self, text: io.StringIO, terminal: bool) -> None:
        self._text = text
        self._terminal = terminal

    def write(self, text: str) -> int:
        return self._text.write(text)

    def isatty(self) -> bool:
        return self._terminal
