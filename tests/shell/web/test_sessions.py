"""Codes and sessions: used once, for a while, and not without bounds."""

from __future__ import annotations

import pytest

from trainforged.web.port.sessions import (
    CODE_SECONDS,
    FAILURES,
    MOST_CODES,
    MOST_SESSIONS,
    SESSION_SECONDS,
    Sessions,
    TooManyTries,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_code_opens_one_session_in_time(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    code, until = sessions.new_code()
    assert until == clock.now + CODE_SECONDS
    token = sessions.open(code)
    assert token is not None
    assert sessions.open(code) is None
    assert sessions.expiry(token) == clock.now + SESSION_SECONDS

    late, _ = sessions.new_code()
    clock.now += CODE_SECONDS
    assert sessions.open(late) is None


def test_a_session_ends_by_time_or_by_word(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    first, second = (sessions.open(sessions.new_code()[0]) for _ in range(2))
    assert first is not None
    assert second is not None
    sessions.close(first)
    sessions.close(first)
    assert sessions.expiry(first) is None
    assert sessions.expiry(second) is not None
    clock.now += SESSION_SECONDS
    assert sessions.expiry(second) is None


def test_wrong_codes_are_few_and_right_ones_do_not_count(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    for _ in range(3 * FAILURES):
        assert sessions.open(sessions.new_code()[0]) is not None
    for _ in range(FAILURES):
        assert sessions.open("wrong") is None
    code, _ = sessions.new_code()
    with pytest.raises(TooManyTries) as refused:
        sessions.open(code)
    clock.now += refused.value.wait + 0.1
    assert sessions.open(code) is not None


def test_there_are_never_many_of_either(clock: Clock) -> None:
    sessions = Sessions(clock=clock)
    codes = [sessions.new_code()[0] for _ in range(MOST_CODES + 1)]
    assert sessions.open(codes[0]) is None
    assert sessions.open(codes[1]) is not None
    tokens = [sessions.open(sessions.new_code()[0]) or "" for _ in range(MOST_SESSIONS + 1)]
    assert sessions.expiry(tokens[0]) is None
    assert sessions.expiry(tokens[1]) is not None


def test_sessions_are_stored_as_hashes_and_found_again(clock: Clock) -> None:
    stored = [b""]
    sessions = Sessions(save=lambda data: stored.__setitem__(0, data), clock=clock)
    token = sessions.open(sessions.new_code()[0]) or ""
    assert token.encode() not in stored[0]
    assert Sessions(stored[0], clock=clock).expiry(token) is not None
    for damaged in (b"{", b"[]", b"\xff", stored[0][:-4]):
        assert Sessions(damaged, clock=clock).expiry(token) is None


@pytest.mark.parametrize("code", ["", "x" * 10_000, "\udcff", "é"])
def test_odd_codes_are_only_wrong(code: str) -> None:
    assert Sessions().open(code) is None
