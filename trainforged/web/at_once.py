"""Questions that memory answers, answered where they arrive: by no task, behind nobody's turn.

A question is known by its bytes. The first time a plain request (`is_plain`) goes the long way, through
parser, routes and guard; where its route can be answered at once, its bytes are remembered with the question
that they turned out to be. So nothing is parsed here, and the same bytes can mean nothing else. This is for
the socket alone, where who may connect may ask everything; who asks the web port passes its gate each time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

import msgspec
from aiohttp.http import SERVER_SOFTWARE

Question = Callable[[], object | None]
"""Gives the answer, as it is now; None where it cannot be given without waiting for something."""

log = logging.getLogger(__name__)

LONGEST = 1024  # bytes of a request that is remembered
MOST = 256  # requests that are remembered, the newest
_NOT_PLAIN = (b"content-length", b"transfer-encoding", b"upgrade", b"expect")
_HEAD = b"\r\n".join(
    (
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Content-Length: %d",
        b"Date: %s",
        b"Server: %s\r\n\r\n",
    )
)
_SERVER = SERVER_SOFTWARE.encode()


def is_plain(data: bytes) -> bool:
    """One whole request and nothing else, where the connection was at the beginning of one."""
    if len(data) > LONGEST or not data.startswith(b"GET ") or data.find(b"\r\n\r\n") != len(data) - 4:
        return False
    head = data.lower()
    return not any(word in head for word in _NOT_PLAIN)


class AtOnce:
    """What is known of an application's questions. `requests` counts what was answered, as the guard does."""

    def __init__(self, requests: Counter[tuple[str, str, int]]) -> None:
        self._requests = requests
        self._known: dict[bytes, tuple[str, Question]] = {}

    def learn(self, request: bytes, route: str, question: Question) -> None:
        """These bytes, which are plain, were this question. `route` is its name in the counts."""
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[request] = route, question

    def answer(self, request: bytes) -> bytes | None:
        """All that is to be sent; None where it has to go the long way."""
        known = self._known.get(request)
        if known is None:
            return None
        route, question = known
        try:
            found = question()
        except Exception:
            log.debug("not answered at once: %r", request[:80], exc_info=True)
            return None  # the long way says what is wrong
        if found is None:
            return None
        body = msgspec.json.encode(found)
        self._requests["GET", route, 200] += 1
        return _HEAD % (len(body), formatdate(usegmt=True).encode(), _SERVER) + body
