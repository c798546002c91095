"""A daemon that is root's closes to each job the GPUs that it has not leased. There is no driver: whether a
node is closed is told by how opening it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from tests.system.machine import Machine

CLOSED, OPEN = "Operation not permitted", "No such device or address"
LOOK = "for n in 0 1; do (: </dev/nvidia$n) 2>&1; done; (: </dev/null) && echo null"


def tfctl(machine: Machine, *words: str) -> str:
    return machine.run(sys.executable, "-P", "-m", "tfctl", *words).stdout


def test_a_job_opens_the_gpus_that_it_has_leased_and_no_others(
    start_machine: Callable[[], Machine],
) -> None:
    machine = start_machine()
    machine.run("mount", "-t", "tmpfs", "driver", "/proc/driver")
    for name, minor in (("nvidia0", 0), ("nvidia1", 1), ("nvidiactl", 255), ("nvidia-modeset", 254)):
        machine.run("mknod", "-m", "666", f"/dev/{name}", "c", "195", str(minor))
    machine.install("install", "--as", "root")
    for gpu in json.loads(tfctl(machine, "gpus", "--json"))["gpus"]:
        text = f"GPU UUID: \t {gpu['uuid']}\nDevice Minor: \t {1 - gpu['index']}\n"
        folder = f"/proc/driver/nvidia/gpus/{gpu['index']}"
        machine.run("sh", "-c", f"mkdir -p {folder} && printf '%s' '{text}' >{folder}/information")
    for gpus, said in ((1, [CLOSED, OPEN, "null"]), (0, [CLOSED, CLOSED, "null"])):
        lines = tfctl(machine, "submit", "--follow", "--gpu", str(gpus), "--", "sh", "-c", LOOK).splitlines()
        found = zip(lines[1:4], said, strict=True)
        assert all(line.endswith(words) for line, words in found), lines
