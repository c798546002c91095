"""Short-lived helpers of the client, such as git: start several, then collect their output.

In place of `subprocess`, whose import takes longer than the processes it would start here.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping

import msgspec


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """`code` is the exit status, or minus the signal."""

    code: int
    output: bytes
    errors: str


class Process:
    """Started when made. FileNotFoundError if there is no such program on PATH."""

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str], stdin: bytes = b"") -> None:
        self._files = [os.memfd_create(name) for name in ("in", "out", "errors")]
        try:
            _feed(self._files[0], stdin)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(self._files)]
            self.pid = os.posix_spawnp(
                argv[0], argv, env, file_actions=actions, setsigdef=[signal.SIGPIPE], setsigmask=[]
            )
        except BaseException:
            self._close()
            raise

    def finish(self, timeout: float | None = None) -> Finished | None:
        """Wait until it has ended; after `timeout` seconds kill it and return None."""
        ended = False
        try:
            ended = _wait(self.pid, timeout)
        finally:
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
            status = os.waitpid(self.pid, 0)[1]
            output, errors = (_content(fd) for fd in self._files[1:])
            self._close()
        if not ended:
            return None
        code = os.waitstatus_to_exitcode(status)
        return Finished(code=code, output=output, errors=errors.decode(errors="replace"))

    def _close(self) -> None:
        for fd in self._files:
            os.close(fd)


def _feed(fd: int, data: bytes) -> None:
    if data:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)


def _wait(pid: int, timeout: float | None) -> bool:
    watch = select.poll()
    pidfd = os.pidfd_open(pid)
    try:
        watch.register(pidfd, select.POLLIN)
        return bool(watch.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(pidfd)


def _content(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "rb", closefd=False) as file:
        return file.read()
