"""Named points at which a process dies, if somebody waits for it there.

Who waits writes the file `point`, which names a second one that is there for this wait alone; the first
process that reaches the point takes that away, notes who it was, and dies by SIGKILL, or stops for good so
that the power can be cut at that very moment. Imported by daemons, shims and jobs alike: the smallest parts
of the standard library alone.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

SIGKILL, SIGSTOP = 9, 19
FILE, REACHED = "point", "reached"

# In the order in which they are passed. Those of the supervisor are its own (`Means.reached`).
DAEMON = (
    "daemon: before a commit",
    "daemon: after a commit",
    "daemon: folder made",
    "daemon: prepared",
    "daemon: order written",
    "daemon: spawned",
    "daemon: ready",
    "daemon: ended",
    "daemon: end known",
    "daemon: release begun",
    "daemon: released",
)
SHIM = (
    "shim: it has the lock",
    "shim: it has said who it is",
    "shim: before the command",
    "shim: the command runs",
    "shim: before the exit status",
    "shim: after the exit status",
)
RANK = ("rank: it begins", "rank: it saves", "rank: it has saved")
HARMLESS = ("shim: it has the lock", "shim: after the exit status")  # the true status is learnt all the same


def reached(folder: str, point: str, who: str = "") -> None:
    """Dies here, if this is the point that is waited for. `who`: told to who waits."""
    try:
        with open(f"{folder}/{FILE}") as file:
            wanted, what, only = file.read().rsplit(" ", 2)
        if wanted != point:
            return
        os.unlink(f"{folder}/{only}")
    except (OSError, ValueError):
        return  # nobody waits, or another was quicker
    with open(f"{folder}/{REACHED}.new", "w") as file:
        file.write(f"{os.getpid()} {who}")
    os.rename(f"{folder}/{REACHED}.new", f"{folder}/{REACHED}")
    os.kill(os.getpid(), SIGKILL if what == "kill" else SIGSTOP)


def around(function: Callable[P, T], before: str, after: str, here: Callable[[str], None]) -> Callable[P, T]:
    """The function with a point before it and one after it; an empty name is none."""

    def passing(*args: P.args, **kwargs: P.kwargs) -> T:
        if before:
            here(before)
        result = function(*args, **kwargs)
        if after:
            here(after)
        return result

    return passing
