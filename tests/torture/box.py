"""A container to cut the power of: all of its processes end at once, and it boots again with another boot id.

A namespace of processes, whose first one reaps and waits; the kernel ends all others with it. Files are the
machine's own: what had been written is there after a cut, as on a disk that kept what it had acknowledged.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from tests.daemon.real import DEADLINE, RealDaemon, wait_until
from trainforged.execution.starting.systemd import manager

ROOT = Path(__file__).parents[2]
BOOT_ID = "/proc/sys/kernel/random/boot_id"
MOUNT = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
FIRST = """
import os, signal, sys
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
signal.signal(signal.SIGCHLD, reap)
print("up", flush=True)
sys.stdin.read()
"""


def possible() -> bool:
    """Whether such a container can be made here: as root, with util-linux, where the kernel lets us, and no
    service manager would start the attempts outside of it."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter"))) or manager() is not None:
        return False
    line = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "mount", "--bind", os.devnull, BOOT_ID]
    return subprocess.run(line, capture_output=True).returncode == 0


class BoxedDaemon(RealDaemon):
    """The real daemon in such a container. `boot` it before `start`. Pids are those seen from outside."""

    def __init__(
        self, folder: Path, gpus: int | None = 2, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, gpus, *options, env=env)
        self._box: subprocess.Popen[bytes] | None = None
        self._first = 0

    # ---- power

    def boot(self) -> None:
        """It lives for as long as we do: its first process ends when its input does."""
        number = self.folder / "boot-id"
        number.write_text(f"{uuid.uuid4()}\n")
        line = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-c", MOUNT, str(number)]
        with self.log.open("ab") as log:
            self._box = subprocess.Popen(
                [*line, sys.executable, "-I", "-S", "-c", FIRST],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._box.stdout is not None
        assert self._box.stdout.readline() == b"up\n"
        (self._first,) = _children(self._box.pid)

    def cut_power(self) -> None:
        """Every process is gone at once."""
        assert self._box is not None
        os.kill(self._first, signal.SIGKILL)
        if (process := self.process) is not None:
            wait_until(lambda: _reaped(process), "nsenter to end")
        self._box.communicate(timeout=DEADLINE)
        wait_until(lambda: not self.processes(), "all that was in the container to be gone")

    def close(self) -> None:
        if self._box is not None and self._box.poll() is None:
            self.cut_power()
        super().close()

    # ---- the daemon in it

    def argv(self) -> list[str]:
        into = ["nsenter", "--target", str(self._first), "--pid", "--mount", "--", "env", "-C", str(ROOT)]
        return [*into, *super().argv()]

    @property
    def pid(self) -> int:
        """The daemon's, which `nsenter` stays beside; 0 when it has ended."""
        below = _children(super().pid)
        return below[0] if below else 0

    def send(self, number: signal.Signals) -> None:
        process = self.process
        assert process is not None
        wait_until(lambda: self.pid or process.poll() is not None, "the daemon's process")
        with contextlib.suppress(ProcessLookupError):
            if pid := self.pid:
                os.kill(pid, number)

    def processes(self) -> list[int]:
        return [pid for pid in super().processes() if pid != self.pid]

    def outside(self, pid: int) -> int | None:
        """What a process of the container is called here."""
        space = _space(self._first)
        for name in os.listdir("/proc"):
            if name.isdecimal() and _space(int(name)) == space and _inside(int(name)) == pid:
                return int(name)
        return None


def _reaped(nsenter: subprocess.Popen[bytes]) -> bool:
    """It stops itself when it learns that the daemon has stopped, and reaps nobody until it may go on."""
    nsenter.send_signal(signal.SIGCONT)
    return nsenter.poll() is not None


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _space(pid: int) -> str | None:
    """In which namespace of processes it is."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _inside(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None
