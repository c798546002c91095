"""Processes that an attempt left behind: found by the mark they carry, killed, and seen to be gone.

The shim ends everything it is above. What is found here outlived the shim itself, or escaped it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from trainforge.protocol import TOKEN
from trainforged.execution import processes
from trainforged.execution.shim.group import Group

PAUSE = 0.02  # seconds between two looks


def kill_all(token: str, group: str | None = None, *, looks: int, patience: float) -> tuple[int, ...]:
    """Kill what is in the group, and what carries the token until `looks` looks in a row find nothing.

    Returns who is left after `patience` seconds, as a rule nobody. One look suffices where a shim
    has seen to it already. Where none has, a process may fork away from under the look: ask for two.
    """

    def find() -> Iterator[processes.Stat]:
        return processes.carriers(TOKEN, token)

    if group is not None and (left := Group(group).clear(patience)):
        return tuple(left)
    limit = time.monotonic() + patience
    clean = 0
    while clean < looks:
        killed = processes.kill(find)
        if not killed:
            clean += 1
            continue
        clean = 0
        if time.monotonic() > limit:
            return tuple(sorted(killed))
        time.sleep(PAUSE)
    return ()


def kill_family(family: Iterable[tuple[int, int]]) -> None:
    """Kill these processes (pid, start time) and what descends from them, as far as they live: some may have
    taken off the mark, and only who was above them told whose they are."""
    members = tuple(family)

    def find() -> Iterator[processes.Stat]:
        among = processes.all_stats()
        alive = [pid for pid, start in members if pid in among and among[pid].start_time == start]
        found = {pid for root in alive for pid in processes.tree(root, among)}
        return (among[pid] for pid in sorted(found) if not among[pid].over)

    if members:
        processes.kill(find)


def describe(pids: tuple[int, ...]) -> str:
    """The first of them, for a sentence: `process 41 (python, state D)`."""
    stat = processes.read_stat(pids[0])
    name = processes.read_proc(f"/proc/{pids[0]}/comm").decode(errors="replace").strip() or "?"
    state = f", state {stat.state}" if stat is not None else ""
    more = f" and {len(pids) - 1} more" if len(pids) > 1 else ""
    return f"process {pids[0]} ({name}{state}){more}"
