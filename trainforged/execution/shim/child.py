"""Starting the attempt's command: in a session of its own, clean, and never outliving the shim."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import sys

from trainforged.execution import durable
from trainforged.execution.shim.lean import compose, parse, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
UMASK = 0o022  # the daemon's own is narrower
JOBS_SHARE = 0.75  # of the processes that the user may have, all jobs together

_libc = ctypes.CDLL(None, use_errno=True)


class Refusal(Exception):
    """The command cannot be started. `hopeless`: nor could it be the next time."""

    def __init__(self, sentence: str, hopeless: bool) -> None:
        super().__init__(sentence)
        self.hopeless = hopeless


def become_subreaper() -> None:
    """From now on every orphan among our descendants becomes our child."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def stay_on(cores: Sequence[int]) -> None:
    """We, and with us everything that we start, run on these cores alone; empty: wherever we may. A choice
    that cannot be had (cores that are gone) is none: it makes things faster, and nothing depends on it."""
    try:
        if cores:
            os.sched_setaffinity(0, cores)
    except OSError as error:
        print(f"the cores {cores} cannot be kept to: {error.strerror}", file=sys.stderr)


def start(
    argv: list[str], env: Mapping[str, str], cwd: str, output: int, fork: Callable[[], int] = os.fork
) -> tuple[int, int]:
    """Fork the command. Returns its pid, and a descriptor to hand to `refusal` once it is readable."""
    report, reporter = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    shim = os.getpid()
    pid = fork()
    if pid == 0:
        _become(argv, env, cwd, output, reporter, shim)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(reporter)
    return pid, report


def refusal(report: int, argv: list[str], cwd: str) -> Refusal | None:
    """Why the command did not start; None if it did. Closes the descriptor."""
    said = os.read(report, 4096)
    os.close(report)
    if not said:
        return None
    step, number, text = parse(said)
    hopeless = number in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.E2BIG, errno.EINVAL)
    return Refusal(_sentence(step, number, text, argv[0], cwd), hopeless)


def _sentence(step: str, number: int, text: str, name: str, cwd: str) -> str:
    if step == "chdir":
        return f"the working directory {cwd} cannot be entered: {text}"
    if number == errno.ENOENT and "/" not in name:
        return f"{name}: command not found in the job's PATH"
    if number == errno.ENOENT:
        return f"{name}: no such file (seen from {cwd}), or its first line names a missing interpreter"
    if number == errno.EACCES:
        return f"{name}: not allowed to execute it (chmod +x?)"
    return f"{name} cannot be started: {text}"


def _become(
    argv: list[str], env: Mapping[str, str], cwd: str, output: int, reporter: int, shim: int
) -> NoReturn:
    step = "start"
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim:  # it died before the line above
            os._exit(127)
        _be_ordinary(output)
        step = "chdir"
        os.chdir(cwd)
        step = "exec"
        _default_signals()
        _exec(argv, env)
    except OSError as error:
        _report(reporter, step, error.errno or 0, error.strerror or str(error))
    except ValueError as error:  # a NUL in an argument, a "=" in a variable's name
        _report(reporter, step, errno.EINVAL, str(error))
    finally:
        os._exit(127)


def _be_ordinary(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.umask(UMASK)
    _leave_processes()
    _offer_to_oom_killer()


def _leave_processes() -> None:
    """A job that forks without end leaves a part of what its user may have in processes: with that the daemon
    goes on, and somebody can sign in to end it."""
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if most != resource.RLIM_INFINITY:
        share = int(most * JOBS_SHARE)
        resource.setrlimit(resource.RLIMIT_NPROC, (share, share))


def _offer_to_oom_killer() -> None:
    """A daemon that the system protects must not pass the protection on to what it starts."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    try:
        if os.read(fd, 16).startswith(b"-"):
            os.pwrite(fd, b"0", 0)
    finally:
        os.close(fd)


def _default_signals() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _exec(argv: list[str], env: Mapping[str, str]) -> NoReturn:
    """As a shell would: along PATH, and a text file without a first line `#!` by sh. Raises OSError."""
    name = argv[0]
    folders = [""] if "/" in name else env.get("PATH", os.defpath).split(":")
    refused: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in folders:
        path = os.path.join(folder, name)
        try:
            os.execve(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                os.execve("/bin/sh", ["sh", path, *argv[1:]], env)
            refused = error
    raise refused


def _report(fd: int, step: str, number: int, text: str) -> None:
    durable.write_all(fd, compose([step, number, text]).encode())


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
