"""The program `tfctl`. This is loaded before all else of it: Ctrl-C while it starts shows no traceback."""

from __future__ import annotations

import sys
from types import TracebackType


def _without_interrupts(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python ends by SIGINT after this, as a shell expects."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_interrupts
