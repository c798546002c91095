"""What running attempts send and receive over TCP, from looks at their sockets now and then.

A socket belongs to the attempt whose process holds it, and once it was seen it is counted until it is gone.
What is between ranks on this machine counts like any other connection, once for each end. Two things are
missed: a connection that comes and goes between two looks, and what one carries after the last look at it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping

import msgspec

from trainforged.execution.observing import sockets

MOST_FILES = 20_000  # open files of an attempt that are looked through
KEPT_LOOKS = 30  # that a connection may be missing from the kernel's list and still be the one it was
SOCKET = "socket:["

log = logging.getLogger(__name__)


class Carried(msgspec.Struct, frozen=True):
    """Bytes since the first look."""

    received: int = 0
    sent: int = 0


class Known(msgspec.Struct):
    """A connection of an attempt, as it was last seen."""

    received: int
    sent: int
    look: int


class Account(msgspec.Struct):
    """Of one attempt, known by its shim's pid."""

    shim: int
    received: int = 0
    sent: int = 0
    known: dict[int, Known] = {}  # by cookie

    def note(self, connection: sockets.Connection, look: int) -> None:
        before = self.known.get(connection.cookie) or Known(0, 0, look)
        self.received += max(0, connection.received - before.received)
        self.sent += max(0, connection.sent - before.sent)
        self.known[connection.cookie] = Known(connection.received, connection.sent, look)

    def forget(self, look: int) -> None:
        """Connections that have been gone for long."""
        if any(known.look < look - KEPT_LOOKS for known in self.known.values()):
            self.known = {c: known for c, known in self.known.items() if known.look >= look - KEPT_LOOKS}


class Traffic:
    """One look at a time; a look blocks for a ms or so, and asks nothing where no attempt has a socket."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {}
        self._look = 0
        self._told = False

    def look(self, attempts: Mapping[int, tuple[int, Iterable[int]]]) -> dict[int, Carried]:
        """By job, from (shim, pids) by job. Jobs of which it cannot be known are left out."""
        self._look += 1
        held = {job: _sockets(pids) for job, (_, pids) in attempts.items()}
        known = {job: inodes for job, inodes in held.items() if inodes is not None}
        self._accounts = {job: self._account(job, shim) for job, (shim, _) in attempts.items()}
        try:
            self._note(known)
        except OSError as error:
            if not self._told:
                log.info("network use of jobs is not known: %s", error)
                self._told = True
            return {}
        return {job: Carried(self._accounts[job].received, self._accounts[job].sent) for job in known}

    def _account(self, job: int, shim: int) -> Account:
        account = self._accounts.get(job)
        return account if account is not None and account.shim == shim else Account(shim)

    def _note(self, held: Mapping[int, set[int]]) -> None:
        owners = {inode: self._accounts[job] for job, inodes in held.items() for inode in inodes}
        former = {cookie: one for one in self._accounts.values() for cookie in one.known}
        if not owners and not former:
            return
        for connection in tuple(sockets.connections()):  # whole, or nothing of it counts
            account = former.get(connection.cookie) or owners.get(connection.inode)
            if account is not None:
                account.note(connection, self._look)
        for account in self._accounts.values():
            account.forget(self._look)


def _sockets(pids: Iterable[int]) -> set[int] | None:
    """Inodes. None where processes may not be looked at, live in a network of their own, or have too many
    files open. A process that is gone has none."""
    ours = os.readlink("/proc/self/ns/net")
    found: set[int] = set()
    files = 0
    for pid in pids:
        folder = f"/proc/{pid}/fd"
        try:
            if os.readlink(f"/proc/{pid}/ns/net") != ours:
                return None
            names = os.listdir(folder)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return None
        files += len(names)
        if files > MOST_FILES:
            return None
        found.update(_inodes(folder, names))
    return found


def _inodes(folder: str, names: Iterable[str]) -> Iterable[int]:
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:  # closed meanwhile
            continue
        if target.startswith(SOCKET):
            yield int(target[len(SOCKET) : -1])
