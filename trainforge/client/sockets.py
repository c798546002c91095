"""Where the daemon is: which sockets a client tries, in which order, and how it connects.

`$TRAINFORGE_SOCKET` alone where it is set. Else this user's own daemon where one answers, else the
machine's. While this user's state folder holds unfinished jobs, the daemon of that folder is the only one:
orders meant for it never reach another, which gives its jobs the same numbers. Nor do they when it died and
left its socket.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from trainforge.client import home

NAME = "trainforged.sock"
SYSTEM_SOCKET = Path("/run/trainforge") / NAME


class NoDaemon(Exception):
    """No daemon answers, or it went away before it had answered.

    `tried` holds each socket's path and what was wrong with it. `silent` is the pid of a daemon that
    listens and says nothing.
    """

    def __init__(self, tried: Mapping[Path, str], silent: int | None = None) -> None:
        self.tried = dict(tried)
        self.silent = silent
        places = "; ".join(f"{path}: {problem}" for path, problem in self.tried.items())
        super().__init__(f"no daemon answers ({places})")


def candidates() -> tuple[Path, ...]:
    """The sockets to try, in order."""
    chosen = chosen_socket()
    if chosen is not None:
        return (chosen,)
    places = (home.socket_of(home.state_dir()), user_socket(), _temporary_folder() / NAME, SYSTEM_SOCKET)
    return tuple(dict.fromkeys(place for place in places if place is not None))


def chosen_socket() -> Path | None:
    """`$TRAINFORGE_SOCKET`."""
    chosen = os.environ.get("TRAINFORGE_SOCKET")
    return Path(chosen) if chosen else None


def user_socket() -> Path:
    """Where a daemon that this user starts listens, unless it is told otherwise."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if os.path.isabs(runtime) and os.access(runtime, os.W_OK):
        return Path(runtime) / "trainforge" / NAME
    return _temporary_folder() / NAME


def connect(path: Path | None, timeout: float) -> tuple[socket.socket, Path]:
    """A connection to the daemon at `path`, or else to the first of the candidates that answers and is
    not another than the one that has this user's jobs.

    `timeout` (seconds) is also that of the socket. Raises NoDaemon.
    """
    tried: dict[Path, str] = {}
    path = path or chosen_socket()
    for place in candidates() if path is None else (path,):
        try:
            check_private(place)
            sock = _connect(place, timeout)
        except OSError as error:
            tried[place] = error.strerror or str(error) or type(error).__name__
            if place in (home.socket_of(home.state_dir()), user_socket()) and os.path.lexists(place):
                break  # this user's own daemon died there: it is to be started again
            continue
        refusal = None if path is not None else _not_ours(sock, place)
        if refusal is None:
            return sock, place
        sock.close()
        tried[place] = refusal
    raise NoDaemon(tried)


def _not_ours(sock: socket.socket, place: Path) -> str | None:
    """Why the daemon that was found is not to be talked to; None where it is.

    Below the temporary directory a daemon of this user listens that was started without a runtime
    folder: in this shell it is the right one only if it keeps this shell's state folder.
    """
    folder = home.state_dir()
    listener = peer(sock)
    if listener == home.holder(folder) or (place == home.socket_of(folder) and _is_manager(listener)):
        return None
    if home.has_unfinished_jobs(folder):
        return f"a daemon other than that of your unfinished jobs in {folder}"
    if place.parent == _temporary_folder() and place != user_socket():
        return "a daemon with another state folder"
    return None


def peer(sock: socket.socket) -> int:
    """The pid of the process that listens; see `struct ucred` in unix(7)."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(found[:4], sys.byteorder, signed=True)


def _is_manager(pid: int) -> bool:
    """Whether it is this user's service manager, which holds the socket for a daemon that it starts."""
    try:
        process = f"/proc/{pid}"
        with open(f"{process}/comm") as file:
            return file.read() == "systemd\n" and os.stat(process).st_uid == os.getuid()
    except OSError:
        return False


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
