"""Whose a loopback connection is: asked of the kernel for one socket, or read from its table."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from trainforged.web import peer

NO_SUCH_FAMILY = 31  # of netlink: its numbers end there, and none has this one
RESET = struct.pack("ii", 1, 0)


class Accepted:
    """What a transport tells of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._told = {"sockname": sock.getsockname(), "peername": sock.getpeername()}

    def get_extra_info(self, name: str) -> object:
        return self._told[name]


@pytest.fixture(params=["asked", "table"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "table":
        monkeypatch.setattr(peer, "_SOCK_DIAG", NO_SUCH_FAMILY)
    return str(request.param)


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as sock:
        try:
            sock.bind((request.param, 0))
        except OSError:
            pytest.skip(f"this machine has no {request.param}")
        sock.listen()
        yield sock


def connected(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection(listening.getsockname()[:2])
    return client, listening.accept()[0]


@pytest.mark.usefixtures("way")
def test_the_owner_of_the_other_end_is_known(listening: socket.socket) -> None:
    client, accepted = connected(listening)
    with client, accepted:
        assert peer.owner(Accepted(accepted)) == os.geteuid()
        assert not peer.is_stranger(Accepted(accepted))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("reset", [False, True])
def test_who_has_left_is_nobody(listening: socket.socket, reset: bool) -> None:
    """Not root, whose number the kernel gives then; nor who listens where the client was."""
    client, accepted = connected(listening)
    told, place = Accepted(accepted), client.getsockname()
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    with accepted, socket.socket(listening.family) as later:
        later.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reset:
            later.bind(place)
            later.listen()
        assert peer.owner(told) is None
        assert peer.is_stranger(told)


def test_a_client_that_speaks_both_protocols_is_known() -> None:
    """As Java's do: its end of the connection is an IPv6 socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_INET6) as client:
        try:
            client.connect(("::ffff:127.0.0.1", listening.getsockname()[1]))
        except OSError:
            pytest.skip("this machine has no IPv6")
        with listening.accept()[0] as accepted:
            assert peer.owner(Accepted(accepted)) == os.geteuid()
