"""When a GPU counts as wasted: its use over the whole of the last while is below a few per cent. Pure.

The while is divided into slots, of which most must have been seen: after a start, or a time in which
the daemon was away, nobody is accused.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainforge.api import Waste
from trainforged.daemon.answering.views import moment
from trainforged.storage.accounts import Account, Window

SLOTS = 30
LEAST_SEEN = 20


def add(window: Window, slot: int, percent: float) -> None:
    """One look at the GPU's use. Slots that are past the while go."""
    if window.slots and window.slots[-1][0] == slot:
        _, total, count = window.slots[-1]
        window.slots[-1] = (slot, total + percent, count + 1)
    else:
        window.slots.append((slot, percent, 1))
    while window.slots[0][0] < slot - SLOTS:
        window.slots.pop(0)


def mean(window: Window, slot: int) -> float | None:
    """Per cent over the slots before `slot`; None where too few were seen."""
    seen = [(total, count) for number, total, count in window.slots if slot - SLOTS <= number < slot]
    if len(seen) < LEAST_SEEN:
        return None
    return sum(total / count for total, count in seen) / len(seen)


def judge(account: Account, now: float, after: float, below: float) -> None:
    """Keep `account.low`: the GPUs that are wasted, each since when. A GPU whose use is not known now
    stays as it was."""
    if now - account.granted_at < after:
        return
    slot = int(now / (after / SLOTS))
    for uuid, window in account.windows.items():
        percent = mean(window, slot)
        if percent is not None and percent < below:
            account.low.setdefault(uuid, now - after)
        elif percent is not None:
            account.low.pop(uuid, None)


def waste(account: Account, now: float, after: float, indices: Sequence[tuple[str, int]]) -> Waste | None:
    """What to say of the account; `indices` are the job's GPUs as (UUID, number)."""
    low = [(uuid, index) for uuid, index in indices if uuid in account.low]
    if not low:
        return None
    slot = int(now / (after / SLOTS))
    means = [mean(account.windows[uuid], slot) for uuid, _ in low if uuid in account.windows]
    known = [percent for percent in means if percent is not None]
    percent = sum(known) / len(known) if known else 0.0
    since = min(account.low[uuid] for uuid, _ in low)
    which = ", ".join(str(index) for _, index in low)
    sentence = f"has used {percent:.1f} % of GPU {which} for {_span(now - since)}"
    return Waste(since=moment(since), mean_utilization=round(percent, 2), sentence=sentence)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
