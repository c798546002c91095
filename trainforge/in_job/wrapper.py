"""What `python -m trainforge.rank` does; `trainforge.rank` says what it promises.

Part of the in-job half: standard library only, Python ≥ 3.9. Few imports: each one delays every rank,
and a module loaded here can no longer be replaced by one of the script's own.
"""

from __future__ import annotations

import atexit
import faulthandler
import importlib.machinery
import io
import os
import signal
import socket
import struct
import sys

from trainforge import protocol
from trainforge.in_job import keeper, records
from trainforge.in_job.endings import Ending

TYPE_CHECKING = False  # `typing` would cost every start 10 ms and is for checkers alone
if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any

_CONNECT_TIMEOUT = 10.0  # seconds


def main(arguments: list[str]) -> None:
    """Run the script named by the first argument. Returns, raises and exits as the script does."""
    if not arguments:
        sys.exit("usage: python -m trainforge.rank SCRIPT ARGS…")
    parent = os.getppid()
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
    keeper.die_with_parent(parent)
    if records.world_size() > 1:
        keeper.stand_between()
    if _orphaned(parent, _register()):
        os.kill(os.getpid(), signal.SIGKILL)
    _run(*arguments)


def _register() -> int:
    """Tell the shim who we are. Answers its pid; 0 where there is none, or none in sight."""
    name = os.environ.get(protocol.RANK_SOCKET)
    if not name:
        return 0
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(_CONNECT_TIMEOUT)
    try:
        line.connect("\0" + name)
        line.sendall(f'{{"rank": {records.rank()}, "pid": {os.getpid()}}}\n'.encode())
    except OSError as error:
        records.say(f"cannot register with the shim: {error}")
        line.close()
        return 0
    os.register_at_fork(after_in_child=line.close)  # also keeps it open for as long as this process lives
    pid: int = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid


def _orphaned(parent: int, shim: int) -> bool:
    """True when `parent`, seen at our start, is not who started us: the shim adopts orphans, else init does.

    A launcher stands between us and the shim exactly when there are several ranks. A shim in another
    pid namespace shows as 0, and nothing can be said.
    """
    if shim == 0:
        return False
    return parent == shim if records.world_size() > 1 else parent == 1 != shim


def _run(script: str, *arguments: str) -> None:
    ending = Ending()
    hidden = _codes_above()
    try:
        source = _source(script)
        sys.argv[:] = [script, *arguments]
        path = os.path.join(os.getcwd(), script)  # as Python does: made absolute, not tidied
        namespace = _become_main(path)
        if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
            sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
        atexit.register(ending.succeeded)
        exec(compile(source, path, "exec", dont_inherit=True), namespace)
    except BaseException as error:
        ending.failed(error, _shown(error.__traceback__, hidden))
        _hide(hidden)
        raise


def _source(script: str) -> bytes:
    """The script's bytes, or the end that `python SCRIPT` comes to."""
    path = os.path.abspath(script)
    try:
        with io.open_code(path) as file:
            return file.read()
    except OSError as error:
        found = f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}"
        sys.stderr.write(f"{sys.executable}: {found}\n")
        raise SystemExit(2) from error


def _become_main(path: str) -> dict[str, Any]:
    """Make the interpreter's own `__main__` what it is for `python path`, and return its namespace."""
    namespace = sys.modules["__main__"].__dict__
    builtins = namespace["__builtins__"]
    namespace.clear()
    namespace.update(
        __name__="__main__",
        __doc__=None,
        __package__=None,
        __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        __spec__=None,
        __builtins__=builtins,
        __file__=path,
    )
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
        namespace["__cached__"] = None
    return namespace


# ---------------------------------------------------------------- tracebacks without our frames


def _codes_above() -> frozenset[CodeType]:
    """The code of every function that is active now: ours, and the interpreter's for `-m`."""
    codes = set()
    frame = sys._getframe(1)
    while frame is not None:
        codes.add(frame.f_code)
        frame = frame.f_back  # type: ignore[assignment]  # None above the first
    return frozenset(codes)


def _shown(trace: TracebackType | None, hidden: frozenset[CodeType]) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code in hidden:
        trace = trace.tb_next
    return trace


def _hide(hidden: frozenset[CodeType]) -> None:
    """Let the hook that prints the traceback, the script's own too, see only the script's frames."""
    hook = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        error.__traceback__ = trace = _shown(trace, hidden)
        hook(kind, error, trace)

    sys.excepthook = show
