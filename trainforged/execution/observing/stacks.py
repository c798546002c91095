"""Where the ranks of an attempt are: the stacks of their threads, and whether they stand still.

Stacks are taken by py-spy where it is installed and may look; else each rank writes them itself, on
SIGUSR2, to its output (`faulthandler`, which works also inside a collective), and they are read there.
All functions block.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from trainforge.protocol import TOKEN
from trainforged.execution import processes

WRAPPER = b"\0-m\0trainforge.rank\0"
PATIENCE = 3.0  # seconds for a rank to write its stacks
LONGEST = 1 << 16  # bytes of a rank's stacks
LEAST_MOVED = 1 << 16  # bytes; less is what the look itself costs
MOVED = 1 << 15  # bytes per second; less is a trickle
UNINTERRUPTIBLE = "waits in the kernel, which nothing interrupts (state D)"
MAJOR_FAULTS = slice(9, 10)
CPU_TIMES = slice(11, 15)  # user, system, and both of children that were waited for
BUSY = 0.05  # cores; a rank that uses more computes something
PAGE = os.sysconf("SC_PAGE_SIZE")
_COLLECTIVE = re.compile(r"\w+ \(distributed_c10d\.py:|synchronize \(")
_POLLED_LOCK = re.compile(r"\b(?:(?:filelock|portalocker|fasteners)/\w+|file_baton)\.py")
_BEGIN = re.compile(rb"^(Current thread|Thread) 0x[0-9a-f]+ .*\(most recent call first\):", re.M)
_MOVES = re.compile(r"0x[0-9a-f]+|\((idle|active)[^)]*\)|Process \d+|Thread \d+|\d\d:\d\d:\d\d")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Of all ranks at one moment. What a rank's children do for it, it does: it waits for data-loader
    workers, compilers, an evaluation in a process of its own."""

    time: float  # monotonic
    stacks: dict[int, str]  # rank → text; empty where none could be taken
    states: dict[int, str]  # rank → letter of /proc/<pid>/stat
    cpu: dict[int, float]  # rank → seconds, its children's included
    moved: int  # bytes that were read and written, and pages that were read back from a disk
    queueing: frozenset[int] = frozenset()  # ranks that wait for a lock on a file

    @property
    def stopped(self) -> bool:
        """By a debugger, or by SIGSTOP: somebody holds it."""
        return any(state in "Tt" for state in self.states.values())

    def stands_still_since(self, before: Look) -> bool:
        """Between the two looks nothing has moved, as far as can be seen. A trickle is none: threads that
        watch and log go on in a rank that hangs."""
        trickle = max(LEAST_MOVED, MOVED * (self.time - before.time))
        return (
            bool(self.stacks)
            and self.stacks.keys() == before.stacks.keys()
            and all(self._same_place(before, rank) for rank in self.stacks)
            and not self.stopped
            and self.moved - before.moved < trickle
        )

    def _same_place(self, before: Look, rank: int) -> bool:
        now, then = _still(self.stacks[rank]), _still(before.stacks[rank])
        return bool(now) and now == then

    def may_work_since(self, before: Look) -> bool:
        """A rank that stands still computes, perhaps in one long call, or waits for a disk, or for another
        job to be done with a file. Computing in a collective is waiting for the others."""
        seconds = max(self.time - before.time, 1e-9)
        return any(
            self.states.get(rank) == "D"
            or rank in self.queueing
            or ((self.cpu.get(rank, 0.0) - before.cpu.get(rank, 0.0)) / seconds > BUSY and not _waits(stack))
            for rank, stack in self.stacks.items()
        )


def _waits(stack: str) -> bool:
    """For other ranks, or for what the device has been told to do."""
    return bool(_COLLECTIVE.match(innermost(stack) or ""))


def _still(stack: str) -> str:
    return _MOVES.sub("", stack).strip()


def look(token: str, folder: Path) -> Look:
    """At the ranks of the attempt that carries `token` and has `folder`."""
    ranks = find_ranks(token)
    stacks = take(ranks, folder)
    stats = processes.all_stats()
    for rank, pid in ranks.items():
        if not stacks[rank] and pid in stats and stats[pid].state == "D":
            stacks[rank] = _in_the_kernel(pid)
    families = {rank: processes.tree(pid, stats) for rank, pid in ranks.items()}
    return Look(
        time=time.monotonic(),
        stacks=stacks,
        states={rank: stats[pid].state for rank, pid in ranks.items() if pid in stats},
        cpu={rank: sum(map(_cpu, family)) for rank, family in families.items()},
        moved=sum(_moved(pid) for family in families.values() for pid in family),
        queueing=frozenset(_queueing(ranks, stacks, families)),
    )


def _queueing(
    ranks: Mapping[int, int], stacks: Mapping[int, str], families: Mapping[int, Iterable[int]]
) -> Iterator[int]:
    """Those that wait for a lock on a file which none of the attempt's own processes has; or that ask for one
    again and again, as libraries do that share a cache between jobs."""
    ours = {pid for family in families.values() for pid in family}
    waiting = waiting_for_others(processes.read_proc("/proc/locks").decode(), ours)
    for rank in ranks:
        if not waiting.isdisjoint(families[rank]) or _POLLED_LOCK.search(_main_thread(stacks[rank])):
            yield rank


def waiting_for_others(locks: str, ours: Collection[int]) -> set[int]:
    """Processes that the kernel keeps waiting (`->` in /proc/locks) for a holder that is none of ours."""
    holders: dict[str, int] = {}
    waiting: dict[str, set[int]] = {}
    for line in locks.splitlines():
        number, *words = line.split()
        if words[0] == "->":
            waiting.setdefault(number, set()).add(int(words[4]))
        else:
            holders[number] = int(words[3])
    return set().union(*(pids for number, pids in waiting.items() if holders.get(number) not in ours))


def _main_thread(stack: str) -> str:
    """Its part of the stacks of all threads."""
    found = re.search(r'(?:"MainThread"|^Current thread)[^\n]*\n(?:[ \t]+[^\n]*\n?)*', stack, re.M)
    return found[0] if found else ""


def find_ranks(token: str) -> dict[int, int]:
    """rank → pid. A rank's own children look like it, and so does its keeper, which is its parent where
    there are several ranks (`trainforge.in_job.keeper`). The launcher names the wrapper but has no rank."""
    found: dict[int, dict[int, processes.Stat]] = {}
    kept = False
    for stat in processes.carriers(TOKEN, token):
        if WRAPPER not in processes.read_proc(f"/proc/{stat.pid}/cmdline"):
            continue
        environ = _environ(stat.pid)
        rank = environ.get(b"RANK", b"")
        kept = kept or environ.get(b"WORLD_SIZE", b"1") != b"1"
        if rank.isdigit():
            found.setdefault(int(rank), {})[stat.pid] = stat
    ranks = {rank: _rank_among(family, kept) for rank, family in sorted(found.items())}
    return {rank: pid for rank, pid in ranks.items() if pid is not None}


def _rank_among(family: Mapping[int, processes.Stat], kept: bool) -> int | None:
    """The eldest of those who look like one rank; below a keeper, the keeper's child."""
    depths = {pid: _depth(pid, family) for pid in family}
    those = [stat for pid, stat in family.items() if depths[pid] == int(kept)]
    return min(those, key=lambda stat: (stat.start_time, stat.pid)).pid if those else None


def _depth(pid: int, family: Mapping[int, processes.Stat]) -> int:
    """How many of the family stand above it."""
    depth, parent = 0, family[pid].parent
    while parent in family and depth <= len(family):
        depth, parent = depth + 1, family[parent].parent
    return depth


def _environ(pid: int) -> dict[bytes, bytes]:
    entries = processes.read_proc(f"/proc/{pid}/environ").split(b"\0")
    pairs = (entry.partition(b"=") for entry in entries)
    return {name: value for name, _, value in pairs}


def take(ranks: Mapping[int, int], folder: Path) -> dict[int, str]:
    """rank → the stacks of its threads, empty where none could be taken."""
    spy = _spy()
    taken = {rank: _spied(spy, pid) if spy is not None else "" for rank, pid in ranks.items()}
    silent = {rank: pid for rank, pid in ranks.items() if not taken[rank]}
    return taken | _written(silent, folder, several=len(ranks) > 1)


def _spy() -> str | None:
    beside = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return shutil.which("py-spy", path=beside)


def _spied(spy: str, pid: int) -> str:
    stat = processes.read_stat(pid)
    if stat is None or stat.state == "D":
        return ""  # py-spy would wait for it
    try:
        done = subprocess.run([spy, "dump", "--pid", str(pid)], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:LONGEST].decode(errors="replace") if done.returncode == 0 else ""


def _written(ranks: Mapping[int, int], folder: Path, *, several: bool) -> dict[int, str]:
    """What ranks write when they are asked to; each has its own log where there are several."""
    logs = {rank: folder / (f"rank-{rank}.log" if several else "output.log") for rank in ranks}
    ends = {rank: _size(log) for rank, log in logs.items()}
    for pid in ranks.values():
        stat = processes.read_stat(pid)
        if stat is not None:
            processes.send(stat, signal.SIGUSR2)
    limit = time.monotonic() + PATIENCE
    texts: dict[int, str] = {}
    while len(texts) < len(ranks) and time.monotonic() < limit:
        time.sleep(0.1)
        for rank in ranks.keys() - texts.keys():
            text = _since(logs[rank], ends[rank])
            if text:
                texts[rank] = text
    return {rank: texts.get(rank, "") for rank in ranks}


def _since(log: Path, end: int) -> str:
    """The stacks in what was written after `end`, once they are whole; empty before."""
    try:
        with log.open("rb") as file:
            file.seek(end)
            said = file.read(LONGEST)
    except OSError:
        return ""
    begin = _BEGIN.search(said)
    if begin is None or b"Current thread" not in said or not said.endswith(b"\n"):
        return ""  # the current thread's comes last
    return said[begin.start() :].decode(errors="replace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _in_the_kernel(pid: int) -> str:
    """Of one that nothing interrupts, so that it cannot be asked: where the kernel says it waits."""
    place = processes.read_proc(f"/proc/{pid}/wchan").decode(errors="replace").strip("0\n")
    calls = processes.read_proc(f"/proc/{pid}/stack").decode(errors="replace")  # for root alone
    return f"{UNINTERRUPTIBLE}: {place or 'it does not say where'}\n{calls}"


def _moved(pid: int) -> int:
    io = processes.read_proc(f"/proc/{pid}/io").split()
    counted = (b"rchar:", b"wchar:", b"read_bytes:", b"write_bytes:")
    bytes_moved = sum(int(io[i + 1]) for i, name in enumerate(io[:-1]) if name in counted)
    return bytes_moved + _fields(pid, MAJOR_FAULTS) * PAGE


def _cpu(pid: int) -> float:
    """Seconds, those of its children that are gone included."""
    return _fields(pid, CPU_TIMES) / os.sysconf("SC_CLK_TCK")


def _fields(pid: int, which: slice) -> int:
    """The sum of these fields of /proc/<pid>/stat, counted after the name; 0 if it is gone."""
    fields = processes.read_proc(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(map(int, fields[which]))


def innermost(stack: str) -> str | None:
    """Where the main thread is, in a few words: `all_reduce (distributed_c10d.py:2810)`."""
    if stack.startswith(UNINTERRUPTIBLE):
        return f"the kernel ({stack.splitlines()[0].rpartition(': ')[2]})"
    spied = re.search(r'"MainThread"\n\s+(\S+) \(([^)]*/)?([^/)]+:\d+)\)', stack)
    if spied:
        return f"{spied[1]} ({spied[3]})"
    written = re.search(r'Current thread.*\n  File "(?:.*/)?([^"/]+)", line (\d+) in (\S+)', stack)
    return f"{written[3]} ({written[1]}:{written[2]})" if written else None
