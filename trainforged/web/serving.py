"""The Unix socket: taken without stepping on another daemon, served within bounds, left clean.

Beside the socket lies `<socket>.lock`, locked for as long as the socket is served, with the pid of
who serves it; it decides between two daemons that start at the same moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from trainforge import locks
from trainforged.web.at_once import AtOnce
from trainforged.web.connection import Connection, Crowd, Stranger
from trainforged.web.context import CONTEXT
from trainforged.web.peer import is_stranger

BACKLOG = 1024
LAST_ANSWERS = 1.0  # seconds that requests under way have to be answered when the daemon stops
DESCRIPTORS = 4096  # wanted in all
PORT_CONNECTIONS = 256  # of browsers: they leave the socket the rest
DESCRIPTORS_KEPT = 200  # for everything that is not a connection
FIRST_INHERITED = 3  # where systemd puts the sockets it hands over: sd_listen_fds(3)
KEEP_EVERY = 5.0  # seconds between two looks at the socket's place
LONGEST_PATH = 107 - len(".new")  # bytes; the kernel's sun_path holds 107


_CREDENTIALS = struct.Struct("iii")  # pid, user, group
log = logging.getLogger(__name__)


class SocketTaken(Exception):
    """The socket's place is not ours to take; the message says why."""


class Serving:
    """An application that is being served. Close it."""

    def __init__(
        self,
        runner: web.AppRunner,
        server: asyncio.Server,
        place: _Place | None,
        connect: Callable[[], asyncio.Protocol],
    ) -> None:
        self._runner = runner
        self._server = server
        self._place = place
        self._connect = connect

    @property
    def address(self) -> str:
        """`host:port` of a server on TCP."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connections(self) -> int:
        """How many clients are connected."""
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    async def keep(self) -> None:
        """Until cancelled: put the socket back where somebody has removed it (a cleaner of old files, say).
        Who is connected stays connected."""
        while self._place is not None:
            await asyncio.sleep(KEEP_EVERY)
            if self._place.is_ours():
                continue
            try:
                sock = self._place.take_again()
            except (SocketTaken, OSError) as error:
                log.error("the socket is gone, and cannot be put back: %s", error)
                continue
            log.warning("the socket was gone: it has been put back")
            former, self._server = self._server, await _listen(self._connect, sock)
            former.close()

    async def close(self) -> None:
        """Take no more connections, end the streams, answer what is under way, close the rest."""
        if self._place is not None:
            self._place.leave()
        await self._finish_accepting()
        self._server.close()
        await self._runner.cleanup()

    async def _finish_accepting(self) -> None:
        """A connection that was accepted becomes one that is closed in order.

        asyncio drops one whose server is closed between the two, and leaves its client waiting.
        """
        loop = asyncio.get_running_loop()
        for sock in self._server.sockets:
            loop.remove_reader(sock)
        for _ in range(2):  # one turn of the loop makes the transport, one tells its protocol
            await asyncio.sleep(0)


def inherited_socket() -> socket.socket | None:
    """The listening Unix socket that systemd holds for us, if it does. Call it once, at the very start.

    It outlives this process: who connects while the daemon restarts waits, and is not turned away.
    Raises SocketTaken when what was handed over is anything else.
    """
    ours = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not ours or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise SocketTaken(f"the service manager hands over {count} sockets; one is expected")
    sock = socket.socket(fileno=FIRST_INHERITED)
    sock.set_inheritable(False)
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM or not listening:
        raise SocketTaken("the service manager hands over something else than a listening Unix socket")
    return sock


async def serve_unix(
    app: web.Application, path: Path | None = None, *, sock: socket.socket | None = None
) -> Serving:
    """Serve at `path`, which is made with mode 0600, or on a socket that is listening already
    (handed over by systemd; then `path` is not touched).

    Raises SocketTaken when another daemon answers there, or what lies there is no socket.
    """
    place = None
    if sock is None:
        assert path is not None
        place = _Place(path)
        sock = place.take()
    try:
        return await _serve(app, sock, place)
    except BaseException:
        if place is not None:
            place.leave()
        sock.close()
        raise


async def serve_tcp(app: web.Application, host: str, port: int) -> Serving:
    """Serve this user at a loopback address; port 0 is one that is free. Raises OSError."""
    connect, runner = await _prepared(app, PORT_CONNECTIONS, is_stranger)
    try:
        server = await asyncio.get_running_loop().create_server(connect, host, port, backlog=BACKLOG)
    except BaseException:
        await runner.cleanup()
        raise
    return Serving(runner, server, None, connect)


async def _serve(app: web.Application, sock: socket.socket, place: _Place | None) -> Serving:
    connect, runner = await _prepared(app, at_once=app[CONTEXT].at_once)
    return Serving(runner, await _listen(connect, sock), place, connect)


async def _prepared(
    app: web.Application,
    most: int = sys.maxsize,
    stranger: Stranger | None = None,
    at_once: AtOnce | None = None,
) -> tuple[Callable[[], asyncio.Protocol], web.AppRunner]:
    limits, inflow = app[CONTEXT].limits, app[CONTEXT].inflow
    most = min(most, limits.connections, _descriptors() - DESCRIPTORS_KEPT)
    runner = web.AppRunner(app, shutdown_timeout=LAST_ANSWERS, access_log=None)
    await runner.setup()
    aiohttp_server = runner.server
    assert aiohttp_server is not None

    crowd = Crowd(most, limits.quiet)

    def connect() -> asyncio.Protocol:
        return Connection(aiohttp_server, limits, inflow, crowd, stranger, at_once)

    return connect, runner


async def _listen(connect: Callable[[], asyncio.Protocol], sock: socket.socket) -> asyncio.Server:
    return await asyncio.get_running_loop().create_unix_server(connect, sock=sock, backlog=BACKLOG)


def raise_descriptor_limit() -> None:
    """As far as we may, up to what many clients take. Raises OSError where that is too little to serve."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS:
        return
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < 2 * DESCRIPTORS_KEPT:
        raise OSError(f"only {most} open files are allowed (ulimit -n); {2 * DESCRIPTORS_KEPT} are needed")


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**20


def _listener(probe: socket.socket) -> int:
    """The process that listened on what `probe` is connected to; another may have it now. 0: one that is not
    to be seen from here."""
    credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


class _Place:
    """The socket's path in the file system, and the lock beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1
        self._inode = -1

    def take(self) -> socket.socket:
        """Put a listening socket at the path, in one step: nobody sees it half made."""
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise SocketTaken(f"{self._path}: a socket's path is at most {LONGEST_PATH} bytes long")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._check_unanswered()
            return self._bind()
        except BaseException:
            self._drop_lock()
            raise

    def is_ours(self) -> bool:
        """What lies at the path is what was put there."""
        try:
            return os.lstat(self._path).st_ino == self._inode
        except OSError:
            return False

    def take_again(self) -> socket.socket:
        """As `take`, with the lock that is held already."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_unanswered()
        return self._bind()

    def leave(self) -> None:
        """Remove the socket, if it is still the one that was put there."""
        if self.is_ours():
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._drop_lock()

    def _bind(self) -> socket.socket:
        aside = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(aside)
            os.chmod(aside, 0o600)
            sock.listen(BACKLOG)
            self._inode = os.lstat(aside).st_ino
            os.rename(aside, self._path)
        except BaseException:
            sock.close()
            raise
        return sock

    def _take_lock(self) -> None:
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not locks.take(self._lock):
            self._drop_lock()
            raise SocketTaken(f"{self._path}: another daemon is serving there")

    def _drop_lock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_unanswered(self) -> None:
        """Only a socket that nobody listens on may be replaced."""
        try:
            mode = os.lstat(self._path).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise SocketTaken(f"{self._path}: something that is not a socket lies there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            result = probe.connect_ex(os.fspath(self._path))
            if result == 0 and (listener := _listener(probe)) and not locks.lives(listener):
                return  # what the dead daemon was just starting has it open: nobody will ever answer
        if result not in (errno.ECONNREFUSED, errno.ENOENT):
            raise SocketTaken(f"{self._path}: another daemon answers there ({os.strerror(result)})")
