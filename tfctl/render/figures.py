"""Numbers for people: sizes, durations, moments, metrics. Short, and the same everywhere."""

from __future__ import annotations

import datetime
import math

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(amount: int | None) -> str:
    """Bytes as `1.5 GiB`; a dash for None."""
    if amount is None:
        return "-"
    value = float(amount)
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """`45 s`, `12:05` (minutes), `3:04:05`, `2d 03:04`; a dash for None."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    if hours:
        return f"{hours}:{minutes:02}:{left:02}"
    return f"{minutes}:{left:02}" if minutes else f"{left} s"


def ago(moment: datetime.datetime, now: datetime.datetime | None = None) -> str:
    """How long ago, in one unit: `3 min ago`."""
    seconds = ((now or datetime.datetime.now(datetime.UTC)) - moment).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def clock(moment: datetime.datetime | None) -> str:
    """Local time: of today `22:05:09`, else with the date; a dash for None."""
    if moment is None:
        return "-"
    local = moment.astimezone()
    today = local.date() == datetime.datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M}"


def counted(number: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def metric(value: float | str | None) -> str:
    """Four significant digits; `nan` and `inf` for what is not finite."""
    if value is None or isinstance(value, str):
        return {"Infinity": "inf", "-Infinity": "-inf"}.get(value or "", "nan")
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"
