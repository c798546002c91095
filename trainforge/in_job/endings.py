"""How the script of a rank ended, kept durably in the attempt's folder: `rank-<r>.json`.

`{"rank", "pid", "exit_code", "error": {"type", "message", "traceback"} | null, "ended_at"}`. A failure
is written at once: ranks that fail because of it come later, and what follows may hang. Success is
written at the very end of the process. A process that is killed writes nothing.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import os
import time

from trainforge import protocol
from trainforge.in_job import records

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from types import TracebackType

_TRACEBACK_LIMIT = 32_000  # characters, of the start and of the end
_MESSAGE_LIMIT = 4_000


class Ending:
    """Of the process that makes it: children that it forks have none."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._rank = records.rank()
        self._written = False

    def succeeded(self) -> None:
        """Last of what runs at exit: threads that exit waits for have ended."""
        if os.getpid() == self._pid and not self._written:
            self._write(0, None)

    def failed(self, error: BaseException, trace: TracebackType | None) -> None:
        """The script's error is on its way to the interpreter; `trace` begins with the script."""
        if os.getpid() != self._pid:
            return
        code = _exit_code(error)
        if code != 0:
            self._write(code, _describe(error, trace))

    def _write(self, code: int, error: dict[str, str] | None) -> None:
        self._written = True
        folder = os.environ.get(protocol.ATTEMPT_DIR)
        if folder is None:
            return
        import json

        from trainforge.in_job import durable

        path = os.path.join(folder, protocol.RANK_STATUS.format(rank=self._rank))
        status = {
            "rank": self._rank,
            "pid": self._pid,
            "exit_code": code,
            "error": error,
            "ended_at": time.time(),
        }
        try:
            durable.write_durably(path, json.dumps(status).encode())
        except OSError as problem:
            records.say(f"cannot write {path}: {problem.strerror}")


def _exit_code(error: BaseException) -> int:
    """The status that the interpreter leaves with; 130 for a KeyboardInterrupt, which ends by SIGINT."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        return error.code & 0xFF if isinstance(error.code, int) else 1
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def _describe(error: BaseException, trace: TracebackType | None) -> dict[str, str] | None:
    """The error in words; None for an exit that gives only a number."""
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return None if error.__cause__ is None else _describe(error.__cause__, None)
    shown = trace is not None or isinstance(error, SyntaxError)  # which may come before the first frame
    return {
        "type": _name(type(error)),
        "message": _text(error)[:_MESSAGE_LIMIT],
        "traceback": _format(error, trace) if shown and not isinstance(error, SystemExit) else "",
    }


def _name(kind: type[BaseException]) -> str:
    """As in a traceback, but without the name of the script's own module."""
    known = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if known else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:
        return f"<str() raised {type(problem).__name__}>"


def _format(error: BaseException, trace: TracebackType | None) -> str:
    import traceback

    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception as problem:  # an error may be of any class: the report of it must not hide it
        return f"<the traceback could not be formatted: {type(problem).__name__}>"
    if len(text) > 2 * _TRACEBACK_LIMIT:
        text = f"{text[:_TRACEBACK_LIMIT]}\n[…]\n{text[-_TRACEBACK_LIMIT:]}"
    return text
