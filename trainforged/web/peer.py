"""Whose process is at the other end of a loopback connection, as the kernel knows it.

The kernel is asked for that one socket (sock_diag(7)): 0.03 ms, however many there are. Where it does not
answer, its table of all sockets is read (proc_pid_net(5)), which takes 15 ms where there are 10,000.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

Address = tuple[str, int]

LOOKS = 3  # the table is no snapshot: one line can be passed over while others come and go
NOBODYS = 0  # the inode of a socket that its process has closed; its uid reads 0 then, whoever it was
PATIENCE = 1.0  # seconds; the kernel has answered by the time that it has taken the question

LISTEN = 10  # the state of a socket that is no connection's
_SOCK_DIAG, _BY_FAMILY, _ONE, _ERROR = 4, 20, 1, 2  # netlink's numbers
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_REQUEST = struct.Struct("=BBBBIHH16s16sIQ")  # family, protocol; states, ports, addresses, …, cookie
_SOCKET = struct.Struct("=xB2xHH44x12xII")  # state, ports, uid, inode
_ANY_COOKIE = 2**64 - 1


class End(msgspec.Struct, frozen=True):
    """One end of a connection, as the kernel tells of it."""

    uid: int
    inode: int


def owner(transport: Any) -> int | None:
    """The uid of the client's socket; None where it cannot be told (the client has gone, say)."""
    ours, theirs = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    if not ours or not theirs:
        return None
    try:
        end = _asked(theirs, ours)
    except OSError:
        end = next((found for _ in range(LOOKS) if (found := _looked_up(theirs, ours)) is not None), None)
    return end.uid if end is not None and end.inode != NOBODYS else None


def is_stranger(transport: Any) -> bool:
    return not is_ours(owner(transport))


def is_ours(uid: int | None) -> bool:
    """This user's, or root's, which may do all that this user may (and forwards those of containers).
    Whose it is must be known: a request that was sent by somebody who has gone is not carried out."""
    return uid in (0, os.geteuid())


# ---------------------------------------------------------------- asking the kernel for one socket


def _asked(local: Address, remote: Address) -> End | None:
    """The end at `local` of the connection to `remote`; None where there is none.

    Raises OSError where the kernel does not answer.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(PATIENCE)
        try:
            found = _ask(kernel, local, remote)
        except FileNotFoundError:
            _ask(kernel, remote, local)  # our own end, or what listens there: else nobody answers here at all
            return None
    state, local_port, remote_port, uid, inode = _SOCKET.unpack_from(found)
    named = (socket.ntohs(local_port), socket.ntohs(remote_port)) == (local[1], remote[1])
    return End(uid, inode) if named and state != LISTEN else None


def _ask(kernel: socket.socket, local: Address, remote: Address) -> bytes:
    """A `struct inet_diag_msg`: of the connection, or else of what listens at `local`."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    ports = socket.htons(local[1]), socket.htons(remote[1])
    question = _REQUEST.pack(
        family, socket.IPPROTO_TCP, 0, 0, 2**32 - 1, *ports, _packed(local), _packed(remote), 0, _ANY_COOKIE
    )
    kernel.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _ONE, 0, 0) + question)
    answer = kernel.recv(1 << 16)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        (number,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-number, os.strerror(-number))
    if kind != _BY_FAMILY or len(answer) < _HEADER.size + _SOCKET.size:
        raise OSError(errno.EBADMSG, "the kernel's answer about a connection cannot be read")
    return answer[_HEADER.size :]


def _packed(address: Address) -> bytes:
    return ipaddress.ip_address(address[0].partition("%")[0]).packed


# ---------------------------------------------------------------- its table of all sockets


def _looked_up(local: Address, remote: Address) -> End | None:
    ends = _hexadecimal(local), _hexadecimal(remote)
    for columns in _sockets("/proc/self/net/tcp6" if ":" in local[0] else "/proc/self/net/tcp"):
        if (columns[1], columns[2]) == ends:
            return End(int(columns[7]), int(columns[9]))
    return None


def _sockets(path: str) -> Iterator[list[str]]:
    try:
        with open(path) as table:
            next(table, None)
            yield from (line.split() for line in table)
    except OSError:
        return


def _hexadecimal(address: Address) -> str:
    """As the table writes it: words of four bytes in the machine's own order, then the port."""
    packed = _packed(address)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
