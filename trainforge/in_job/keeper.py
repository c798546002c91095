"""Ties a rank's life to its parent's, and keeps signals meant for a rank away from its children.

`torch.distributed.run` stops a rank by sending SIGTERM to the rank's whole process group: that ends
its data-loader workers before it has saved (they install handlers of their own, so nothing that is
set up in the rank helps). A rank under a launcher therefore runs in a session of its own, below a
keeper that the launcher knows as its worker: the keeper passes signals on to the rank alone, and ends
as the rank ended.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PASSED_ON = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)


def die_with_parent(parent: int) -> None:
    """From now on the kernel kills this process when `parent` dies; if it has died already, now.

    Without ctypes (some builds of Python lack it) only what has already happened is seen.
    """
    try:
        import ctypes
    except ImportError:
        pass
    else:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def stand_between() -> None:
    """Fork. Only the child returns, in its own session; it and the keeper die with their parents.

    The child is left as an unreaped zombie for whoever stands above the keeper (a subreaper), who
    then sees how the rank itself ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would keep us from waiting
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_PASSED_ON, signal.SIGCHLD})
    keeper = os.getpid()
    child = os.fork()
    if child:
        _keep(child)
    os.setsid()
    die_with_parent(keeper)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _keep(child: int) -> NoReturn:
    """Pass on signals until the child has ended. They are all blocked here, so none is missed."""
    while True:
        number = signal.sigwait({*_PASSED_ON, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if end is not None:
            _end_like(end)


def _end_like(end: Any) -> NoReturn:
    """End with the status of the child: its exit code, or the signal that killed it."""
    if end.si_code == os.CLD_EXITED:
        os._exit(end.si_status)
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the rank has left a core already, if any
    if end.si_status not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(end.si_status, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {end.si_status})
    os.kill(os.getpid(), end.si_status)
    os._exit(128 + end.si_status)
