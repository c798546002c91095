"""Locks that die with the shim: one shim per attempt, one holder per GPU on the whole machine."""

from __future__ import annotations

import fcntl
import os

from trainforged.execution.shim.lean import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PEER = "3i"  # struct ucred: pid, uid, gid


class GpuHeld(Exception):
    """Another process holds the GPU: another daemon's attempt, as a rule."""

    def __init__(self, uuid: str, holder: int | None) -> None:
        by = "another process" if holder is None else f"process {holder}"
        super().__init__(f"GPU {uuid} is held by {by}, which belongs to another TrainForge daemon or attempt")


def lock_attempt(folder: str) -> int | None:
    """The locked descriptor, held for the shim's life; None if another shim (or the daemon) has it."""
    fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def lock_gpus(uuids: Iterable[str], prefix: str) -> list[socket.socket]:
    """Take the machine-wide name of each GPU. Raises GpuHeld; then none is kept."""
    return [_take(uuid, f"\0{prefix}{uuid}".encode()) for uuid in uuids]


def peer_pid(connection: socket.socket) -> int:
    """Who is at the other end, as the kernel says."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], "little")


def _take(uuid: str, name: bytes) -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(name)
    except OSError:
        raise GpuHeld(uuid, _holder(name)) from None
    lock.listen(1)  # so that whoever comes second can ask who was first
    return lock


def _holder(name: bytes) -> int | None:
    question = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    question.setblocking(False)
    try:
        question.connect(name)
        return peer_pid(question)
    except OSError:
        return None
    finally:
        question.close()
