"""The machine goes down with jobs running and queued: afterwards the daemon is up by itself, the queue is
whole, and a training goes on where it was saved, without using up a retry.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import wait_for
from tests.system.machine import DEADLINE, USER, Machine

TRAINING = """\
import os, time, torch, trainforge

if int(os.environ["WORLD_SIZE"]) > 1:
    torch.distributed.init_process_group("gloo")
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
ckpt = trainforge.Checkpointer(model=model, optimizer=optimizer)
step = ckpt.resume()
print("from", step, flush=True)
while not trainforge.should_stop():
    step += 1
    loss = model(torch.ones(8, 4)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(model.weight.grad)
    optimizer.step()
    trainforge.report(step=step, loss=loss)
    if step % 20 == 0:
        print("at", step, flush=True)
        ckpt.save(step)
    time.sleep(0.01)
ckpt.save(step)
ckpt.close()
print("saved", step, flush=True)
"""


def submit(machine: Machine, *words: str) -> int:
    return int(machine.tfctl("submit", *words).stdout.split()[2])


def states(machine: Machine) -> dict[int, str]:
    jobs = json.loads(machine.tfctl("status", "--all", "--json").stdout)["jobs"]
    return {job["id"]: job["state"] for job in jobs}


def step(job: dict[str, Any]) -> int:
    return (job["progress"] or {}).get("step") or 0


def log(machine: Machine, job: int, attempt: int) -> str:
    """What the script itself says in its first rank: torch has something to say of the network."""
    said = machine.tfctl("logs", str(job), "--attempt", str(attempt), "--rank", "0").stdout
    lines = said.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("from ", "at ", "saved ")))


def resumed_at(job: dict[str, Any]) -> int:
    """The step that its latest attempt was started from; 0 for none."""
    found = job["attempts"][-1]["resumed_from"] or "0"
    return int(found.rpartition("-")[2])


def boot_id(machine: Machine) -> str:
    return machine.run("cat", "/proc/sys/kernel/random/boot_id").stdout


def go_down(machine: Machine, how: str) -> None:
    """And up again."""
    if how == "reboot":
        machine.reboot()
    elif how == "poweroff":
        machine.power_off().boot()
    else:
        machine.cut_power().boot()


@pytest.mark.parametrize(("how", "ranks"), [("reboot", 2), ("poweroff", 1), ("power cut", 2)])
def test_after_a_boot_the_queue_is_whole_and_training_continues(
    start_machine: Callable[[], Machine], how: str, ranks: int
) -> None:
    machine = start_machine()
    machine.install("install")
    machine.write(f"/home/{USER}/train.py", TRAINING, user=True)
    training = submit(machine, "train.py", "--gpu", str(ranks), "--set", "recovery.max_retries=0")
    command = submit(machine, "--gpu", str(2 - ranks), "--", "sleep", "1000")
    queued = submit(machine, "--gpu", "2", "--", "true")
    held = submit(machine, "--hold", "--", "true")
    before = machine.wait_for_job(training, lambda job: step(job) > 60)
    was = boot_id(machine)

    go_down(machine, how)

    assert boot_id(machine) != was
    after = machine.wait_for_job(training, lambda job: job["state"] == "running")
    assert (after["attempt"], after["retries"]) == (2, 0)
    resumed = resumed_at(after)
    wait_for(lambda: f"at {resumed // 20 * 20 + 20}\n" in log(machine, training, 2), DEADLINE, "another step")
    assert log(machine, training, 2).startswith(f"from {resumed}\n")
    if how == "power cut":
        assert resumed >= 40, "the newest but one was whole when step 61 was seen"
    else:
        assert resumed >= step(before), "it was given the time to save"
        assert log(machine, training, 1).endswith(f"saved {resumed}\n")
    assert "(lost): the machine was restarted" in machine.tfctl("why", str(command)).stdout
    assert states(machine) == {training: "running", command: "failed", queued: "queued", held: "held"}
    assert len(machine.attempts()) == 1

    machine.tfctl("cancel", str(training))
    assert machine.wait_for_job(queued, lambda job: job["state"] == "succeeded")["attempt"] == 1


def test_a_job_that_does_not_stop_in_time_uses_up_no_retry_either(
    start_machine: Callable[[], Machine],
) -> None:
    machine = start_machine()
    machine.install("install")
    stubborn = ("--", "sh", "-c", "trap '' TERM; touch ready; while :; do sleep 0.05; done")
    job = submit(machine, "--set", "recovery.max_retries=1", "--set", "recovery.grace=1s", *stubborn)
    wait_for((machine.disk / f"home/{USER}/ready").exists, DEADLINE, "the trap")
    machine.reboot()
    found = machine.wait_for_job(job, lambda job: job["state"] == "running")
    assert (found["attempt"], found["retries"], found["attempts"][0]["reason"]) == (2, 0, "lost")
