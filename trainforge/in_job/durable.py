"""Files that are whole or absent, whatever happens to the process or the machine.

Part of the in-job half: standard library only, Python ≥ 3.9.
"""

from __future__ import annotations

import os


def sync_folder(path: str) -> None:
    """Make the names in a folder durable: a rename is on disk only after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: str, data: bytes) -> None:
    """Replace `path` by a file that holds `data`. On an OSError the old one stands as it was."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        remove_quietly(temporary)
        raise
    sync_folder(os.path.dirname(path) or ".")


def remove_quietly(path: str) -> None:
    """Unlink a file where that is possible."""
    try:
        os.unlink(path)
    except OSError:
        return
