"""The torture's mixed queue on a machine that boots systemd, while its power is cut again and again."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable

import msgspec
import pytest

from tests.support import wait_for
from tests.system.machine import ROOT, USER, Machine
from tests.torture.jobs import plan, read_ledger, wrong
from trainforge.api import JobView

SEED, JOBS, CUTS = 5, 40, 5
LONGEST = 600.0  # seconds until all have ended; it is a minute where nobody else is

SUBMIT = """
import random, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from tests.torture.jobs import plan, request
from trainforge.client.client import Client
folder = Path.home() / "torture"
(folder / "locks").mkdir(parents=True)
with Client(Path("/run/trainforge/trainforged.sock")) as client:
    for number, planned in enumerate(plan(random.Random(int(sys.argv[2])), int(sys.argv[3]))):
        print(client.submit(request(planned, number, folder)).id)
"""


def jobs_of(machine: Machine) -> dict[int, JobView]:
    listed = json.loads(machine.tfctl("status", "--all", "--json").stdout)["jobs"]
    return {job["id"]: msgspec.convert(job, JobView) for job in listed}


def boot_id(machine: Machine) -> str:
    return machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_doubled_wrong_or_left_behind(start_machine: Callable[[], Machine]) -> None:
    machine = start_machine()
    machine.install("install")
    words = (str(ROOT), str(SEED), str(JOBS))
    said = machine.run(sys.executable, "-P", "-c", SUBMIT, *words, user=True).stdout.split()
    planned = dict(zip(map(int, said), plan(random.Random(SEED), JOBS), strict=True))

    chance, boots = random.Random(SEED), {boot_id(machine)}
    for _ in range(CUTS):
        time.sleep(chance.uniform(0.5, 3.0))
        machine.cut_power().boot()
        boots.add(boot_id(machine))
    assert len(boots) == CUTS + 1
    wait_for(lambda: all(job.state.ended for job in jobs_of(machine).values()), LONGEST, "all jobs to end")

    jobs = jobs_of(machine)
    assert jobs.keys() == planned.keys()
    problems = {number: wrong(planned[number], job, {"shim"}) for number, job in jobs.items()}
    assert {number: problem for number, problem in problems.items() if problem} == {}
    told = read_ledger(machine.disk / f"home/{USER}/torture/ledger")
    assert (told.doubled, told.wrong) == ([], [])
    assert machine.attempts() == []
    gpus = json.loads(machine.tfctl("gpus", "--json").stdout)["gpus"]
    assert [gpu["state"] for gpu in gpus] == ["free", "free"]
