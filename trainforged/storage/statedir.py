"""The state folder: where it may lie, and that one daemon at a time uses it.

`refuse_network_file_system` and `lock_state_dir` are called before anything in it is opened.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path
from types import TracebackType

from trainforge import locks
from trainforged.storage.errors import StateDirBusy, StateDirRefused, translated

LOCK_FILE = "lock"
LONGEST_MOMENT = 1.0  # seconds

# SQLite's shared memory, flock and fsync do not keep their promises on these.
NETWORK_TYPES = frozenset(
    {
        "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
        "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs",
        "vboxsf", "vmhgfs", "wekafs",
    }
)  # fmt: skip
NETWORK_FUSE = re.compile(
    r"fuse\.(sshfs|s3fs|s3ql|rclone|gcsfuse|blobfuse2?|goofys|juicefs|davfs2?|glusterfs|ceph(-fuse)?|mfs"
    r"|seaweedfs|weed|lizardfs|curlftpfs|smbnetfs|gvfsd-fuse|vmhgfs-fuse|mount-s3|nfs|encfs-ssh)"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def refuse_network_file_system(path: Path) -> None:
    """Raises `StateDirRefused` if `path`, which need not exist yet, lies on a network file system."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    kind = file_system_type(place.resolve(), mountinfo)
    if kind is not None and is_network(kind):
        raise StateDirRefused(
            f"the state folder {path} lies on a network file system ({kind}), where accepted jobs could be "
            "lost; choose a folder on a local disk with --state-dir"
        )


def is_network(kind: str) -> bool:
    """True for the type of a file system that other machines may write to."""
    return kind in NETWORK_TYPES or NETWORK_FUSE.fullmatch(kind) is not None


def file_system_type(path: Path, mountinfo: str) -> str | None:
    """The type of the file system that holds `path` (absolute, without links).

    Of mounts on the same place the last one hides the others; see proc_pid_mountinfo(5).
    """
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda m: chr(int(m[1], 8)), before.split(" ")[4]))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), after.split(" ")[0]
    return best[1] if best is not None else None


class StateDirLock:
    """The hold on a state folder. It ends with `release`, or with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> StateDirLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def stuck(pid: int) -> str | None:
    """What keeps the process from hearing anything, and what to do; None where the kernel does not hold it.
    A disk that answers holds a thread for moments: looked at for `LONGEST_MOMENT`."""
    limit = time.monotonic() + LONGEST_MOMENT
    held = _held_by_the_kernel(pid)
    while held and time.monotonic() < limit:
        time.sleep(LONGEST_MOMENT / 20)
        held &= _held_by_the_kernel(pid)
    if not held:
        return None
    if any(killed for _, killed in held):
        return (
            "it was killed, and the kernel keeps it (state D) until a disk answers, which dmesg may name, or "
            "the machine is restarted; jobs go on, and the next daemon finds them"
        )
    return (
        "it hangs in the kernel (state D), as on a disk that does not answer, which dmesg may name; bring "
        f"that back, or end it with `kill -9 {pid}`: jobs go on, and nothing accepted is lost"
    )


def _held_by_the_kernel(pid: int) -> set[tuple[str, bool]]:
    """Its threads in state D, and whether SIGKILL waits for them."""
    found = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/status").read_text(errors="replace")
            told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
            if told["State"].split()[0] == "D":
                found.add((thread, bool(int(told["SigPnd"], 16) & 1 << (signal.SIGKILL - 1))))
    return found


def lock_state_dir(path: Path) -> StateDirLock:
    """Hold the existing folder `path` for this process. Raises `StateDirBusy` if another has it.

    The descriptor is not inherited by programs that this process starts. One that was being started when its
    daemon was killed has it for a moment longer: the lock of a dead daemon is waited for.
    """
    file = path / LOCK_FILE
    with translated(file):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            taken = locks.take(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if not taken:
            pid = locks.holder(descriptor)
            os.close(descriptor)
            who = f" (process {pid})" if pid is not None else ""
            hangs = stuck(pid) if pid is not None else None
            more = f"; {hangs}" if hangs is not None else ""
            raise StateDirBusy(f"another daemon{who} uses the state folder {path}{more}", pid)
    return StateDirLock(descriptor)
