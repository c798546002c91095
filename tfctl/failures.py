"""What can go wrong for a command, and the exit code that scripts see."""

from __future__ import annotations

import errno
import os

UNSAID = 1  # output could not be written
REFUSED = 1  # by the system: no room, no such place
USAGE, NO_DAEMON, NOT_ALLOWED, NO_SUCH_JOB = 2, 3, 4, 5


class Failure(Exception):
    """A command cannot do what was asked; the message is a sentence for the person who asked."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def exit_code(error: Exception) -> int | None:
    """The exit code for an error of the client; None for one that is a bug."""
    from trainforge.client.client import ApiError, NoDaemon
    from trainforge.jobfile.mistakes import SpecError

    if isinstance(error, Failure):
        return error.code
    if isinstance(error, SpecError):
        return USAGE
    if isinstance(error, NoDaemon):
        return NO_DAEMON
    if isinstance(error, PermissionError):
        return NOT_ALLOWED
    if isinstance(error, ApiError):
        return NO_SUCH_JOB if error.code == "no_such_job" else USAGE
    return REFUSED if isinstance(error, OSError) and error.strerror else None


def described(error: Exception) -> list[str]:
    """The error in lines; of a refused job file, one for each mistake."""
    from trainforge.client.client import NoDaemon
    from trainforge.client.sockets import chosen_socket
    from trainforge.jobfile.mistakes import format_details

    details = getattr(error, "details", ())
    if isinstance(error, NoDaemon) and error.silent is not None:
        return [f"the daemon (pid {error.silent}) hangs or is stopped: {error}"]
    if isinstance(error, NoDaemon) and chosen_socket() is None:
        if set(error.tried.values()) == {os.strerror(errno.ENOENT)}:
            return ["no daemon runs; tfctl submit starts one, and so does tfctl daemon start"]
        return [str(error), "to start one: tfctl daemon start"]
    if isinstance(error, OSError) and error.strerror:
        return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
    return format_details(details) if details else [str(error)]
