"""Starting a daemon for this user: when that may be done, doing it, and saying what it means.

The daemon runs in a session of its own and outlives the shell, but neither a logout where the
system ends a user's processes, nor a reboot. That is said, in one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tfctl import service
from tfctl.failures import NO_DAEMON, Failure
from trainforge.client.client import NoDaemon
from trainforge.client.home import has_unfinished_jobs, options_of, state_dir, user_name
from trainforge.client.sockets import chosen_socket, connect

if TYPE_CHECKING:
    import subprocess

PATIENCE = 15.0  # seconds until it answers


def allowed(submitting: bool) -> bool:
    """Whether a daemon may be started: none is installed for the machine, and there is work for one."""
    if chosen_socket() is not None:
        return False
    if service.installed() is service.SYSTEM:
        return False
    return submitting or has_unfinished_jobs(state_dir())


def start() -> int:
    """Start a daemon and wait until it answers; its pid. Raises `Failure` with what it said.

    Jobs that the last one left get the machine that they were accepted for, made-up GPUs too: its options.
    """
    import shlex
    import subprocess

    chosen = chosen_socket()
    if chosen is not None:
        there = f"trainforged --socket {chosen}"
        raise Failure(f"TRAINFORGE_SOCKET is set; unset it, or start a daemon there: {there}", NO_DAEMON)
    manager = service.installed() if service.runs() else None
    if manager is service.SYSTEM:
        raise Failure("the machine's daemon is stopped: sudo systemctl start trainforged", NO_DAEMON)
    if manager is service.USER:
        manager.control("start", service.SOCKET, service.UNIT)
        return int(manager.shown("MainPID")["MainPID"])
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = options_of(folder) if has_unfinished_jobs(folder) else []
    log = folder / "trainforged.log"
    with log.open("ab") as output:
        began = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "trainforged", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )
    _await(process, log, began)
    like_the_last = f" ({shlex.join(options)}, as the last one)" if options else ""
    print(f"note: started a daemon for {user_name()}{like_the_last}; {_survival()}", file=sys.stderr)
    return process.pid


def _await(process: subprocess.Popen[bytes], log: Path, began: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(NoDaemon):
            connect(None, 1.0)[0].close()
            return
        if process.poll() is not None:
            with log.open("rb") as output:
                output.seek(began)
                said = output.read(4096).decode(errors="replace").strip()
            raise Failure(f"the daemon did not start: {said or process.returncode}", NO_DAEMON)
        time.sleep(0.02)
    raise Failure(f"the daemon does not answer; see {log}", NO_DAEMON)


def _survival() -> str:
    if service.runs():
        return "jobs may not survive logout, nor a reboot; to have them do so: tfctl daemon install --user"
    return "jobs survive logout, but nothing starts it again after a reboot but the next tfctl submit"
