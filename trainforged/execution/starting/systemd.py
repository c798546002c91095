"""Attempts in units of their own: the user's service manager starts the shim, bounds what the attempt may
use, and ends it in order when the machine goes down.

A transient service, not a scope: it begins clean of what the daemon's own unit is confined to, and a stop
of the unit is SIGTERM to the shim alone, KILL to everything only after the job's grace. Only where the user
lingers: elsewhere the manager ends with the user's last session, and would take the attempts with it.

No polkit is needed, for the manager is the user's own; so the limits are those that the machine's manager
has delegated to it (`Delegate=` of user@.service): memory, as a rule CPU time, seldom the choice of cores.
"""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

LINGERING = Path("/var/lib/systemd/linger")
PATIENCE = 10.0  # seconds for the manager's answer
MARGIN = 60.0  # seconds that a stop may take beyond the grace: the shim's own killing, and a slow disk

# The shim's third descriptor says that the command runs. `<>` does not wait for a reader: the daemon may die.
WITH_READINESS = 'exec "$@" 3<>"$0"'


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempt may use, and how long its end may take. Zero: no limit."""

    name: str
    description: str
    cpu: int = 0  # cores
    near: tuple[int, ...] = ()  # the cores that it may run on; empty: all
    memory: int = 0  # bytes
    processes: int = 0  # and threads
    grace: float = 60.0
    devices: tuple[str, ...] = ()  # what it may open, as `DeviceAllow=` has it; empty: all that its user may


class NotContained(Exception):
    """The manager does not start the unit; the text says why. Start the attempt without one."""


def manager() -> Manager | None:
    """This user's service manager, where one runs that outlives the user's sessions."""
    uid = os.getuid()
    runtime = Path(f"/run/user/{uid}")
    program = shutil.which("systemd-run")
    if program is None or not (runtime / "systemd/private").exists() or not _lingers(uid):
        return None
    return Manager(program, runtime)


def _lingers(uid: int) -> bool:
    try:
        return (LINGERING / pwd.getpwuid(uid).pw_name).exists()
    except KeyError:
        return False


class Manager:
    """`runtime`: the user's runtime folder, where the manager listens."""

    def __init__(self, program: str, runtime: Path) -> None:
        self._program = program
        self._runtime = runtime

    def start(
        self, unit: Unit, argv: Sequence[str], env: Mapping[str, str], *, log: Path, readiness: Path
    ) -> None:
        """Start `argv` as a service. Blocks until it runs; raises `NotContained`.

        Its third descriptor is the FIFO `readiness`, its output goes to the end of `log`.
        """
        command = ("/bin/sh", "-c", WITH_READINESS, str(readiness), *argv)
        properties = [*_properties(unit), f"StandardOutput=append:{log}", f"StandardError=append:{log}"]
        line = [
            *(self._program, "--user", "--quiet", "--collect", "--no-ask-password"),
            *(f"--unit={unit.name}", f"--description={unit.description}"),
            *(f"--property={text}" for text in properties),
            *(f"--setenv={name}={value}" for name, value in env.items()),
            "--",
            *(word.replace("$", "$$") for word in command),  # the manager would put variables in
        ]
        try:
            done = subprocess.run(
                line, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=PATIENCE, env={"PATH": os.defpath, "XDG_RUNTIME_DIR": str(self._runtime)},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotContained(f"no answer within {PATIENCE:.0f} s") from None
        except OSError as error:
            raise NotContained(str(error)) from error
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise NotContained(said[-1] if said else f"systemd-run ended with {done.returncode}")


def unit_of(
    token: str,
    job: int,
    attempt: int,
    *,
    cpu: int,
    memory: int,
    grace: float,
    processes: int = 0,
    devices: tuple[str, ...] = (),
    near: tuple[int, ...] = (),
) -> Unit:
    """The unit of the attempt with this mark: `trainforge-<job>-<attempt>-….service`."""
    name, description = f"trainforge-{token}.service", f"TrainForge: job {job}, attempt {attempt}"
    limits = {"cpu": cpu, "memory": memory, "processes": processes}
    return Unit(name=name, description=description, **limits, grace=grace, devices=devices, near=near)


def _properties(unit: Unit) -> Iterator[str]:
    yield "Type=exec"
    yield "KillMode=mixed"  # data-loader workers must not get TERM before their rank has saved
    yield f"TimeoutStopSec={math.ceil(unit.grace + MARGIN)}"
    yield "OOMPolicy=continue"  # else a rank that the kernel kills looks like a stop from outside
    yield "Before=trainforged.service"  # at shutdown the daemon goes first, and starts nothing more
    yield f"TasksMax={unit.processes or 'infinity'}"
    yield "StandardInput=null"
    if unit.memory > 0:
        yield f"MemoryMax={unit.memory}"
    if unit.cpu > 0:
        yield f"CPUQuota={unit.cpu * 100}%"
    if unit.near:
        yield f"AllowedCPUs={','.join(map(str, unit.near))}"
    if unit.devices:
        yield "DevicePolicy=closed"
        yield from (f"DeviceAllow={device}" for device in unit.devices)


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[int]:
    """A descriptor that becomes readable when who has `path` open for writing closes it, or ends.

    It is the caller's to close, unless the block raises.
    """
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
