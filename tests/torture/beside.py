"""The same kills for what people queue with instead: one plan of jobs and kills, for one program after
another.

Of the faults of `make torture` those that any such program can be given: `kill -9` of its daemon, which is
then started again, and of a process of a job. Jobs are commands with an exit status, and write down that
they run.
"""

from __future__ import annotations

import collections
import contextlib
import random
import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import processes
from benchmarks.peers.gflow import Gflow
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Telling
from benchmarks.peers.task_spooler import TaskSpooler
from tests.daemon.real import wait_until

AT_FIRST = 50  # jobs in the queue before the first kill
MARK = "TRAINFORGE_TORTURE_JOB"
LEAVING = 10.0  # seconds for processes to be gone, once all jobs are said to have ended
LONGEST = 180.0  # seconds for what is left in the end to end
DAEMON, JOB = "kill -9 of the daemon", "kill -9 of a job's process"

# What it writes is read by us, and by nobody else: which jobs ran, and how they ended.
SCRIPT = "echo began {n} >> {ledger}; sleep {seconds}; echo ended {n} >> {ledger}; exit {code}"


class Job(msgspec.Struct, frozen=True):
    seconds: float
    code: int


class Step(msgspec.Struct, frozen=True):
    """Some more jobs, a pause, and a kill."""

    jobs: tuple[Job, ...]
    pause: float
    kill: str
    which: float  # of the processes there are: from 0 to 1


class Outcome(msgspec.Struct, kw_only=True):
    """What one program made of it."""

    acknowledged: int = 0
    refused: int = 0  # submissions that were told to have failed: nothing is promised of them
    lost: list[str] = []
    doubled: list[str] = []
    wrong: list[str] = []
    processes: list[str] = []
    kills: dict[str, int] = {}


def plan(chance: random.Random, kills: int) -> list[Step]:
    def jobs(count: int) -> tuple[Job, ...]:
        return tuple(Job(chance.choice([0.1, 0.5, 1.0, 2.0]), chance.choice([0, 0, 3])) for _ in range(count))

    def step(number: int) -> Step:
        some = jobs(chance.randint(0, 2) if number else AT_FIRST)
        return Step(some, chance.uniform(0.0, 0.3), chance.choice([DAEMON, JOB]), chance.random())

    return [step(number) for number in range(kills)]


def programs(folder: Path) -> list[Telling]:
    return [Ours(folder / "ours"), TaskSpooler(folder / "tsp"), Gflow(folder / "gflow")]


def suffer(peer: Telling, steps: Sequence[Step]) -> Outcome:
    """Have one program go through it, from a fresh start."""
    try:
        peer.start()
        run = _Run(peer)
        for step in steps:
            run.take(step)
        return run.count()
    finally:
        peer.close()


class _Run:
    def __init__(self, peer: Telling) -> None:
        self._peer = peer
        self._ledger = peer.folder / "ledger"
        self._mark = f"{MARK}={peer.folder.name}-{uuid.uuid4().hex}-"
        self._jobs: list[Job] = []
        self._ids: dict[str, int] = {}  # the number that the program gave → ours
        self._killed: set[int] = set()  # of whose processes one was
        self._outcome = Outcome()

    def take(self, step: Step) -> None:
        for job in step.jobs:
            self._submit(job)
        time.sleep(step.pause)
        if step.kill == DAEMON:
            self._peer.kill()
            self._peer.again()
        elif not self._kill_process(step.which):
            return
        self._outcome.kills[step.kill] = self._outcome.kills.get(step.kill, 0) + 1

    def _submit(self, job: Job) -> None:
        number = len(self._jobs)
        self._jobs.append(job)
        text = SCRIPT.format(n=number, ledger=self._ledger, seconds=job.seconds, code=job.code)
        try:
            said = self._peer.run(self._peer.submit(f"{self._mark}{number} sh -c {shlex.quote(text)}"))
        except RuntimeError:  # its daemon is not up again, say
            self._outcome.refused += 1
            return
        given = self._peer.job_id(said)
        if given in self._ids:
            self._outcome.lost.append(f"job {self._ids[given]}: its number was given to another")
        self._ids[given] = number
        self._outcome.acknowledged += 1

    def _running(self) -> dict[int, int]:
        """Processes → their jobs."""
        found = {}
        for pid in processes.carrying(self._mark):
            with contextlib.suppress(OSError, IndexError):  # it has ended since
                text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
                found[pid] = int(text.split(self._mark)[1].split("\0")[0])
        return found

    def _kill_process(self, which: float) -> bool:
        running = self._running()
        if not running:
            return False
        pid = sorted(running)[int(which * len(running))]
        self._killed.add(running[pid])
        processes.kill([pid])
        return True

    # ---- in the end

    def count(self) -> Outcome:
        outcome = self._outcome
        with contextlib.suppress(AssertionError):
            wait_until(lambda: None not in self._peer.outcomes().values(), "all to end", LONGEST)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._running(), "all processes to be gone", LEAVING)
        words = self._ledger.read_text().split("\n") if self._ledger.exists() else []
        known = self._peer.outcomes()
        for given, number in self._ids.items():
            self._judge(number, known.get(given), words)
        outcome.doubled += [f"job {n} ran {times} times" for n, times in _more_than_once(words).items()]
        outcome.processes += [f"process {pid} of job {job}" for pid, job in self._running().items()]
        return outcome

    def _judge(self, number: int, succeeded: bool | None, words: Sequence[str]) -> None:
        began, ended = f"began {number}" in words, f"ended {number}" in words
        truth = ended and self._jobs[number].code == 0
        if succeeded is None:
            self._outcome.lost.append(f"job {number}: nothing is known of its end")
        elif not began:
            self._outcome.lost.append(f"job {number} never ran")
        elif succeeded != truth and (succeeded or number not in self._killed):
            said = "succeeded" if succeeded else "failed"
            how = f"ended with {self._jobs[number].code}" if ended else "did not come to its end"
            self._outcome.wrong.append(f"job {number} {how}, and is said to have {said}")


def _more_than_once(words: Sequence[str]) -> dict[str, int]:
    times = collections.Counter(line.split()[1] for line in words if line.startswith("began "))
    return {number: count for number, count in times.items() if count > 1}


def table(outcomes: Mapping[str, Outcome]) -> list[str]:
    """One line for each thing that is counted."""
    rows = [("", *outcomes)]
    for what in ("acknowledged", "refused", "lost", "doubled", "wrong", "processes"):
        values = [getattr(outcome, what) for outcome in outcomes.values()]
        rows.append((what, *(str(v if isinstance(v, int) else len(v)) for v in values)))
    for kill in (DAEMON, JOB):
        rows.append((kill, *(str(outcome.kills.get(kill, 0)) for outcome in outcomes.values())))
    return [f"{row[0]:>30}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows]
