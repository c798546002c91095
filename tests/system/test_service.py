"""The service of the machine: installed, restarted, stopped, killed and hung, while jobs run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import wait_for
from tests.system.machine import DEADLINE, UID, USER, Machine

FIRST = ["wrote /etc/systemd/system/trainforged.service", "wrote /etc/systemd/system/trainforged.socket"]
UNITS = ("/etc/systemd/system/trainforged.service", "/etc/systemd/system/trainforged.socket")


@pytest.fixture(scope="module")
def machine(start_machine: Callable[[], Machine]) -> Machine:
    """With the daemon installed as its service; shared by the tests of this file."""
    made = start_machine()
    said = made.install("install").stdout.splitlines()
    assert said[:2] == FIRST
    assert said[-2] == f"trainforged runs as {USER}, now and after each boot; state in /var/lib/trainforge"
    assert said[-1].startswith("to undo it: sudo ")
    return made


def submit(machine: Machine, *words: str) -> int:
    return int(machine.tfctl("submit", *words).stdout.split()[2])


def running(job: dict[str, Any]) -> bool:
    return bool(job["state"] == "running")


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("succeeded", "failed", "cancelled")


def main_pid(machine: Machine) -> int:
    return int(machine.systemctl("show", "--value", "-p", "MainPID", "trainforged"))


def restarted(machine: Machine, pid: int) -> bool:
    """Another process than that serves."""
    return main_pid(machine) not in (0, pid) and machine.run(
        "systemctl", "is-active", "trainforged", check=False
    ).stdout.strip() == "active"  # fmt: skip


def wait_in(machine: Machine, name: str) -> tuple[str, ...]:
    """A command that leaves with 7 once there is a file of that name in the user's home."""
    return ("--", "sh", "-c", f"while [ ! -e /home/{USER}/{name} ]; do sleep 0.05; done; exit 7")


def test_installing_again_changes_nothing(machine: Machine) -> None:
    pid = main_pid(machine)
    assert not any(line.startswith("wrote") for line in machine.install("install").stdout.splitlines())
    assert main_pid(machine) == pid


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", *UNITS)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_daemon_runs_as_the_user_it_was_installed_for_and_is_confined(machine: Machine) -> None:
    assert machine.run("stat", "-c", "%u", f"/proc/{main_pid(machine)}").stdout.strip() == str(UID)
    owners = machine.run(
        "stat", "-c", "%U %a", "/var/lib/trainforge", "/run/trainforge/trainforged.sock"
    ).stdout.splitlines()
    assert owners == [f"{USER} 700", f"{USER} 600"]
    line = machine.run("systemd-analyze", "security", "--no-pager", "trainforged").stdout.splitlines()[-1]
    assert float(line.split(":")[1].split()[0]) < 5.0, line


def test_an_attempt_is_a_unit_of_its_own_with_the_limits_of_its_job(machine: Machine) -> None:
    job = submit(
        machine, "--cpu", "2", "--memory", "1Gi", "--set", "recovery.grace=30s", *wait_in(machine, "no")
    )
    machine.wait_for_job(job, running)
    (unit,) = [name for name in machine.attempts() if name.startswith(f"trainforge-{job}-1-")]
    found = {
        name: machine.attempt_property(unit, name)
        for name in (
            "MemoryMax",
            "CPUQuotaPerSecUSec",
            "KillMode",
            "TimeoutStopUSec",
            "OOMPolicy",
            "Description",
        )
    }
    assert found == {
        "MemoryMax": str(2**30), "CPUQuotaPerSecUSec": "2s", "KillMode": "mixed",
        "TimeoutStopUSec": "1min 30s", "OOMPolicy": "continue",
        "Description": f"TrainForge: job {job}, attempt 1",
    }  # fmt: skip
    group = machine.attempt_property(unit, "ControlGroup")
    assert len(machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()) >= 2
    machine.tfctl("cancel", str(job))
    machine.wait_for_job(job, ended)
    wait_for(lambda: unit not in machine.attempts(), DEADLINE, "the unit to be gone")


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_job_outlives_the_daemon(machine: Machine, how: str) -> None:
    job = submit(machine, *wait_in(machine, how))
    machine.wait_for_job(job, running)
    units, pid = machine.attempts(), main_pid(machine)
    if how == "restart":
        machine.systemctl("restart", "trainforged")
    else:
        machine.kill(pid)
    wait_for(lambda: restarted(machine, pid), DEADLINE, "the daemon")
    assert machine.attempts() == units
    machine.write(f"/home/{USER}/{how}", "", user=True)
    found = machine.wait_for_job(job, ended)
    assert (found["exit_code"], found["attempt"]) == (7, 1)


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1])
def test_killed_around_a_start_there_is_one_attempt(machine: Machine, after: float) -> None:
    """The kill comes from inside, `after` seconds from the command's answer on."""
    starts = f"/home/{USER}/starts-{after}"
    pid = main_pid(machine)
    tfctl = f"{sys.executable} -P -m tfctl"
    command = f"{tfctl} submit -- sh -c 'echo $TRAINFORGE_ATTEMPT >> {starts}; sleep 0.3'"
    job = int(
        machine.run("sh", "-c", f"{command} && sleep {after} && kill -9 {pid}", user=True).stdout.split()[2]
    )
    found = machine.wait_for_job(job, ended)
    assert (found["state"], found["attempt"]) == ("succeeded", 1)
    assert (machine.disk / starts[1:]).read_text() == "1\n"
    wait_for(lambda: not machine.attempts(), DEADLINE, "the units to be gone")


def test_without_lingering_a_job_has_no_unit_and_outlives_the_daemon_too(machine: Machine) -> None:
    machine.run("loginctl", "disable-linger", USER)
    try:
        job = submit(machine, *wait_in(machine, "unit"))
        machine.wait_for_job(job, running)
        shim = json.loads((machine.disk / f"var/lib/trainforge/jobs/{job}/attempts/1/shim.json").read_text())
        group = machine.run("cat", f"/proc/{shim['pid']}/cgroup").stdout
        assert "/system.slice/trainforged.service" in group
        said = machine.tfctl("doctor", check=False).stdout
        assert "control groups below /sys/fs/cgroup/system.slice/trainforged.service/trainforge" in said
        assert "which limit neither memory nor cpu: those are not ours to limit (lingering is off)" in said
        members = machine.run("cat", f"/proc/{shim['pid']}/task/{shim['pid']}/children").stdout.split()
        assert f"/trainforge/trainforge-{job}-1-" in machine.run("cat", f"/proc/{members[0]}/cgroup").stdout
        assert f"sudo loginctl enable-linger {USER}" in said
        machine.systemctl("restart", "trainforged")
    finally:
        machine.run("loginctl", "enable-linger", USER)
    machine.write(f"/home/{USER}/unit", "", user=True)
    found = machine.wait_for_job(job, ended)
    assert (found["exit_code"], found["attempt"]) == (7, 1)


def test_a_job_ends_while_the_service_is_stopped_and_a_command_starts_it_again(machine: Machine) -> None:
    job = submit(machine, *wait_in(machine, "stopped"))
    machine.wait_for_job(job, running)
    refused = machine.tfctl("daemon", "stop", check=False)
    assert (refused.returncode, refused.stderr) == (
        4, "tfctl: the daemon is the machine's: sudo systemctl stop trainforged.socket trainforged\n"
    )  # fmt: skip
    machine.systemctl("stop", "trainforged.socket", "trainforged")
    away = machine.tfctl("daemon", "start", check=False)
    assert (away.returncode, "sudo systemctl start" in away.stderr) == (3, True)
    machine.write(f"/home/{USER}/stopped", "", user=True)
    wait_for(lambda: not machine.attempts(), DEADLINE, "the job to end")
    machine.systemctl("start", "trainforged.socket")
    assert main_pid(machine) == 0
    found = machine.wait_for_job(job, ended)  # asking is what starts the daemon
    assert (found["exit_code"], found["attempt"]) == (7, 1)


def test_a_daemon_that_hangs_is_replaced(machine: Machine) -> None:
    machine.write("/etc/systemd/system/trainforged.service.d/test.conf", "[Service]\nWatchdogSec=5s\n")
    machine.systemctl("daemon-reload")
    machine.systemctl("restart", "trainforged")
    job = submit(machine, *wait_in(machine, "hung"))
    machine.wait_for_job(job, running)
    pid = main_pid(machine)
    machine.kill(pid, "STOP")
    wait_for(lambda: restarted(machine, pid), DEADLINE, "another daemon")
    assert "Watchdog timeout" in machine.log()
    assert "Fatal Python error: Aborted" in machine.log(), "it left its stacks"
    machine.write(f"/home/{USER}/hung", "", user=True)
    assert machine.wait_for_job(job, ended)["attempt"] == 1


def test_settings_are_read_again(machine: Machine) -> None:
    machine.write("/etc/trainforge/trainforged.yaml", "log:\n  level: warning\n")
    machine.systemctl("reload", "trainforged")
    wait_for(
        lambda: machine.systemctl("show", "--value", "-p", "SubState", "trainforged") == "running", DEADLINE
    )
    machine.write("/etc/trainforge/trainforged.yaml", "log:\n  level: info\n")
    machine.systemctl("reload", "trainforged")
    wait_for(lambda: "settings were read again" in machine.log(), DEADLINE)


def test_doctor_says_how_jobs_are_contained(machine: Machine) -> None:
    said = machine.tfctl("doctor", check=False).stdout
    assert "each attempt is a unit of its own" in said
    assert f"of the machine, as {USER}" in said


@pytest.mark.parametrize(
    ("env", "words", "code", "says"),
    [
        ({"SUDO_USER": "root"}, (), 2, "as whom are jobs to run?"),
        ({"SUDO_USER": ""}, ("--as", "nobody-there"), 2, "--as nobody-there: there is no such user"),
        ({"SUDO_USER": ""}, ("--as", "daemon"), 1, "holds unfinished jobs of alice"),
    ],
)
def test_installing_is_refused_with_what_to_do(
    machine: Machine, env: dict[str, str], words: tuple[str, ...], code: int, says: str
) -> None:
    held = submit(machine, "--hold", "--", "true")
    done = machine.run(sys.executable, "-P", "-m", "tfctl", "daemon", "install", *words, check=False, **env)
    machine.tfctl("cancel", str(held))
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


def test_installing_needs_root(machine: Machine) -> None:
    done = machine.tfctl("daemon", "install", check=False)
    assert (done.returncode, done.stderr.startswith("tfctl: this needs root: sudo ")) == (4, True)


def test_removed_it_is_gone_and_a_running_job_goes_on(start_machine: Callable[[], Machine]) -> None:
    machine = start_machine()
    machine.install("install")
    job = submit(machine, *wait_in(machine, "removed"))
    machine.wait_for_job(job, running)
    said = machine.install("uninstall").stdout
    assert "/var/lib/trainforge stays as it is\njobs that run go on" in said
    assert machine.run("systemctl", "is-active", "trainforged", check=False).stdout.strip() == "inactive"
    assert machine.run("test", "-e", "/run/trainforge/trainforged.sock", check=False).returncode == 1
    assert not any((machine.disk / unit.lstrip("/")).exists() for unit in UNITS)
    assert len(machine.attempts()) == 1
    assert machine.install("uninstall").stdout == "nothing is installed\n"
    machine.install("install")
    assert machine.wait_for_job(job, running)["attempt"] == 1


@pytest.mark.skipif(os.path.exists("/run/systemd/system"), reason="systemd runs here")
def test_without_systemd_installing_says_so() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "tfctl", "daemon", "install"], capture_output=True, text=True
    )
    assert (done.returncode, "systemd does not run here" in done.stderr) == (1, True)
