"""The daemon as a service of systemd: installed, removed, started and found out about.

For the machine (as root, run as the user it is installed for) or for one user, whose service manager
outlives their sessions (`loginctl enable-linger`). Everything is safe to do again. Files are written
from the templates in `systemd/`, with what is in @ signs filled in.
"""

from __future__ import annotations

import os
import pwd
import site
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tfctl
from tfctl.failures import NOT_ALLOWED, Failure
from trainforge.client import home, sockets

UNIT, SOCKET = "trainforged.service", "trainforged.socket"
SYSTEM_UNITS = Path("/etc/systemd/system")
PACKAGED_UNITS = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
CONFIG = Path("/etc/trainforge")
STATE = Path("/var/lib/trainforge")
LINGERING = Path("/var/lib/systemd/linger")
PATIENCE = 15.0  # seconds for a manager to come up
SETTINGS = "# Settings, all with defaults: docs/operations.md. After a change: systemctl reload trainforged\n"


class Manager(NamedTuple):
    """systemd for the machine, or that of a user (the one who runs this)."""

    user: bool

    def control(self, *words: str, check: bool = True) -> str:
        """`systemctl …`; its output. Raises `Failure` with what it said."""
        return _run(["systemctl", *(["--user"] if self.user else []), *words], check)

    @property
    def units(self) -> Path:
        """Where the administrator's, or the user's, own units lie."""
        return _config_home() / "systemd/user" if self.user else SYSTEM_UNITS

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


# ---------------------------------------------------------------- for the machine


def install_for_machine(user: str | None) -> Iterator[str]:
    """Yields what was done, in sentences. Raises `Failure`."""
    _require_systemd()
    if os.geteuid() != 0:
        alone = "or, for you alone: tfctl daemon install --user"
        raise Failure(f"this needs root: sudo {_program()} daemon install; {alone}", NOT_ALLOWED)
    account = _account(user or os.environ.get("SUDO_USER"), named=user is not None)
    if account.pw_uid == 0:
        print("warning: jobs will run as root, and whoever may submit one is root", file=sys.stderr)
    _check_unfinished(account)
    _check_can_start(account)
    changed = _write(_machine_files(account))
    config = CONFIG / "trainforged.yaml"
    if not config.exists():
        changed += _write({config: SETTINGS})
    yield from (f"wrote {path}" for path in changed)
    if not lingers(account.pw_name):
        _run(["loginctl", "enable-linger", account.pw_name])
        yield f"enabled lingering of {account.pw_name}: attempts are units of that user's service manager"
    SYSTEM.control("daemon-reload")
    SYSTEM.control("enable", "--quiet", SOCKET, UNIT)
    _start(SYSTEM, bool(changed))
    yield f"trainforged runs as {account.pw_name}, now and after each boot; state in {STATE}"
    yield f"to undo it: sudo {_program()} daemon uninstall"


def remove_from_machine() -> Iterator[str]:
    """As `install_for_machine`."""
    _require_systemd()
    if os.geteuid() != 0:
        raise Failure(f"this needs root: sudo {_program()} daemon uninstall", NOT_ALLOWED)
    drop_ins = sorted(SYSTEM_UNITS.glob("user@*.service.d/trainforge.conf"))
    files = [path for path in (SYSTEM_UNITS / UNIT, SYSTEM_UNITS / SOCKET, *drop_ins) if path.exists()]
    settings = CONFIG / "trainforged.yaml"
    if settings.exists() and settings.read_text() == SETTINGS:
        files.append(settings)
    owner = _owner(STATE)
    unfinished = owner is not None and _unfinished(STATE, owner)
    again = f"sudo {_program()} daemon install"
    yield from _remove(SYSTEM, files, (SOCKET, UNIT), STATE, again if unfinished else "")
    if drop_ins:
        yield "lingering stays as it is; to end it: sudo loginctl disable-linger USER"


def _account(name: str | None, named: bool) -> pwd.struct_passwd:
    """Whom the daemon is to run as; root only where that was asked for by name."""
    if name is None or (name == "root" and not named):
        risk = "(--as root is possible; then whoever may submit a job is root)"
        raise Failure(f"as whom are jobs to run? {_program()} daemon install --as USER {risk}")
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


# ---------------------------------------------------------------- for one user


def install_for_user() -> Iterator[str]:
    """Yields what was done, in sentences. Raises `Failure`."""
    _require_systemd()
    if os.geteuid() == 0 and os.environ.get("SUDO_USER", "root") != "root":
        raise Failure("--user installs it for who runs this: leave sudo away")
    if installed() is SYSTEM:
        raise Failure("a daemon is installed for the machine already: tfctl doctor", 1)
    me = pwd.getpwuid(os.getuid()).pw_name
    lingering = lingers(me) or _try_to_linger(me)
    _await_manager()
    values = {
        "PYTHON": sys.executable, "STATE": str(home.state_dir()), "CONFIG_HOME": str(_config_home()),
    }  # fmt: skip
    changed = _write({USER.units / UNIT: rendered(f"user/{UNIT}", values)})
    yield from (f"wrote {path}" for path in changed)
    USER.control("daemon-reload")
    USER.control("enable", "--quiet", UNIT)
    _stop_other()
    _start(USER, bool(changed))
    yield f"trainforged runs for {me}; state in {home.state_dir()}"
    yield "to undo it: tfctl daemon uninstall --user"
    if not lingering:
        raise Failure(
            "but it ends with your last session and does not start at boot, for lingering is off "
            f"and not yours to enable: sudo loginctl enable-linger {me}", NOT_ALLOWED
        )  # fmt: skip
    yield "lingering is on: it starts at boot, and goes on after logout"


def remove_from_user() -> Iterator[str]:
    """As `install_for_user`."""
    _require_systemd()
    files = [path for path in (USER.units / UNIT,) if path.exists()]
    again = "tfctl daemon start" if home.has_unfinished_jobs(home.state_dir()) else ""
    yield from _remove(USER, files, (UNIT,), home.state_dir(), again)
    if files:
        me = pwd.getpwuid(os.getuid()).pw_name
        yield f"lingering stays as it is; to end it: loginctl disable-linger {me}"


def _try_to_linger(user: str) -> bool:
    _run(["loginctl", "--no-ask-password", "enable-linger"], check=False)
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


# ---------------------------------------------------------------- both


def rendered(template: str, values: Mapping[str, str]) -> str:
    """The file `systemd/<template>` with the values in place of the @NAMES@."""
    text = _template(template).read_text()
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        text = text.replace(f"@{name}@", escaped)
    return text


def _template(name: str) -> Path:
    """In a checkout where it is worked on, else installed as data."""
    import sysconfig

    data = Path(sysconfig.get_path("data"))
    places = (
        Path(tfctl.__file__).parent.parent / "systemd",
        data / "share/trainforge/systemd",
        Path(site.getuserbase()) / "share/trainforge/systemd",
    )
    for folder in places:
        if (folder / name).exists():
            return folder / name
    raise Failure(f"the unit {name} is not part of this installation ({data})", 1)


def _write(files: Mapping[Path, str]) -> list[Path]:
    """Write what differs; which files that were."""
    changed = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(files[path])
        aside.chmod(0o644)
        aside.replace(path)
    return changed


def _start(manager: Manager, changed: bool) -> None:
    """Have it run, as its unit says now. Raises `Failure` with the end of its log."""
    names = (UNIT,) if manager.user else (SOCKET, UNIT)
    active = manager.shown("ActiveState").get("ActiveState") == "active"
    try:
        manager.control("restart" if active and changed else "start", *(names[-1:] if active else names))
    except Failure as failure:
        flag = ["--user"] if manager.user else []
        log = _run(["journalctl", *flag, "-u", UNIT, "-n", "5", "-o", "cat", "--no-pager"], check=False)
        raise Failure(f"it is installed, but does not start: {failure}\n{log.strip()}", 1) from None


def _remove(
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


def _require_systemd() -> None:
    if not runs():
        raise Failure("systemd does not run here; have whatever starts services here start trainforged "
                      "(docs/operations.md), or let tfctl submit start it", 1)  # fmt: skip


def _run(line: list[str], check: bool = True) -> str:
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


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()


def _program() -> str:
    """This program, for sudo: its PATH has no virtual environment."""
    script = Path(sys.executable).parent / "tfctl"
    return str(script) if script.exists() else f"{sys.executable} -m tfctl"
