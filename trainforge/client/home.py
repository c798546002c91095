"""This user's state folder, as far as a client looks into it: who has it, and whether work is left in it."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path


def user_name() -> str:
    """Whose this process is: as the system knows it, and not by its environment, which may be another user's.
    A user without a name, in a container say, is a number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def state_dir() -> Path:
    """Where a daemon of this user keeps everything."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "trainforge"


def holder(folder: Path) -> int | None:
    """The pid of the daemon that uses the folder, or used it last."""
    try:
        text = (folder / "lock").read_text().strip()
    except (OSError, UnicodeError):
        return None
    return int(text) if text.isdecimal() else None


def socket_of(folder: Path) -> Path | None:
    """Where the daemon that uses the folder listens, or the last one did: also for a shell, or cron, that
    has another runtime folder than the shell that started it."""
    try:
        text = (folder / "socket").read_text()
    except (OSError, UnicodeError):
        return None
    return Path(text) if os.path.isabs(text) else None


def options_of(folder: Path) -> list[str]:
    """Those that the last daemon of the folder was started with, beside the folder and the socket."""
    import json

    try:
        words = json.loads((folder / "options").read_text())
    except (OSError, ValueError):
        return []
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []


def has_unfinished_jobs(folder: Path) -> bool:
    """Whether a daemon that ran here left jobs that have not ended."""
    database = folder / "trainforge.db"
    if not database.exists():
        return False
    import sqlite3

    query = "SELECT 1 FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled') LIMIT 1"
    with contextlib.suppress(sqlite3.Error):
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=2)
        with contextlib.closing(connection):
            return connection.execute(query).fetchone() is not None
    return True  # it cannot be read: let the daemon say why
