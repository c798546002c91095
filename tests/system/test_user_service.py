"""The service of one user: it takes over from the daemon that a command had started, and comes up at boot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import wait_for
from tests.system.machine import DEADLINE, USER, Machine

UNITS = f"/home/{USER}/.config/systemd/user"
UNIT, SOCKET = f"{UNITS}/trainforged.service", f"{UNITS}/trainforged.socket"
NOTE = (
    f"note: started a daemon for {USER}; jobs may not survive logout, nor a reboot; "
    "to have them do so: tfctl daemon install --user\n"
)


@pytest.fixture
def machine(start_machine: Callable[[], Machine]) -> Machine:
    """On which the user lingers, as on one with a session: the tests have no polkit to enable it."""
    made = start_machine()
    made.run("loginctl", "enable-linger", USER)
    wait_for(lambda: made.run("systemctl", "is-active", "user@1000", check=False).returncode == 0, DEADLINE)
    return made


def no_command_is_turned_away_while_it_restarts(machine: Machine) -> None:
    """Also with jobs that have not ended; and nobody starts a second daemon."""
    control = ("systemctl", "--user")
    for words in (("kill", "-s", "KILL", "trainforged"), ("stop", "trainforged.service")):
        machine.run(*control, *words, user=True)
        said = machine.tfctl("status")
        others = [line for line in said.stderr.splitlines() if not line.endswith("waiting for it")]
        assert (said.returncode, others) == (0, []), "that it takes its time may be said"
    assert machine.run(*control, "is-active", "trainforged", user=True).stdout == "active\n"


def test_a_users_daemon_becomes_a_service_and_outlives_a_reboot(machine: Machine) -> None:
    command = ("--", "sh", "-c", f"while [ ! -e /home/{USER}/go ]; do sleep 0.05; done; exit 7")
    begun = machine.tfctl("submit", *command)
    assert begun.stderr.startswith(NOTE)
    machine.wait_for_job(1, lambda job: job["state"] == "running")
    before = machine.tfctl("daemon", "status").stdout

    said = machine.tfctl("daemon", "install", "--user").stdout.splitlines()
    assert said == [
        f"wrote {UNIT}",
        f"wrote {SOCKET}",
        f"trainforged runs for {USER}; state in /home/{USER}/.local/state/trainforge",
        "to undo it: tfctl daemon uninstall --user",
        "lingering is on: it starts at boot, and goes on after logout",
    ]
    assert machine.tfctl("daemon", "status").stdout != before
    verified = machine.run("systemd-analyze", "--user", "verify", UNIT, SOCKET, user=True)
    assert (verified.stdout, verified.stderr) == ("", "")
    no_command_is_turned_away_while_it_restarts(machine)
    assert machine.wait_for_job(1, lambda job: job["state"] == "running")["attempt"] == 1
    machine.write(f"/home/{USER}/go", "", user=True)
    assert machine.wait_for_job(1, lambda job: job["state"] == "failed")["exit_code"] == 7

    machine.tfctl("submit", "--set", "recovery.max_retries=1", "--", "sleep", "1000")
    machine.wait_for_job(2, lambda job: job["state"] == "running")
    assert len(machine.attempts()) == 1

    machine.reboot()

    again = machine.wait_for_job(2, lambda job: job["state"] == "running")
    assert (again["attempt"], again["retries"]) == (2, 0)
    assert machine.tfctl("daemon", "stop").stdout == "stopped the daemon; 1 running job goes on\n"
    assert len(machine.attempts()) == 1
    assert "started a daemon" not in machine.tfctl("status").stderr, (
        "the service was started, nothing beside it"
    )
    assert machine.wait_for_job(2, lambda job: job["state"] == "running")["attempt"] == 2

    gone = machine.tfctl("daemon", "uninstall", "--user").stdout
    assert gone.splitlines()[:2] == [f"removed {UNIT}", f"removed {SOCKET}"]
    assert "jobs that run go on" in gone
    assert len(machine.attempts()) == 1


def test_what_cannot_be_installed_for_a_user_is_said(start_machine: Callable[[], Machine]) -> None:
    machine = start_machine()
    done = machine.tfctl("daemon", "install", "--user", check=False)
    assert (done.returncode, f"sudo loginctl enable-linger {USER}" in done.stderr) == (1, True)
    assert machine.install("install", "--user", check=False).stderr == (
        "tfctl: --user installs it for who runs this: leave sudo away\n"
    )
    machine.install("install")
    done = machine.tfctl("daemon", "install", "--user", check=False)
    assert (done.returncode, "installed for the machine already" in done.stderr) == (1, True)
