"""Who may see the page: one-time codes, and the sessions that they open.

Codes and tokens are 256 random bits. Only their hashes are kept: a code for a minute in memory, a session in
a file too, so that an open page outlives the daemon's restart. All is bounded: the oldest goes first.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

import msgspec

from trainforged.web.limits import TokenBucket

CODE_SECONDS = 60.0
SESSION_SECONDS = 30 * 86400.0
MOST_CODES = 16
MOST_SESSIONS = 64
FAILURES = 10  # wrong codes that may come at once
FAILURES_PER_SECOND = 1 / 6


class Kept(msgspec.Struct, frozen=True):
    """A code or a session. `digest` is hexadecimal; `expires_at` in seconds since the epoch."""

    digest: str
    expires_at: float


class TooManyTries(Exception):
    """So many wrong codes have come that none is looked at for `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__("too many wrong codes")
        self.wait = wait


class Sessions:
    """`stored` is what `save` was last given; `save` may fail, which costs sessions at the next restart."""

    def __init__(
        self,
        stored: bytes = b"",
        save: Callable[[bytes], None] = lambda data: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._save = save
        self._clock = clock
        self._codes: list[Kept] = []
        self._sessions = _decoded(stored)
        self._failures = TokenBucket(FAILURES_PER_SECOND, FAILURES)

    def new_code(self) -> tuple[str, float]:
        """A code that opens one session, and until when."""
        code, expires_at = secrets.token_urlsafe(32), self._clock() + CODE_SECONDS
        self._codes = [*self._fresh(self._codes), Kept(_digest(code), expires_at)][-MOST_CODES:]
        return code, expires_at

    def open(self, code: str) -> str | None:
        """The token of a new session; None for a code that is wrong, used or old. Raises `TooManyTries`."""
        wait = self._failures.take(self._clock())
        if wait:
            raise TooManyTries(wait)
        found = _find(self._fresh(self._codes), code)
        if found is None:
            return None
        self._failures.put_back()
        self._codes.remove(found)
        token = secrets.token_urlsafe(32)
        kept = Kept(_digest(token), self._clock() + SESSION_SECONDS)
        self._change([*self._fresh(self._sessions), kept][-MOST_SESSIONS:])
        return token

    def expiry(self, token: str) -> float | None:
        """Until when the session lasts; None where there is none."""
        found = _find(self._fresh(self._sessions), token)
        return found.expires_at if found is not None else None

    def close(self, token: str) -> None:
        """Sign out."""
        found = _find(self._sessions, token)
        self._change([session for session in self._sessions if session is not found])

    def _fresh(self, kept: list[Kept]) -> list[Kept]:
        now = self._clock()
        return [one for one in kept if one.expires_at > now]

    def _change(self, sessions: list[Kept]) -> None:
        self._sessions = sessions
        self._save(msgspec.json.encode(sessions))


def _find(kept: list[Kept], secret: str) -> Kept | None:
    """All are compared, each in constant time: how long it takes tells nothing."""
    digest, found = _digest(secret), None
    for one in kept:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _decoded(stored: bytes) -> list[Kept]:
    """A file that cannot be read holds no sessions: people sign in again."""
    try:
        return msgspec.json.decode(stored, type=list[Kept])[-MOST_SESSIONS:] if stored else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
