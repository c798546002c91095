"""What goes to standard output: text for people or a pipe, or one JSON document."""

from __future__ import annotations

import os
import sys

import msgspec


def to_terminal() -> bool:
    """Whether a person reads it: then it may be coloured and sized to the terminal."""
    return sys.stdout.isatty()


def coloured() -> bool:
    return to_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """One JSON document on one line."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
