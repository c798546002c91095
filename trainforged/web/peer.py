"""Whose process is at the other end of a loopback connection, as the kernel knows it: proc_pid_net(5)."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from typing import Any

Address = tuple[str, int]

LOOKS = 3  # the table is no snapshot: one line can be passed over while others come and go
NOBODYS = "0"  # the inode of a socket that its process has closed; its uid reads 0 then, whoever it was


def owner(transport: Any) -> int | None:
    """The uid of the client's socket; None where it cannot be told (the client has gone, say)."""
    return next((uid for _ in range(LOOKS) if (uid := _looked_up(transport)) is not None), None)


def _looked_up(transport: Any) -> int | None:
    ours, theirs = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    if not ours or not theirs:
        return None
    local, remote = _hexadecimal(theirs), _hexadecimal(ours)  # as the client's end sees it
    for columns in _sockets("/proc/self/net/tcp6" if ":" in theirs[0] else "/proc/self/net/tcp"):
        if columns[1] == local and columns[2] == remote:
            return int(columns[7]) if columns[9] != NOBODYS else None
    return None


def is_stranger(transport: Any) -> bool:
    return not is_ours(owner(transport))


def is_ours(uid: int | None) -> bool:
    """This user's, or root's, which may do all that this user may (and forwards those of containers).
    Whose it is must be known: a request that was sent by somebody who has gone is not carried out."""
    return uid in (0, os.geteuid())


def _sockets(path: str) -> Iterator[list[str]]:
    try:
        with open(path) as table:
            next(table, None)
            yield from (line.split() for line in table)
    except OSError:
        return


def _hexadecimal(address: Address) -> str:
    """As the table writes it: words of four bytes in the machine's own order, then the port."""
    packed = ipaddress.ip_address(address[0].partition("%")[0]).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
