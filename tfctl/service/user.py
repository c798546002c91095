"""The service of one user, whose manager outlives their sessions where they linger (loginctl(1))."""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tfctl.failures import NOT_ALLOWED, Failure
from tfctl.service import (
    SOCKET,
    SYSTEM,
    UNIT,
    USER,
    config_home,
    installed,
    lingers,
    manager_of,
    run,
    runtime_folder,
)
from tfctl.service.files import rendered, write
from tfctl.service.steps import remove, require_systemd, start
from trainforge.client import home

PATIENCE = 15.0  # seconds for a manager to come up, or a daemon to stop


def install() -> Iterator[str]:
    """Yields what was done, in sentences. Raises `Failure`."""
    require_systemd()
    if os.geteuid() == 0 and os.environ.get("SUDO_USER", "root") != "root":
        raise Failure("--user installs it for who runs this: leave sudo away")
    if installed() is SYSTEM:
        raise Failure("a daemon is installed for the machine already: tfctl doctor", 1)
    me = pwd.getpwuid(os.getuid()).pw_name
    lingering = lingers(me) or _try_to_linger(me)
    _await_manager()
    values = {
        "PYTHON": sys.executable, "STATE": str(home.state_dir()), "CONFIG_HOME": str(config_home()),
    }  # fmt: skip
    changed = write({USER.units / name: rendered(f"user/{name}", values) for name in (UNIT, SOCKET)})
    yield from (f"wrote {path}" for path in changed)
    USER.control("daemon-reload")
    USER.control("enable", "--quiet", SOCKET, UNIT)
    _stop_other()
    start(USER, bool(changed))
    yield f"trainforged runs for {me}; state in {home.state_dir()}"
    yield "to undo it: tfctl daemon uninstall --user"
    if not lingering:
        raise Failure(
            "but it ends with your last session and does not start at boot, for lingering is off "
            f"and not yours to enable: sudo loginctl enable-linger {me}", NOT_ALLOWED
        )  # fmt: skip
    yield "lingering is on: it starts at boot, and goes on after logout"


def uninstall() -> Iterator[str]:
    """As `install`."""
    require_systemd()
    files = [path for path in (USER.units / UNIT, USER.units / SOCKET) if path.exists()]
    again = "tfctl daemon start" if home.has_unfinished_jobs(home.state_dir()) else ""
    yield from remove(USER, files, (SOCKET, UNIT), home.state_dir(), again)
    if files:
        me = pwd.getpwuid(os.getuid()).pw_name
        yield f"lingering stays as it is; to end it: loginctl disable-linger {me}"


def _try_to_linger(user: str) -> bool:
    run(["loginctl", "--no-ask-password", "enable-linger"], check=False)
    return lingers(user)


def _await_manager() -> None:
    """Lingering, once enabled, brings it up in a moment."""
    private = runtime_folder(os.getuid()) / "systemd/private"
    deadline = time.monotonic() + (PATIENCE if lingers(pwd.getpwuid(os.getuid()).pw_name) else 0.0)
    while not private.exists():
        if time.monotonic() > deadline:
            raise Failure(f"no service manager runs for you ({private} is missing): log in anew, or sudo "
                          f"loginctl enable-linger {pwd.getpwuid(os.getuid()).pw_name}", 1)  # fmt: skip
        time.sleep(0.05)


def _stop_other() -> None:
    """A daemon that a command started keeps the state folder locked; its jobs outlive it."""
    import select
    import signal

    pid = home.holder(home.state_dir())
    if pid is None or manager_of(pid) is not None or not _is_ours(pid):
        return
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        select.select([descriptor], [], [], PATIENCE)
    finally:
        os.close(descriptor)


def _is_ours(pid: int) -> bool:
    """Whether that process is a daemon of ours; a pid in a file may be somebody else's by now."""
    try:
        return b"trainforged" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
