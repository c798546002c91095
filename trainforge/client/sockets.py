"""Where the daemon is: which sockets a client tries, in which order, and how it connects.

`$TRAINFORGE_SOCKET` alone where it is set; else the machine's daemon, then this user's own.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Mapping
from pathlib import Path

NAME = "trainforged.sock"
SYSTEM_SOCKET = Path("/run/trainforge") / NAME


class NoDaemon(Exception):
    """No daemon answers, or it went away before it had answered.

    `tried` holds each socket's path and what was wrong with it.
    """

    def __init__(self, tried: Mapping[Path, str]) -> None:
        self.tried = dict(tried)
        places = "; ".join(f"{path}: {problem}" for path, problem in self.tried.items())
        super().__init__(f"no daemon answers ({places})")


def candidates() -> tuple[Path, ...]:
    """The sockets to try, in order."""
    chosen = os.environ.get("TRAINFORGE_SOCKET")
    if chosen:
        return (Path(chosen),)
    places = [SYSTEM_SOCKET, user_socket(), _temporary_folder() / NAME]
    return tuple(dict.fromkeys(places))


def user_socket() -> Path:
    """Where a daemon that this user starts listens, unless it is told otherwise."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.path.isabs(runtime) and os.access(runtime, os.W_OK):
        return Path(runtime) / "trainforge" / NAME
    return _temporary_folder() / NAME


def find_socket() -> Path:
    """The first socket that a daemon answers on. Raises NoDaemon."""
    sock, path = connect(None, 5.0)
    sock.close()
    return path


def connect(path: Path | None, timeout: float) -> tuple[socket.socket, Path]:
    """A connection to the daemon at `path`, or else at the first of the candidates that answers.

    `timeout` (seconds) is also that of the socket. Raises NoDaemon.
    """
    tried: dict[Path, str] = {}
    for place in candidates() if path is None else (path,):
        try:
            check_private(place)
            return _connect(place, timeout), place
        except OSError as error:
            tried[place] = error.strerror or str(error) or type(error).__name__
    raise NoDaemon(tried)


def check_private(place: Path) -> None:
    """Raise PermissionError where another user could have put the socket there.

    Asked only of sockets below the temporary directory, where anybody may make a folder.
    """
    folder = place.parent
    if folder != _temporary_folder():
        return
    found = os.lstat(folder)
    owned = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
    if not owned or found.st_mode & 0o077:
        raise PermissionError(0, f"{folder} is not a folder of this user alone")


def _temporary_folder() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"trainforge-{os.getuid()}"


def _connect(place: Path, timeout: float) -> socket.socket:
    """A Unix socket whose queue of connections is full says EAGAIN at once: wait for room."""
    deadline = time.monotonic() + timeout
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    try:
        while True:
            try:
                sock.connect(os.fspath(place))
                return sock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
    except BaseException:
        sock.close()
        raise
