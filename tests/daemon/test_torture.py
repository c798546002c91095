"""A short run of `make torture`: real faults over a mixed queue, then everything is counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.peers.peer import Argv, Telling
from tests.torture import beside, box
from tests.torture.__main__ import torture


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_wrong_or_left_behind() -> None:
    count = torture(faults=11, jobs=12, seed=7, last="power cut")
    assert count.clean, count
    assert count.acknowledged >= 12
    assert sum(count.faults.values()) == 11 + box.possible()


class Forgetful(Telling):
    """Runs each job when it is submitted, says that all went well, and knows nothing more after a kill."""

    name = "forgetful"

    def __init__(self, folder: Path, wrong: bool = False) -> None:
        super().__init__(folder)
        self._wrong = wrong
        self._count = 0
        self._known: dict[str, bool | None] = {}

    def missing(self) -> str | None:
        return None

    def start(self) -> None:
        self.folder.mkdir()

    def kill(self) -> None:
        self._known.clear()

    def again(self) -> None:
        self._count = 0

    def close(self) -> None:
        self.kill()

    def daemons(self) -> Sequence[int]:
        return []

    def submit(self, script: str, *, parked: bool = False, alone: bool = False) -> Argv:
        self._count += 1
        return ["sh", "-c", f"({script}); echo {self._count} $?"]

    def job_id(self, said: str) -> str:
        number, code = said.split()
        self._known[number] = self._wrong or code == "0"
        return number

    def park_many(self, count: int) -> None:
        raise AssertionError("the torture never asks for that")

    def listing(self) -> Argv:
        raise AssertionError("the torture never asks for that")

    def known(self) -> int:
        return 0

    def outcomes(self) -> dict[str, bool | None]:
        return self._known

    def cancel(self, job: str) -> Argv:
        raise AssertionError("the torture never asks for that")


def steps(*kills: str) -> list[beside.Step]:
    jobs = (beside.Job(0.0, 0), beside.Job(0.0, 3))
    return [beside.Step(jobs, 0.0, kill, 0.5) for kill in kills]


def test_what_another_program_loses_is_counted(tmp_path: Path) -> None:
    found = beside.suffer(Forgetful(tmp_path / "it"), steps(beside.DAEMON, beside.JOB))
    assert (found.acknowledged, found.kills) == (4, {beside.DAEMON: 1})
    assert found.lost == [f"job {n}: its number was given to another" for n in (0, 1)]
    assert (found.doubled, found.wrong, found.processes) == ([], [], [])


def test_what_it_says_wrongly_is_counted(tmp_path: Path) -> None:
    found = beside.suffer(Forgetful(tmp_path / "it", wrong=True), steps(beside.JOB))
    assert found.lost == []
    assert found.wrong == ["job 1 ended with 3, and is said to have succeeded"]


def test_a_plan_is_repeated_by_its_seed() -> None:
    plan = beside.plan(random.Random(5), 20)
    assert plan == beside.plan(random.Random(5), 20) != beside.plan(random.Random(6), 20)
    assert len(plan[0].jobs) == beside.AT_FIRST
    assert {step.kill for step in plan} == {beside.DAEMON, beside.JOB}
