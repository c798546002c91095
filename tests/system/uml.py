"""A machine of user-mode Linux: a kernel of its own, a program that boots in seconds and needs no rights.

What this machine has on its disk is seen there, read-only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.system.machine import ROOT, Machine

GUESTS = Path(__file__).parent / "guests"
LIMIT = 240.0  # seconds; it is slow where the machine is busy
MEMORY = "768M"
RESULT = "/result.json"  # on a machine's disk: what the program there found
IN_MEMORY = "/var/lib/trainforge"  # what is written often; files of this machine are slow to write

UNIT = """\
[Unit]
After=multi-user.target
DefaultDependencies=no

[Service]
Type=oneshot
Environment=PYTHONPATH={checkout} PATH={bin}:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart={python} -P {guest}
ExecStopPost=/bin/systemctl poweroff --force
"""


def kernel() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("linux.uml")


def run(guest: str) -> str:
    """Boot without a service manager, run the program `guests/<guest>`; what it wrote to the console."""
    words = (f"GUEST={GUESTS / guest}", f"PYTHON={sys.executable}", f"CHECKOUT={ROOT}")
    return _boot(Path("/"), "ro", f"init={GUESTS / 'init.sh'}", *words)


def run_in(machine: Machine, guest: str) -> str:
    """Boot the (switched off) machine's disk with its systemd, and run the program `guests/<guest>` when
    all is up; what it left in `RESULT`."""
    mounts = [f"none {place} hostfs {place},ro 0 0\n" for place in machine.places]
    (machine.disk / IN_MEMORY.lstrip("/")).mkdir(parents=True, exist_ok=True)
    machine.write("/etc/fstab", "".join(mounts) + f"none {IN_MEMORY} tmpfs rw 0 0\n")
    unit = UNIT.format(
        checkout=ROOT, bin=Path(sys.executable).parent, python=sys.executable, guest=GUESTS / guest
    )
    machine.write("/etc/systemd/system/guest.service", unit)
    machine.write("/etc/systemd/system/multi-user.target.d/guest.conf", "[Unit]\nWants=guest.service\n")
    console = _boot(machine.disk, "rw", "systemd.unified_cgroup_hierarchy=1", "init=/lib/systemd/systemd")
    result = machine.disk / RESULT.lstrip("/")
    assert result.exists(), console
    return result.read_text()


def _boot(disk: Path, *words: str) -> str:
    """Until it is switched off; its console."""
    line = [
        *(
            str(kernel()),
            f"mem={MEMORY}",
            "root=/dev/root",
            "rootfstype=hostfs",
            f"rootflags={disk}",
            "quiet",
        ),
        *("con=null", "con0=fd:0,fd:1", "con1=null", *words),
    ]
    machine = subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return machine.communicate(timeout=LIMIT)[0].decode(errors="replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(machine.pid, signal.SIGKILL)  # its processes are processes of this machine
        machine.wait()
