"""The life of one attempt, from the lock to the exit status.

Files in the attempt's folder: reads `launch.json` (the order) and `stop.json` (the grace of a stop);
writes `shim.json` (who we are; durable before the command starts), the logs, and `exit.json` (how
it ended; durable). SIGTERM is the order to stop with grace, SIGUSR1 to kill now.
"""

from __future__ import annotations

import os
import select
import sys
import time

from trainforged.execution import durable, processes
from trainforged.execution.shim import child, course, group, lean, locks
from trainforged.execution.shim.killing import Killing, descendants
from trainforged.execution.shim.lean import signal
from trainforged.execution.shim.output import Output
from trainforged.execution.shim.ranks import Ranks, exit_fields, rank_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READY_FD = 3  # closed once the command runs, or with us
OF_ITSELF = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS)  # no rank ends by these for having lost another
STATUS_ROOM = 1 << 15  # bytes kept for exit.json from the start on


def main(folder: str) -> None:
    """Run the attempt in `folder`; leave at once if it was run before, or another shim has it."""
    _leave_daemon()
    lock = locks.lock_attempt(folder)
    if lock is None or any(os.path.exists(f"{folder}/{name}.json") for name in ("exit", "shim")):
        return
    shim = Shim(folder)
    try:
        shim.start()
    except (child.Refusal, locks.GpuHeld, OSError, ValueError, KeyError) as error:
        shim.refuse(error)
    else:
        shim.serve()
    shim.tidy()


def _leave_daemon() -> None:
    """Nothing of the daemon's stays with us but the standard streams and the readiness pipe."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        if int(name) > READY_FD:
            _close(int(name))
    os.set_inheritable(READY_FD, False)


class Shim:
    """`start`, then `serve`; `refuse` where `start` raised."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._boot_id = processes.boot_id()
        self._oom_kills = processes.oom_kills()
        self._room = durable.Room(f"{folder}/exit.json", STATUS_ROOM)
        self._course = course.Course()
        self._group: group.Group | None = None  # that the command is in, and we are not
        self._killing = Killing()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._started_at: float | None = None
        self._began = 0.0  # the same moment on the clock that nobody sets
        self._main: int | None = None  # pid of the main process
        self._status: int | None = None  # its wait status
        self._ends: list[dict[str, Any]] = []  # of the ranks, in order
        self._ranks: Ranks | None = None  # where there are several
        self._report: int | None = None  # descriptor on which the child says why it cannot start
        self._refusal: child.Refusal | None = None
        self._cut_short = False  # the main process or a rank had to be killed

    # ---- the beginning

    def start(self) -> None:
        """Up to the fork."""
        self._order = lean.parse(_content(f"{self._folder}/launch.json"))
        self._announce()
        if (path := self._order.get("group")) is not None:
            self._group = group.Group(path)
            self._killing = Killing(self._group)
        self._locks = locks.lock_gpus(self._order["gpus"], self._order["lock_prefix"])
        child.become_subreaper()
        child.stay_on(self._order.get("cores", ()))
        self._receive_signals()
        ranks = self._order["ranks"]
        self._output = Output(self._folder, ranks, self._order["output_limit"])
        for source in self._output.sources:
            self._watch(source.fd, source.pump)
        if ranks > 1:
            self._ranks = Ranks(self._folder, ranks, self._watch, self._rank_ended)
            self._ends = self._ranks.ends
        argv, cwd = self._order["argv"], self._order["cwd"]
        fork = os.fork if self._group is None else self._group.fork
        self._main, self._report = child.start(argv, self._environment(), cwd, self._output.descriptor, fork)
        self._watch(self._report, self._reported)

    def refuse(self, error: Exception) -> None:
        """Write that the command never ran, and why."""
        hopeless = isinstance(error, child.Refusal) and error.hopeless
        self._write_end({"ended_at": time.time(), "start_error": str(error), "hopeless": hopeless})

    def tidy(self) -> None:
        """After the last word: nothing is in the group any more, or only what the daemon is to see to."""
        if self._group is not None:
            self._group.remove()

    def _announce(self) -> None:
        stat = processes.read_stat(os.getpid())
        assert stat is not None
        who = {"pid": stat.pid, "start_time": stat.start_time, "boot_id": self._boot_id}
        durable.write(f"{self._folder}/shim.json", lean.compose({**who, "time": time.time()}).encode())

    def _environment(self) -> dict[str, str]:
        path = self._order["env_file"]
        env: dict[str, str] = {} if path is None else lean.parse(_content(path))["env"]
        for name in self._order["unset"]:
            env.pop(name, None)
        env.update(self._order["env"])
        if self._ranks is not None:
            env["TRAINFORGE_RANK_SOCKET"] = self._ranks.address
        return env

    def _receive_signals(self) -> None:
        self._signals, writer = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # they were blocked up to here
        self._watch(self._signals, self._signalled)

    def _reported(self) -> None:
        """The command runs, or could not be started."""
        if self._report is None:
            return
        self._watch(self._report, None)
        self._refusal = child.refusal(self._report, self._order["argv"], self._order["cwd"])
        self._report = None
        if self._refusal is None:
            self._started_at = time.time()
            self._began = time.clock_gettime(time.CLOCK_BOOTTIME)
            os.close(READY_FD)

    # ---- the middle

    def serve(self) -> None:
        """Until no process of the attempt is left; then write how it ended."""
        while not self._over():
            for fd, _ in self._poll.poll(self._patience()):
                handler = self._handlers.get(fd)  # an earlier one may have done away with it
                if handler is not None:
                    handler()
            now = time.monotonic()
            self._output.flush(now)
            self._do(self._course.due(now))
            self._killing.go_on(now)
        self._output.finish()
        self._reported()
        if self._refusal is not None:
            self.refuse(self._refusal)
        else:
            self._write_end(self._end())

    def _watch(self, fd: int, handler: Callable[[], object] | None) -> None:
        """Call the handler whenever `fd` is readable; None: no more."""
        if handler is None:
            self._poll.unregister(fd)
            del self._handlers[fd]
        else:
            self._poll.register(fd, select.POLLIN)
            self._handlers[fd] = handler

    def _patience(self) -> float | None:
        """Milliseconds until something is due."""
        moments = (self._course.deadline, self._killing.next_round, self._output.flush_at)
        due = [moment for moment in moments if moment is not None]
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _over(self) -> bool:
        """Reap what can be reaped. True when nothing is left, or nothing that we can end."""
        pid = -1
        while pid != 0:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid:
                self._reaped(pid, status)
        if self._killing.in_vain(time.monotonic()):
            left = sorted(self._killing.undying)
            print(f"processes {left} survive SIGKILL; leaving them to the daemon", file=sys.stderr)
            return True
        return False

    def _reaped(self, pid: int, status: int) -> None:
        if self._ranks is not None:
            self._ranks.reaped(pid, status)
        if pid != self._main:
            return
        self._status = status
        if self._order["ranks"] == 1:
            self._ends.append(rank_end(0, pid, status))
        self._do(self._course.main_ended(time.monotonic(), success=status == 0))

    def _signalled(self) -> None:
        for number in os.read(self._signals, 512):
            if number == signal.SIGTERM:
                self._do(self._course.order(time.monotonic(), self._grace()))
            elif number == signal.SIGUSR1:
                self._do(self._course.order_now())

    def _grace(self) -> float:
        """As the daemon says now; the order may be old."""
        try:
            return float(lean.parse(processes.read_proc(f"{self._folder}/stop.json"))["grace"])
        except (ValueError, KeyError, TypeError):
            return float(self._order["grace"])

    def _rank_ended(self, status: int | None) -> None:
        if status != 0:
            killed = status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) in OF_ITSELF
            self._do(self._course.rank_failed(time.monotonic(), of_itself=killed))
        if self._ranks is not None and self._ranks.over:
            self._do(self._course.ranks_over())

    def _do(self, what: str | None) -> None:
        if what == course.TERM_MAIN and self._main is not None:
            _ask(processes.read_stat(self._main))
        elif what == course.KILL_MAIN and self._main is not None:
            os.kill(self._main, signal.SIGKILL)
        elif what == course.TERM_ALL:
            for stat in descendants():
                _ask(stat)
        elif what == course.KILL:
            ranks_run = self._ranks is not None and self._ranks.running
            self._cut_short = self._status is None or ranks_run
            self._killing.begin()

    # ---- the end

    def _end(self) -> dict[str, Any]:
        """An `AttemptEnd` in its JSON form."""
        if self._ranks is not None:
            self._ranks.look()
        end = {
            "started_at": self._started_at,
            "ended_at": time.time(),
            "stopped": self._course.ordered and not self._cut_short,
            "ranks": self._ends,
            "refused": self._output.refused(),
        }
        if self._started_at is not None:
            end["ran"] = time.clock_gettime(time.CLOCK_BOOTTIME) - self._began
        return {**end, **self._oom(), **self._exit()}

    def _oom(self) -> dict[str, int]:
        """Whom the kernel killed for want of memory: of the attempt, or else somewhere on the machine."""
        counted = self._group or group.own(self._order["token"])
        kills = None if counted is None else counted.oom_kills()
        if kills is not None:
            return {"oom_kills": kills}
        return {"oom_elsewhere": processes.oom_kills() - self._oom_kills}

    def _exit(self) -> dict[str, int]:
        """A launcher says 1 whatever its ranks said: the first that failed speaks for the attempt."""
        failed = [end for end in self._ends if end.get("exit_code") != 0]
        if self._status and failed:
            return {key: failed[0][key] for key in ("exit_code", "signal") if key in failed[0]}
        if self._course.ordered and self._ranks is not None and self._ranks.over:
            return {"exit_code": 0}
        return {} if self._status is None else exit_fields(self._status)

    def _write_end(self, end: dict[str, Any]) -> None:
        text = lean.compose({**end, "boot_id": self._boot_id}).encode()
        try:
            self._room.write(text)
        except OSError:  # the job removed the place, or its folder; the status is known all the same
            path = f"{self._folder}/exit.json"
            os.makedirs(self._folder, exist_ok=True)
            if os.path.isdir(path):
                os.rename(path, f"{path}.{os.getpid()}")
            durable.write(path, text)


def _ask(stat: processes.Stat | None) -> None:
    """TERM; and CONT, without which a stopped process would not hear it."""
    if stat is not None:
        processes.send(stat, signal.SIGTERM)
        processes.send(stat, signal.SIGCONT)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # it was the listing's own
