"""The thread of the event loop is to run soon after it is woken, also on a full machine.

The kernel's scheduler (EEVDF, from Linux 6.12 on) lets whoever runs finish a turn, 1.4 ms on two cores,
whatever its priority; only who asks for shorter turns may come before its end. To ask takes no privilege and
gives no more of the machine. Threads and processes that the daemon starts do not inherit it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

TURN = 100_000  # nanoseconds, the shortest that the kernel grants

_RESET_ON_FORK = 1
_CALLS = {"x86_64": 314, "aarch64": 274}  # sched_setattr; glibc has no name for it
# size, policy, flags, nice, priority, runtime (of a fair thread: its turn), deadline, period
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def take_short_turns() -> bool:
    """Of this thread, from now on. False where it cannot be, or where somebody has arranged otherwise: a
    real-time or batch policy, or a priority above the ordinary, which what is started is to inherit."""
    number = _CALLS.get(platform.machine())
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, TURN, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, wanted, 0) == 0)
