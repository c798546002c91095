"""Steps that installing for the machine and for one user have in common. Each is safe to do again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tfctl.failures import Failure
from tfctl.service import SOCKET, UNIT, Manager, run, runs


def start(manager: Manager, changed: bool) -> None:
    """Have it run, as its units say now: jobs outlive that. Raises `Failure` with the end of its log."""
    try:
        if changed:
            manager.control("stop", SOCKET, UNIT)
        manager.control("start", SOCKET, UNIT)
    except Failure as failure:
        flag = ["--user"] if manager.user else []
        log = run(["journalctl", *flag, "-u", UNIT, "-n", "5", "-o", "cat", "--no-pager"], check=False)
        raise Failure(f"it is installed, but does not start: {failure}\n{log.strip()}", 1) from None


def remove(
    manager: Manager, files: list[Path], names: tuple[str, ...], state: Path, again: str
) -> Iterator[str]:
    """`again`: how to have a daemon for the jobs that have not ended; empty where there are none."""
    if not files:
        yield "nothing is installed"
        return
    manager.control("disable", "--now", "--quiet", *names, check=False)
    for path in files:
        path.unlink()
        yield f"removed {path}"
    manager.control("daemon-reload")
    yield f"{state} stays as it is"
    if again:
        yield f"jobs that run go on; to have a daemon for those that have not ended: {again}"


def require_systemd() -> None:
    if not runs():
        raise Failure("systemd does not run here; have whatever starts services here start trainforged "
                      "(docs/operations.md), or let tfctl submit start it", 1)  # fmt: skip
