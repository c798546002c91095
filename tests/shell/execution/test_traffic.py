"""What jobs send and receive over TCP, with real processes that do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import tcp_is_counted, wait_for
from trainforged.execution.observing import sockets
from trainforged.execution.observing.sockets import Connection
from trainforged.execution.observing.traffic import KEPT_LOOKS, Account, Carried, Traffic

pytestmark = pytest.mark.skipif(not tcp_is_counted(), reason="this kernel has no inet_diag")

SPEAKS = """
import socket, sys
family, serves = socket.AddressFamily(int(sys.argv[1])), len(sys.argv) == 2
if serves:
    server = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
    print(server.getsockname()[1], flush=True)
peer = None
for line in sys.stdin:
    word, *number = line.split()
    if word == "connect":
        peer = server.accept()[0] if serves else socket.create_connection((sys.argv[2], int(sys.argv[3])))
    elif word == "send":
        peer.sendall(bytes(int(number[0])))
    elif word == "receive":
        left = int(number[0])
        while left:
            left -= len(peer.recv(min(left, 1 << 16)))
    elif word == "close":
        peer.close()
    print("done", flush=True)
"""


class Speaker:
    """A process that does as it is told, and has done it when `done` returns."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SPEAKS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def done(self) -> None:
        assert self.line() == "done"

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Pair:
    def __init__(self, family: int, host: str) -> None:
        self.server = Speaker(str(family))
        self.client = Speaker(str(family), host, self.server.line())

    def both(self, server: str, client: str) -> None:
        self.server.tell(server)
        self.client.tell(client)
        self.server.done()
        self.client.done()

    def look(self, traffic: Traffic, shim: int = 5) -> tuple[Carried, Carried]:
        """Of the server as job 1, and of the client as job 2."""
        found = traffic.look({1: (shim, [self.server.pid]), 2: (shim + 1, [self.client.pid])})
        return found[1], found[2]

    def comes_to(self, traffic: Traffic, received: int, sent: int, shim: int = 5) -> None:
        """The server has received and sent so much, the client the reverse. What was received may be
        acknowledged a little later."""
        wait_for(
            lambda: all(
                near(carried, *so_much)
                for carried, so_much in zip(
                    self.look(traffic, shim), ((received, sent), (sent, received)), strict=True
                )
            ),
            60,
        )


@pytest.fixture(params=[(2, "127.0.0.1"), (10, "::1")], ids=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made = Pair(*request.param)
    yield made
    made.server.end()
    made.client.end()


def near(carried: Carried, received: int, sent: int) -> bool:
    """The kernel counts the start and the end of a connection as a byte each."""
    return abs(carried.received - received) <= 4 and abs(carried.sent - sent) <= 4


def test_each_end_is_counted_for_its_job_and_a_closed_connection_takes_nothing_away(pair: Pair) -> None:
    traffic = Traffic()
    assert pair.look(traffic) == (Carried(), Carried())
    pair.both("connect", "connect")
    pair.both("receive 3000000", "send 3000000")
    pair.both("send 7000", "receive 7000")
    pair.comes_to(traffic, 3_000_000, 7_000)

    pair.both("close", "close")
    pair.comes_to(traffic, 3_000_000, 7_000)
    pair.both("connect", "connect")
    pair.both("receive 500000", "send 500000")
    pair.comes_to(traffic, 3_500_000, 7_000)


def test_the_next_attempt_of_a_job_begins_at_nothing_and_brings_its_own(pair: Pair) -> None:
    traffic = Traffic()
    pair.both("connect", "connect")
    pair.both("receive 90000", "send 90000")
    pair.look(traffic)
    pair.both("close", "close")
    pair.both("connect", "connect")
    pair.both("receive 100", "send 100")
    pair.comes_to(traffic, 100, 0, shim=50)


def test_what_the_kernel_does_not_tell_is_not_known_and_counted_later(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic()
    pair.both("connect", "connect")
    pair.both("receive 1000", "send 1000")
    pair.look(traffic)
    pair.both("receive 500", "send 500")
    with monkeypatch.context() as patch:
        patch.setattr(sockets, "MOST", 0)
        assert traffic.look({1: (5, [pair.server.pid]), 2: (6, [pair.client.pid])}) == {}
    pair.comes_to(traffic, 1500, 0)


def test_a_job_with_too_many_files_is_not_looked_through(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainforged.execution.observing.traffic.MOST_FILES", 1)
    assert Traffic().look({1: (5, [pair.server.pid])}) == {}


def test_a_process_that_is_gone_is_no_reason_not_to_know() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert Traffic().look({1: (5, [gone.pid])}) == {1: Carried()}


def test_a_job_with_a_network_of_its_own_is_not_known() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    with subprocess.Popen(
        [unshare, "-rn", "sh", "-c", "echo there; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as apart:
        assert apart.stdout is not None
        assert apart.stdout.readline() == b"there\n"
        assert Traffic().look({1: (5, [apart.pid])}) == {}
        apart.kill()


def test_a_connection_that_a_list_left_out_is_not_counted_twice() -> None:
    account = Account(5)
    account.note(Connection(7, 70, received=100, sent=10), look=1)
    account.forget(look=1 + KEPT_LOOKS)
    account.note(Connection(7, 0, received=150, sent=10), look=1 + KEPT_LOOKS)
    assert (account.received, account.sent) == (150, 10)
    account.forget(look=2 + 2 * KEPT_LOOKS)
    assert account.known == {}
