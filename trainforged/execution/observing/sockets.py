"""What the TCP connections of this network namespace have carried, as the kernel counts it.

Anybody may ask (`man 7 sock_diag`): no privilege is needed, no packet looked at. UDP and RDMA are not seen.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import msgspec

MOST = 10_000  # connections of a family that are looked through: more cost too much, and are refused
PATIENCE = 1.0  # seconds for a piece of the kernel's answer
PIECE = 1 << 16  # bytes; the kernel's pieces are at most 32 KiB

SOCK_DIAG = 4  # netlink's number of the family
BY_FAMILY, DUMP = 20, 0x301  # a request, for all there are
ERROR, DONE = 2, 3
LISTEN, TIME_WAIT = 10, 6  # states in which nothing is carried
STATES = ~(1 << LISTEN | 1 << TIME_WAIT) & 0xFFF
INFO = 2  # the attribute that is a `struct tcp_info`
COUNTED = struct.Struct("=QQ")  # bytes_acked, bytes_received
COUNTED_AT = 120  # in `struct tcp_info`, since Linux 4.1
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
REQUEST = struct.Struct("=BBBBI48s")  # family, protocol, attributes, padding, states, one socket
COOKIE, INODE = struct.Struct("=44xQ"), struct.Struct("=68xI")
MESSAGE = 72  # bytes of `struct inet_diag_msg`; attributes follow
ATTRIBUTE = struct.Struct("=HH")  # length, type


class Connection(msgspec.Struct, frozen=True):
    """One end of a connection. No two ever have the same `cookie`; one of `inode` 0 is held by nobody."""

    cookie: int
    inode: int
    received: int
    sent: int  # and acknowledged


def connections() -> Iterator[Connection]:
    """All there are. Raises OSError where the kernel does not say, or there are more than `MOST`."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as kernel:
        kernel.settimeout(PATIENCE)
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from _of_family(kernel, family)


def _of_family(kernel: socket.socket, family: int) -> Iterator[Connection]:
    request = REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INFO - 1), 0, STATES, b"")
    kernel.send(HEADER.pack(HEADER.size + len(request), BY_FAMILY, DUMP, family, 0) + request)
    seen = 0
    while True:
        piece = kernel.recv(PIECE)
        at = 0
        while at + HEADER.size <= len(piece):
            length, kind, _, sequence, _ = HEADER.unpack_from(piece, at)
            if length < HEADER.size:
                raise OSError("the kernel's answer about connections cannot be read")
            if sequence == family and kind == DONE:
                return
            if sequence == family and kind == ERROR:
                (number,) = struct.unpack_from("=i", piece, at + HEADER.size)
                raise OSError(-number, os.strerror(-number))
            found = _connection(piece[at + HEADER.size : at + length]) if kind == BY_FAMILY else None
            if found is not None:
                yield found
            at += _aligned(length)
            seen += 1
        if seen > MOST:
            raise OSError(f"there are more than {MOST} connections")


def _connection(message: bytes) -> Connection | None:
    """None of one that the kernel has no figures of."""
    (cookie,), (inode,) = COOKIE.unpack_from(message), INODE.unpack_from(message)
    at = MESSAGE
    while at + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, at)
        if kind == INFO and length >= ATTRIBUTE.size + COUNTED_AT + COUNTED.size:
            sent, received = COUNTED.unpack_from(message, at + ATTRIBUTE.size + COUNTED_AT)
            return Connection(cookie, inode, received, sent)
        at += max(ATTRIBUTE.size, _aligned(length))
    return None


def _aligned(length: int) -> int:
    return (length + 3) & ~3
