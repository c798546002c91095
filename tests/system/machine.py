"""A machine that boots systemd, is restarted, switched off, or has its power cut: a container of nspawn.

The checkout and the interpreter that runs the tests are seen in it, read-only, at their own places.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import wait_for

ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
USER, UID = "alice", 1000
DEADLINE = 180.0  # of a wait; nothing takes that long but on a machine that is very busy
Done = subprocess.CompletedProcess[str]


class DoesNotBoot(Exception):
    """Containers cannot be booted here; the message says why."""


class Machine:
    """`folder` becomes its disk, a copy of `image`. `boot` it; in the end, `destroy` it."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.name = f"tf{uuid.uuid4().hex[:8]}"
        self.disk = folder / "disk"
        self.console = folder / "console.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._mounted = self._lay_over(image, folder)
        if not self._mounted:
            subprocess.run(["cp", "-aT", "--reflink=auto", str(image), str(self.disk)], check=True)
        self.places = _places()
        for place in self.places:
            self._make_reachable(place)
        subprocess.run(["chroot", str(self.disk), "useradd", "-m", "-u", str(UID), USER], check=True)
        self.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")  # where ranks meet

    def _lay_over(self, image: Path, folder: Path) -> bool:
        """Whether the disk is the image with a layer of its own over it: quicker than a copy."""
        layers = [folder / "own", folder / "work", self.disk]
        for layer in layers:
            layer.mkdir()
        options = f"lowerdir={image},upperdir={layers[0]},workdir={layers[1]}"
        line = ["mount", "-t", "overlay", "overlay", "-o", options, str(self.disk)]
        return subprocess.run(line, capture_output=True).returncode == 0

    def _make_reachable(self, place: Path) -> None:
        """By other users too: a mount point below /root, say."""
        inside = self.disk / place.relative_to("/")
        inside.mkdir(parents=True, exist_ok=True)
        for folder in (inside, *inside.parents):
            if folder == self.disk:
                break
            folder.chmod(folder.stat().st_mode | 0o055)

    # ---- power

    def boot(self) -> Machine:
        """Returns once everything that starts at boot has."""
        binds = [f"--bind-ro={place}" for place in self.places]
        line = [
            *("systemd-nspawn", "--quiet", "-D", str(self.disk), "-M", self.name, "--register=no"),
            *(
                "--keep-unit",
                "--private-network",
                "--boot",
                "--console=pipe",
                "--kill-signal=SIGRTMIN+3",
                *("--capability=CAP_BPF", "--system-call-filter=bpf"),  # closing devices takes them
                *binds,
            ),
        ]
        into = "".join(f"echo $$ > '{group}/cgroup.procs'; " for group in self._groups())
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["/bin/sh", "-c", f'{into}exec "$@"', "sh", *line],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        self._leader = wait_for(self._find_leader, DEADLINE, "the container's first process")
        wait_for(self._is_up, DEADLINE, "systemd to have booted")
        return self

    def reboot(self) -> Machine:
        """As a person does."""
        return self._go_down("reboot").boot()

    def power_off(self) -> Machine:
        return self._go_down("poweroff")

    def cut_power(self) -> Machine:
        """Every process is gone at once; what it had not written to the disk's files is lost."""
        os.kill(self._leader, signal.SIGKILL)
        return self._wait_off()

    def _go_down(self, how: str) -> Machine:
        self.run("systemctl", how)
        return self._wait_off()

    def _wait_off(self) -> Machine:
        assert self._nspawn is not None
        self._nspawn.wait(DEADLINE)
        self._nspawn = None
        return self

    def destroy(self) -> None:
        if self._nspawn is not None:
            for pid in (
                *_children(self._nspawn.pid),
                self._nspawn.pid,
            ):  # with its first process a machine ends
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._wait_off()
        with contextlib.suppress(DoesNotBoot):
            for group in self._groups():
                wait_for(lambda group=group: _removed(group), DEADLINE, "the last process to be gone")
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)

    def _groups(self) -> list[Path]:
        """Control groups of its own, in the hierarchies that systemd uses."""
        split = [GROUPS / name for name in ("unified", "systemd") if (GROUPS / name).is_dir()]
        groups = [hierarchy / self.name for hierarchy in split or [GROUPS]]
        try:
            for group in groups:
                group.mkdir(exist_ok=True)
        except OSError as error:
            raise DoesNotBoot(f"no control group can be made: {error}") from error
        return groups

    def _find_leader(self) -> int | None:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise DoesNotBoot(self.console.read_text(errors="replace").strip() or "nspawn says nothing")
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next(
            (int(child) for child in children if _pids_of(child) not in (None, _pids_of("self"))), None
        )

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        return state in ("running", "degraded")

    # ---- commands

    def run(self, *argv: str, check: bool = True, user: bool = False, **env: str) -> Done:
        """A command as root, or as the user; it sees what a login would give it."""
        home = f"/home/{USER}" if user else "/root"
        base = {
            "HOME": home, "USER": USER if user else "root", "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        }  # fmt: skip
        if user:
            base["XDG_RUNTIME_DIR"] = f"/run/user/{UID}"
        who = [*("setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups")] if user else []
        done = subprocess.run(
            [
                *("nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"),
                *(*who, "env", "-i", "-C", home, *(f"{k}={v}" for k, v in (base | env).items()), *argv),
            ],
            capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, (argv, done.returncode, done.stdout, done.stderr)
        return done

    def tfctl(self, *words: str, check: bool = True, **env: str) -> Done:
        """A command of the user."""
        return self.run(sys.executable, "-P", "-m", "tfctl", *words, user=True, check=check, **env)

    def install(self, *words: str, check: bool = True) -> Done:
        """`sudo tfctl daemon …` of the user."""
        return self.run(sys.executable, "-P", "-m", "tfctl", "daemon", *words, check=check, SUDO_USER=USER)

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", *words).stdout.strip()

    def attempts(self) -> list[str]:
        """The units of attempts that run."""
        out = self.run(
            "systemctl",
            "--user",
            "list-units",
            "--plain",
            "--no-legend",
            "--no-pager",
            "trainforge-*",
            user=True,
        ).stdout
        return [line.split()[0] for line in out.splitlines()]

    def attempt_property(self, unit: str, name: str) -> str:
        return self.run(
            "systemctl", "--user", "show", "--value", f"--property={name}", unit, user=True
        ).stdout.strip()

    def kill(self, pid: int, name: str = "KILL") -> None:
        self.run("sh", "-c", f"kill -{name} {pid}")

    def write(self, path: str, text: str, user: bool = False) -> None:
        file = self.disk / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if user:
            os.chown(file, UID, UID)

    # ---- jobs

    def job(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tfctl("status", str(number), "--json").stdout)
        return found

    def wait_for_job(self, number: int, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job, once that is true of it."""
        limit = time.monotonic() + DEADLINE
        while not condition(job := self.job(number)):
            assert time.monotonic() < limit, (job["state"], job["attempts"], self.log())
            time.sleep(0.1)
        return job

    def log(self) -> str:
        """What the daemon said since the last boot."""
        return self.run(
            "journalctl", "-b", "-u", "trainforged", "-o", "cat", "--no-pager", check=False
        ).stdout


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _removed(group: Path) -> bool:
    """With all that is below; not while processes are dying in it."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not group.exists()


def _pids_of(pid: int) -> str | None:
    """In which namespace of pids the process is."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _places() -> list[Path]:
    """What the interpreter needs, its packages too, and the checkout; /usr is the container's own."""
    packages = [Path(name) for name in sys.path if os.path.isdir(name)]
    wanted = [ROOT, Path(sys.prefix), Path(sys.base_prefix), *packages]
    outside = {place.resolve() for place in wanted if not place.is_relative_to("/usr")}
    return sorted(p for p in outside if not any(p != other and p.is_relative_to(other) for other in outside))
