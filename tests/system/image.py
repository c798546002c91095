"""The folder with a Debian that systemd boots in: made once for all tests and runs, in the user's cache.

It holds nothing of ours. What tests change, they change in copies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

# python3 also brings the libraries that any other build of the same Python needs.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "python3")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trainforge-tests"


class Unavailable(Exception):
    """There is none, and it cannot be made here; the message says why."""


def ensure() -> Path:
    """The image. Takes half a minute the first time; raises `Unavailable`."""
    if os.geteuid() != 0:
        raise Unavailable("booting a container needs root")
    if shutil.which("systemd-nspawn") is None:
        raise Unavailable("systemd-nspawn is not installed (tests/prepare)")
    suite = _suite()
    image = CACHE / f"{suite}-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists():
            _make(suite, image)
    return image


def _suite() -> str:
    """That of this machine, whose interpreter and libraries the container is to run."""
    lines = Path("/etc/os-release").read_text().splitlines()
    release = dict(line.split("=", 1) for line in lines if "=" in line)
    return release.get("VERSION_CODENAME", "bookworm").strip('"')


def _make(suite: str, image: Path) -> None:
    aside = image.with_name(f"{image.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    include = f"--include={','.join(PACKAGES)}"
    if shutil.which("mmdebstrap"):
        line = ["mmdebstrap", "--quiet", "--variant=minbase", include, suite, str(aside)]
    elif shutil.which("debootstrap"):
        line = ["debootstrap", "--variant=minbase", include, suite, str(aside)]
    else:
        raise Unavailable("neither mmdebstrap nor debootstrap is installed (tests/prepare)")
    done = subprocess.run(line, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Unavailable(f"{line[0]} cannot make an image of {suite}: {said[-1] if said else 'no word'}")
    aside.rename(image)
