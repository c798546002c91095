"""GPUs that go bad, or that somebody else uses: the real daemon and pynvml over a stand-in driver."""

from __future__ import annotations

import os
import pwd

from tests.daemon.machines import Machine
from tests.daemon.real import wait_until
from trainforge.states import JobState


def test_a_gpu_that_falls_off_the_bus_is_set_aside_and_its_job_goes_on_elsewhere(machine: Machine) -> None:
    job = machine.running()
    machine.say(xid=79)
    wait_until(lambda: machine.gpu(0).reason, "the GPU to be set aside")
    assert machine.gpu(0).state == "leased", "who holds it keeps it"
    machine.fail("CUDA error: unspecified launch failure")
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
    assert ended.attempts is not None
    assert ended.attempts[0].reason == "gpu_fault"
    assert ended.attempts[0].gpus != ended.attempts[1].gpus
    aside = wait_until(lambda: (now := machine.gpu(0)).state == "set_aside" and now, "it to be set aside")
    assert aside.reason == "XID 79: it has fallen off the bus"
    wait_until(lambda: machine.gpu(1).state == "free", "the other to be released")
    assert "XID 79" in machine.daemon.tfctl("gpus").stdout
    assert "XID 79" in machine.daemon.tfctl("why", str(job)).stdout
    machine.daemon.tfctl("undrain", "0")
    wait_until(lambda: machine.gpu(0).state == "free", "it to be offered again")


def test_memory_that_somebody_else_takes_is_waited_for_and_not_counted(machine: Machine) -> None:
    job = machine.running()
    machine.daemon.tfctl("drain", "1")  # so that it has to wait for this one
    machine.say(used=70000, compute=f"{os.getpid()}:70000")
    wait_until(lambda: str(os.getpid()) in (machine.gpu(0).reason or ""), "the other to be seen")
    machine.fail("CUDA out of memory. Tried to allocate 2.00 GiB")
    wait_until(lambda: machine.job(job).reason == "waiting_for_gpus", "it to wait for room")
    waiting = machine.job(job)
    assert waiting.retries == 0
    assert waiting.attempts is not None
    assert waiting.attempts[0].reason == "gpu_memory_taken"
    said = machine.daemon.tfctl("why", str(job)).stdout
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert f"(pid {os.getpid()}, {user}) uses 68.4 GiB" in said, said
    assert "started again where there is room on a GPU, not counted as a retry" in said
    machine.say()
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.attempt, ended.retries) == (JobState.SUCCEEDED, 2, 0)
