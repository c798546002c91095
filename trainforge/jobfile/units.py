"""Sizes, durations and moments as people write them.

Each `parse_…` raises ValueError with a whole sentence: what was expected, what was found, and often
what was probably meant. Nothing here reads the clock: `now` is given.
"""

from __future__ import annotations

import datetime
import re

from trainforge.jobfile.mistakes import expected, show

SIZE = "a size such as 32Gi, 500M or a number of bytes"
DURATION = "a duration such as 90s, 30m, 12h, 2d or HH:MM:SS"
BEGIN = 'a time such as "22:00", 2026-11-22T22:00 or now+2h'

LONGEST = 100 * 365 * 86400  # seconds; keeps every sum with a moment within what a datetime holds
LARGEST = 1 << 60  # bytes

_FACTORS = {
    "": 1,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_SIZE = r"([0-9]{1,19})(?:\.([0-9]{1,9}))?(Ki|Mi|Gi|Ti|K|M|G|T|)"
_LOOSE_SIZE = r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt])(i?)b?"
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_DURATION = rf"(?:({_NUMBER})d)?(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?"
_CLOCK = r"([0-9]{1,6}):([0-5][0-9]):([0-5][0-9])"
_LOOSE_DURATION = r"([0-9.]+)\s*(d|h|m|s)[a-z]*"
_LONGEST_TEXT = 64


def parse_size(text: str) -> int:
    """Bytes. Decimals are rounded down: `1.5Gi` is 1610612736."""
    match = re.fullmatch(_SIZE, text)
    if match is None or (match[2] and not match[3]):
        raise ValueError(expected(SIZE, show(text), _size_hint(text)))
    decimals = match[2] or ""
    size = int(match[1] + decimals) * _FACTORS[match[3]] // int(10 ** len(decimals))
    if size > LARGEST:
        raise ValueError(expected("a size of at most 1 EiB", show(text)))
    return size


def parse_duration(text: str) -> float:
    """Seconds. Units may be put together, the largest first: `1d12h`. A bare number is refused."""
    seconds = _clock(text) if ":" in text else _sum_of_units(text)
    if seconds is None:
        raise ValueError(expected(DURATION, show(text), _duration_hint(text)))
    return within_longest(seconds, text)


def within_longest(seconds: float, found: str) -> float:
    if not 0 <= seconds <= LONGEST:  # also false for NaN
        raise ValueError(expected("a duration from 0 to 100 years", show(found)))
    return seconds


def parse_begin(text: str, now: datetime.datetime) -> datetime.datetime:
    """A moment in UTC. `22:00` is the next one, and without an offset a time is local time.

    `now` is aware. A moment in the past is allowed: it has come.
    """
    try:
        moment = _moment(text.strip(), now)
        return moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError):
        raise ValueError(expected(BEGIN, show(text), _begin_hint(text))) from None


def _size_hint(text: str) -> str:
    match = re.fullmatch(_LOOSE_SIZE, text.strip(), re.IGNORECASE) if len(text) < _LONGEST_TEXT else None
    return f"did you mean {match[1]}{match[2].upper()}{match[3].lower()}?" if match else ""


def _clock(text: str) -> float | None:
    match = re.fullmatch(_CLOCK, text)
    return int(match[1]) * 3600.0 + int(match[2]) * 60 + int(match[3]) if match else None


def _sum_of_units(text: str) -> float | None:
    match = re.fullmatch(_DURATION, text) if text and len(text) < _LONGEST_TEXT else None
    if match is None:
        return None
    return sum(
        float(number) * unit
        for number, unit in zip(match.groups(), (86400.0, 3600.0, 60.0, 1.0), strict=True)
        if number
    )


def _duration_hint(text: str) -> str:
    if len(text) >= _LONGEST_TEXT:
        return ""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return f"a bare number has no unit: did you mean {text}s, {text}m or {text}h?"
    if re.fullmatch(r"[0-9]{1,2}:[0-5][0-9]", text):
        return f"did you mean {text}:00 or 00:{text:0>5}?"
    match = re.fullmatch(_LOOSE_DURATION, text.strip(), re.IGNORECASE)
    return f"did you mean {match[1]}{match[2].lower()}?" if match else ""


def _moment(text: str, now: datetime.datetime) -> datetime.datetime:
    if re.match(r"now\s*\+", text):
        _, _, duration = text.partition("+")
        return now + datetime.timedelta(seconds=parse_duration(duration.strip()))
    if match := re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text):
        return _next(datetime.time(int(match[1]), int(match[2])), now)
    if not re.match(r"[0-9]{4}-", text):
        raise ValueError(text)
    return datetime.datetime.fromisoformat(text)


def _next(time: datetime.time, now: datetime.datetime) -> datetime.datetime:
    """The next local `time`. Counted in days of the calendar: a day may have 23 or 25 hours."""
    today = now.astimezone().date()
    moment = datetime.datetime.combine(today, time)
    if moment.astimezone() < now:
        moment = datetime.datetime.combine(today + datetime.timedelta(days=1), time)
    return moment


def _begin_hint(text: str) -> str:
    stripped = text.strip()
    if stripped.startswith("now"):
        return "after now+ comes a duration: 90s, 30m, 12h, 2d or HH:MM:SS"
    if len(stripped) < _LONGEST_TEXT and re.fullmatch(_DURATION, stripped):
        return f"did you mean now+{stripped}?" if stripped else ""
    return ""
