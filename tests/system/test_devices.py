"""A daemon that is root's closes to each job the GPUs that it has not leased. There is no driver: whether a
node is closed is told by how opening it fails. Which cores its unit is kept on, the manager says."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

import pytest

from tests.system.machine import Machine

CLOSED, OPEN = "Operation not permitted", "No such device or address"
NEAR = "XDG_RUNTIME_DIR=/run/user/0 systemctl --user show --value --property=AllowedCPUs 'trainforge-*'"
RUNS_ON = "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status"
LOOK = "for n in 0 1 ctl -modeset; do (: </dev/nvidia$n) 2>&1; done; (: </dev/null) && echo null"


@pytest.fixture(scope="module")
def machine(start_machine: Callable[[], Machine]) -> Machine:
    """With a driver that knows two GPUs, of which the first lies near core 0, and a daemon that is root's."""
    machine = start_machine()
    machine.run("mount", "-t", "tmpfs", "driver", "/proc/driver")
    machine.run("mount", "-t", "tmpfs", "bus", "/sys/bus")
    for name, minor in (("nvidia0", 0), ("nvidia1", 1), ("nvidiactl", 255), ("nvidia-modeset", 254)):
        machine.run("mknod", "-m", "666", f"/dev/{name}", "c", "195", str(minor))
    machine.install("install", "--as", "root")
    for gpu in json.loads(tfctl(machine, "gpus", "--json"))["gpus"]:
        place, text = gpu["index"], f"GPU UUID: \t {gpu['uuid']}\nDevice Minor: \t {1 - gpu['index']}\n"
        cores = "0" if place == 0 else "0-4095"
        for folder, file, content in (
            (f"/proc/driver/nvidia/gpus/{place}", "information", text),
            (f"/sys/bus/pci/devices/{place}", "local_cpulist", cores),
        ):
            machine.run("sh", "-c", f"mkdir -p {folder} && printf '%s' '{content}' >{folder}/{file}")
    return machine


def tfctl(machine: Machine, *words: str) -> str:
    return machine.run(sys.executable, "-P", "-m", "tfctl", *words).stdout


def test_a_job_opens_the_gpus_that_it_has_leased_and_no_others(machine: Machine) -> None:
    """Of the two that every user of a GPU needs, none is closed."""
    for gpus, leased in ((2, [OPEN, OPEN]), (1, [CLOSED, OPEN]), (0, [CLOSED, CLOSED])):
        lines = tfctl(machine, "submit", "--follow", "--gpu", str(gpus), "--", "sh", "-c", LOOK).splitlines()
        found = zip(lines[1:6], [*leased, OPEN, OPEN, "null"], strict=True)
        assert all(line.endswith(words) for line, words in found), lines


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core, all are near")
@pytest.mark.parametrize(("gpus", "cores", "allowed"), [(1, 1, "0"), (2, 1, ""), (1, 2, ""), (0, 1, "")])
def test_a_job_runs_on_the_cores_near_its_gpus(machine: Machine, gpus: int, cores: int, allowed: str) -> None:
    """As the manager was told, and as the kernel schedules it: a process of the job's own says."""
    words = ("submit", "--follow", "--gpu", str(gpus), "--cpu", str(cores), "--", "sh", "-c")
    (told,) = tfctl(machine, *words, NEAR).splitlines()[1:-1]
    (kept,) = tfctl(machine, *words, RUNS_ON).splitlines()[1:-1]
    everywhere = machine.run("sh", "-c", RUNS_ON).stdout.strip()
    assert (told, kept) == (allowed, allowed or everywhere)
