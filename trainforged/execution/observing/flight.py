"""torch's flight recorder: the collectives that each rank of NCCL has begun and ended, last.

A rank writes its own to `flight-<r>` in the attempt's folder once something is written to `flight-<r>.pipe`,
which torch makes and reads on a thread of its own (ProcessGroupNCCL), also while a collective hangs.
`torchfrtrace` reads them. Where there is no such pipe (gloo, an older torch, names that the job chose itself)
there is none.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

PREFIX = "flight-"
SIZE = "2000"  # collectives that a rank remembers
PATIENCE = 10.0  # seconds for ranks to write; torch looks at its pipe about once a second
INTERVAL = 0.1

Written = tuple[int, int]


def variables(attempt_dir: str) -> dict[str, str]:
    """What a rank's environment says of it."""
    prefix = f"{attempt_dir}/{PREFIX}"
    return {
        "TORCH_FR_BUFFER_SIZE": SIZE,
        "TORCH_FR_DUMP_TEMP_FILE": prefix,
        "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": prefix,
    }


def record(folder: Path, patience: float = PATIENCE) -> list[Path]:
    """Have all ranks write theirs; what they wrote. Blocks, no longer than `patience` seconds."""
    pipes = sorted(folder.glob(f"{PREFIX}*.pipe"))
    before = {pipe.with_suffix(""): _written(pipe.with_suffix("")) for pipe in pipes}
    wanted = [pipe.with_suffix("") for pipe in pipes if _ask(pipe)]
    limit = time.monotonic() + patience
    now: dict[Path, Written | None] = {}
    while wanted and time.monotonic() < limit:
        last, now = now, {path: _written(path) for path in wanted}
        if now == last and all(now[path] != before[path] for path in wanted):
            break  # all have written, and write no more
        time.sleep(INTERVAL)
    return [path for path in wanted if now[path] != before[path]]


def _ask(pipe: Path) -> bool:
    """False where nobody reads it."""
    try:
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode) and os.write(descriptor, b"1\n") > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _written(path: Path) -> Written | None:
    """Size and time of its last change; None while there is nothing in it."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if found.st_size else None
