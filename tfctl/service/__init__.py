"""The daemon as a service of systemd: who runs it, and what becomes of its jobs without a session.

    machine   installed for the machine, run as one user; removed
    user      installed for one user; removed
    files     the units, from the templates in `systemd/`
    steps     what both have in common

Here it is found out about: which units there are, who lingers, who started a process.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import NamedTuple

from tfctl.failures import Failure

UNIT, SOCKET = "trainforged.service", "trainforged.socket"
SYSTEM_UNITS = Path("/etc/systemd/system")
PACKAGED_UNITS = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
LINGERING = Path("/var/lib/systemd/linger")


class Manager(NamedTuple):
    """systemd for the machine, or that of a user (the one who runs this)."""

    user: bool

    def control(self, *words: str, check: bool = True) -> str:
        """`systemctl …`; its output. Raises `Failure` with what it said."""
        return run(["systemctl", *(["--user"] if self.user else []), *words], check)

    @property
    def units(self) -> Path:
        """Where the administrator's, or the user's, own units lie."""
        return config_home() / "systemd/user" if self.user else SYSTEM_UNITS

    def shown(self, *properties: str) -> dict[str, str]:
        """Properties of the daemon's unit."""
        lines = self.control("show", UNIT, *(f"--property={name}" for name in properties), check=False)
        return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)


SYSTEM, USER = Manager(user=False), Manager(user=True)


def runs() -> bool:
    """Whether systemd runs here."""
    return Path("/run/systemd/system").exists()


def installed() -> Manager | None:
    """The manager that has a unit of the daemon, the machine's first."""
    if any(Path(folder, UNIT).exists() for folder in (SYSTEM_UNITS, *PACKAGED_UNITS)):
        return SYSTEM
    return USER if (USER.units / UNIT).exists() else None


def manager_of(pid: int) -> Manager | None:
    """Who runs the daemon with this pid as a service; None where nobody does."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    groups = [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
    ours = [group for group in groups if group.endswith(f"/{UNIT}") or f"/{UNIT}/" in group]
    return (USER if any("/user@" in group for group in ours) else SYSTEM) if ours else None


def lingers(user: str) -> bool:
    """Whether the user's manager starts with the machine and outlives the user's sessions."""
    return (LINGERING / user).exists()


def contains(user: str) -> bool:
    """Whether the user's manager runs and outlives the sessions: then attempts are units of it."""
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return False
    return lingers(user) and runtime_folder(uid).exists()


def runtime_folder(uid: int) -> Path:
    return Path(f"/run/user/{uid}")


def run(line: list[str], check: bool = True) -> str:
    """Output of a program of systemd's. Raises `Failure` with what it said."""
    import subprocess

    runtime = os.environ.get("XDG_RUNTIME_DIR") or str(runtime_folder(os.getuid()))
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            env=os.environ | {"XDG_RUNTIME_DIR": runtime, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except OSError as error:
        raise Failure(f"{line[0]} cannot be run: {error.strerror}", 1) from None
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(line)}: {done.stderr.strip() or done.returncode}", 1)
    return done.stdout


def config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()


def program() -> str:
    """This program, for sudo: its PATH has no virtual environment."""
    script = Path(sys.executable).parent / "tfctl"
    return str(script) if script.exists() else f"{sys.executable} -m tfctl"
