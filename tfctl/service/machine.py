"""The service of the machine: as root, to run as the user that it is installed for.

Nothing is installed over unfinished jobs that would then have no daemon, or run as somebody else.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path

from tfctl.failures import NOT_ALLOWED, Failure
from tfctl.service import SOCKET, SYSTEM, SYSTEM_UNITS, UNIT, lingers, program, run
from tfctl.service.files import rendered, write
from tfctl.service.steps import remove, require_systemd, start
from trainforge.client import sockets

CONFIG = Path("/etc/trainforge")
STATE = Path("/var/lib/trainforge")
SETTINGS = "# Settings, all with defaults: docs/operations.md. After a change: systemctl reload trainforged\n"


def install(user: str | None) -> Iterator[str]:
    """Yields what was done, in sentences. Raises `Failure`."""
    require_systemd()
    if os.geteuid() != 0:
        alone = "or, for you alone: tfctl daemon install --user"
        raise Failure(f"this needs root: sudo {program()} daemon install; {alone}", NOT_ALLOWED)
    account = _account(user or os.environ.get("SUDO_USER"), named=user is not None)
    if account.pw_uid == 0:
        print("warning: jobs will run as root, and whoever may submit one is root", file=sys.stderr)
    _check_unfinished(account)
    _check_can_start(account)
    changed = write(_machine_files(account))
    config = CONFIG / "trainforged.yaml"
    if not config.exists():
        changed += write({config: SETTINGS})
    yield from (f"wrote {path}" for path in changed)
    if not lingers(account.pw_name):
        run(["loginctl", "enable-linger", account.pw_name])
        yield f"enabled lingering of {account.pw_name}: attempts are units of that user's service manager"
    SYSTEM.control("daemon-reload")
    SYSTEM.control("enable", "--quiet", SOCKET, UNIT)
    start(SYSTEM, bool(changed))
    yield f"trainforged runs as {account.pw_name}, now and after each boot; state in {STATE}"
    yield f"to undo it: sudo {program()} daemon uninstall"


def uninstall() -> Iterator[str]:
    """As `install`."""
    require_systemd()
    if os.geteuid() != 0:
        raise Failure(f"this needs root: sudo {program()} daemon uninstall", NOT_ALLOWED)
    drop_ins = sorted(SYSTEM_UNITS.glob("user@*.service.d/trainforge.conf"))
    files = [path for path in (SYSTEM_UNITS / UNIT, SYSTEM_UNITS / SOCKET, *drop_ins) if path.exists()]
    settings = CONFIG / "trainforged.yaml"
    if settings.exists() and settings.read_text() == SETTINGS:
        files.append(settings)
    owner = _owner(STATE)
    unfinished = owner is not None and _unfinished(STATE, owner)
    again = f"sudo {program()} daemon install"
    yield from remove(SYSTEM, files, (SOCKET, UNIT), STATE, again if unfinished else "")
    if drop_ins:
        yield "lingering stays as it is; to end it: sudo loginctl disable-linger USER"


def _account(name: str | None, named: bool) -> pwd.struct_passwd:
    """Whom the daemon is to run as; root only where that was asked for by name."""
    if name is None or (name == "root" and not named):
        risk = "(--as root is possible; then whoever may submit a job is root)"
        raise Failure(f"as whom are jobs to run? {program()} daemon install --as USER {risk}")
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Failure(f"--as {name}: there is no such user") from None


def _check_unfinished(account: pwd.struct_passwd) -> None:
    """No unfinished job is to be left to a daemon that nobody starts any more, or to run as another user."""
    own = Path(account.pw_dir) / ".local/state/trainforge"
    if _unfinished(own, account):
        raise Failure(
            f"{account.pw_name} has a daemon already, with unfinished jobs in {own}: "
            "wait for them or cancel them, or install it for that user alone (--user)",
            1,
        )
    if not STATE.exists() or STATE.stat().st_uid == account.pw_uid:
        return
    before = _owner(STATE)
    if before is not None and _unfinished(STATE, before):
        name = before.pw_name
        raise Failure(f"{STATE} holds unfinished jobs of {name}: wait for them, or install --as {name}", 1)


def _check_can_start(account: pwd.struct_passwd) -> None:
    """A virtual environment below somebody else's home is no use."""
    said = _as(account, "import trainforged.__main__, trainforged.daemon")[1]
    if said:
        advice = f"install TrainForge where {account.pw_name} can read it, in /opt/trainforge say"
        raise Failure(f"{account.pw_name} cannot run {sys.executable} ({said}): {advice}", 1)


def _unfinished(folder: Path, account: pwd.struct_passwd) -> bool:
    """Looked at as the user whose it is: SQLite may leave files beside a database that it reads."""
    code = "from trainforge.client import home; from pathlib import Path; "
    code += f"print(home.has_unfinished_jobs(Path({str(folder)!r})))"
    return _as(account, code)[0].strip() == "True"


def _owner(folder: Path) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(folder.stat().st_uid)
    except (KeyError, FileNotFoundError):
        return None


def _as(account: pwd.struct_passwd, code: str) -> tuple[str, str]:
    """Run Python as that user: what it prints, and what is wrong with it (empty: nothing)."""
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd="/", capture_output=True, text=True, timeout=60,
            user=account.pw_uid, group=account.pw_gid,
            extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
            env={"PATH": os.defpath, "HOME": account.pw_dir},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode == 0:
        return done.stdout, ""
    return done.stdout, done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"


def _machine_files(account: pwd.struct_passwd) -> dict[Path, str]:
    import grp

    values = {
        "USER": account.pw_name, "GROUP": grp.getgrgid(account.pw_gid).gr_name, "UID": str(account.pw_uid),
        "PYTHON": sys.executable, "STATE": str(STATE), "CONFIG": str(CONFIG),
        "SOCKET": str(sockets.SYSTEM_SOCKET),
    }  # fmt: skip
    drop_in = SYSTEM_UNITS / f"user@{account.pw_uid}.service.d/trainforge.conf"
    return {
        SYSTEM_UNITS / UNIT: rendered(f"system/{UNIT}", values),
        SYSTEM_UNITS / SOCKET: rendered(f"system/{SOCKET}", values),
        drop_in: rendered("system/user@.conf", values),
    }
