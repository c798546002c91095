"""GPUs and drivers that go bad in slower ways, readers that hang or lie: a GPU is lost, never the daemon."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

from tests.daemon.machines import Machine
from tests.daemon.real import wait_until
from trainforge.states import JobState

WAITS = "echo $CUDA_VISIBLE_DEVICES; until test -e {go}; do sleep 0.02; done"


def waiting(machine: Machine, **resources: int) -> int:
    """A command that runs on a GPU until the file `go` is there."""
    script = WAITS.format(go=machine.daemon.folder / "go")
    return machine.daemon.command("sh", "-c", script, resources={"gpu": 1} | resources).id


def let_go(machine: Machine) -> None:
    (machine.daemon.folder / "go").touch()


def states(machine: Machine) -> list[str]:
    return [machine.gpu(index).state for index in range(2)]


def gone() -> int:
    """The number of a process that has ended."""
    return subprocess.Popen([sys.executable, "-c", ""]).pid


def test_memory_errors_that_grow_set_a_gpu_aside_over_a_restart_too(machine: Machine) -> None:
    machine.daemon.stop()
    machine.say(uncorrected=2)
    machine.daemon.start()
    for temperature in (50, 51):  # two rounds, so that the first is behind us
        machine.say(uncorrected=2, temperature=temperature)
        wait_until(lambda now=temperature: machine.gpu(0).temperature == now, "the driver to be read")
    assert machine.gpu(0).state == "free", "what was there before the daemon says nothing"
    counts = itertools.count(3)

    def is_set_aside() -> bool:
        machine.say(uncorrected=next(counts))
        return machine.gpu(0).state == "set_aside"

    wait_until(is_set_aside, "it to be set aside")
    assert re.fullmatch(
        r"\d+ uncorrectable memory errors \(nvidia-smi -q -d ECC\)", machine.gpu(0).reason or ""
    )
    machine.daemon.kill()
    machine.daemon.start()
    wait_until(lambda: states(machine) == ["set_aside", "free"], "what was known of them")
    assert "uncorrectable memory errors" in machine.daemon.tfctl("doctor", check=False).stdout
    machine.daemon.tfctl("undrain", "0")
    wait_until(lambda: machine.gpu(0).state == "free", "it to be offered again")


def test_a_driver_upgraded_under_us_starts_nothing_stops_nothing_and_comes_back(machine: Machine) -> None:
    job = machine.running()
    machine.say_both({}, {}, init=18)
    machine.driver.upgrade()
    wait_until(lambda: "upgraded" in (machine.gpu(1).reason or ""), "the mismatch to be seen")
    later = waiting(machine)
    said = machine.daemon.tfctl("doctor", check=False).stdout
    assert "the NVIDIA driver was upgraded and its old module is still loaded: reboot" in said
    assert machine.job(job).state is JobState.RUNNING
    machine.fail("a mistake of its own")
    ended = machine.daemon.wait_for(job)
    assert (ended.state, ended.reason) == (JobState.FAILED, "user_error"), "the driver is not to blame"
    assert machine.job(later).state is JobState.QUEUED
    assert "upgraded" in machine.daemon.tfctl("gpus").stdout
    machine.say()
    let_go(machine)
    assert machine.daemon.wait_for(later).state is JobState.SUCCEEDED
    wait_until(lambda: states(machine) == ["free", "free"], "both to be offered again")


def test_a_reader_that_hangs_takes_one_gpu_and_nothing_else(machine: Machine) -> None:
    machine.say(hang=1)
    wait_until(lambda: machine.driver.hung, "the reader to hang")
    job = waiting(machine)
    machine.daemon.wait_for(job, JobState.RUNNING)
    wait_until(lambda: "fails when asked about it" in (machine.gpu(0).reason or ""), "the GPU to be given up")
    let_go(machine)
    assert machine.daemon.wait_for(job).state is JobState.SUCCEEDED
    wait_until(lambda: machine.gpu(1).state == "free", "the other to be released")
    assert machine.daemon.stops_within(20.0)


def test_a_reader_that_crashes_takes_one_gpu_and_nothing_else(machine: Machine) -> None:
    """A segmentation fault in the driver's library, each time that GPU is asked about."""
    daemon, job = machine.daemon, waiting(machine)
    daemon.wait_for(job, JobState.RUNNING)
    pid = daemon.pid
    machine.say(crash=1)
    wait_until(lambda: "fails when asked about it" in (machine.gpu(0).reason or ""), "the GPU to be given up")
    assert machine.gpu(0).state == "leased", "who holds it keeps it"
    assert daemon.wait_for(daemon.command("true", resources={"gpu": 1}).id).state is JobState.SUCCEEDED
    let_go(machine)
    ended = daemon.wait_for(job)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    with daemon.client() as client:
        assert client.status().pid == pid


def test_a_reader_that_lies_ends_nothing(machine: Machine) -> None:
    """Of figures that cannot be true, none is shown, no job is ended and no GPU is given out for them."""
    job = waiting(machine)
    machine.daemon.wait_for(job, JobState.RUNNING)
    lies = {"utilisation": 40000, "temperature": 9000, "power": 2**31, "used": 2**40}
    machine.say_both(lies, lies | {"used": 4})
    wait_until(lambda: machine.gpu(0).temperature is None, "the lies to be heard")
    shown = machine.gpu(0)
    assert (shown.state, shown.utilisation, shown.power) == ("leased", None, None)
    assert machine.job(job).state is JobState.RUNNING
    machine.say()
    let_go(machine)
    assert machine.daemon.wait_for(job).state is JobState.SUCCEEDED
    wait_until(lambda: states(machine) == ["free", "free"], "both to be offered")


def test_gpus_that_change_their_order_or_vanish_for_a_while_keep_their_holder(machine: Machine) -> None:
    first, (zero, one) = waiting(machine), machine.uuids
    held = machine.daemon.wait_for(first, JobState.RUNNING).gpus
    assert held == (zero,)
    machine.say_both({"uuid": one}, {"uuid": zero})
    wait_until(lambda: machine.gpu(0).uuid == one, "the new order")
    second = waiting(machine)
    assert machine.daemon.wait_for(second, JobState.RUNNING).gpus == (one,)
    machine.say_both({}, {}, count=1)  # the second has vanished
    wait_until(lambda: machine.gpu(1).state == "missing" or machine.gpu(1).reason, "it to be missed")
    third = waiting(machine)
    machine.say()
    wait_until(lambda: not machine.gpu(1).reason, "it to be back")
    assert machine.job(third).state is JobState.QUEUED, "both have their holders still"
    let_go(machine)
    ended = [machine.daemon.wait_for(job) for job in (first, second, third)]
    assert [(job.state, job.attempt) for job in ended] == [(JobState.SUCCEEDED, 1)] * 3


def test_memory_that_does_not_come_back_and_a_process_that_stays_listed(machine: Machine) -> None:
    jobs = [waiting(machine), waiting(machine)]
    for job in jobs:
        machine.daemon.wait_for(job, JobState.RUNNING)
    machine.say_both({"used": 9000}, {"used": 9004, "compute": f"{gone()}:9000"})
    let_go(machine)
    for job in jobs:
        assert machine.daemon.wait_for(job).state is JobState.SUCCEEDED
    later = waiting(machine)
    wait_until(lambda: states(machine) == ["set_aside", "set_aside"], "both to be set aside")
    for index in range(2):
        assert "30 s after its job ended: 8.8 GiB of its memory are in use" in (
            machine.gpu(index).reason or ""
        )
    assert machine.job(later).state is JobState.QUEUED
    machine.say_both({}, {"used": 9004, "compute": f"{gone()}:9000"})
    assert machine.daemon.wait_for(later).state is JobState.SUCCEEDED, "on the one whose memory has come back"
    assert machine.gpu(1).state == "set_aside"
    machine.daemon.tfctl("undrain", "1")
    machine.say()
    wait_until(lambda: states(machine) == ["free", "free"], "both to be offered again")
