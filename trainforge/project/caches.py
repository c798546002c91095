"""Small JSON files in the user's cache folder, which may be lost at any time and never hold truth.

Whatever is wrong with the folder or a file in it, the cache is just empty.
"""

from __future__ import annotations

import contextlib
import os
from typing import TypeVar

import msgspec

T = TypeVar("T")


def cache_folder() -> str:
    """`$XDG_CACHE_HOME/trainforge`; a relative value is ignored, as its specification says."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "trainforge")


def load(kind: str, key: str, form: type[T]) -> T | None:
    """What was stored, if it is there and of the right form."""
    try:
        with open(_path(kind, key), "rb") as file:
            return msgspec.json.decode(file.read(), type=form)
    except (OSError, msgspec.DecodeError):
        return None


def store(kind: str, key: str, value: object) -> None:
    """Replace it whole, or leave it as it was."""
    path = _path(kind, key)
    partial = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(msgspec.json.encode(value))
            os.replace(partial, path)
        except OSError:
            os.unlink(partial)


def _path(kind: str, key: str) -> str:
    return f"{cache_folder()}/{kind}/{key}.json"
