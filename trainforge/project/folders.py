"""Which folders of a project are not its own work: version control, caches, environments.

They are rebuilt from the rest, so they are not frozen unless a pattern names them. Nothing here
follows a symbolic link.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator


class ProjectError(Exception):
    """A project cannot be read as it is or as it asks to be; the message says why."""


VERSION_CONTROL = frozenset({".git", ".hg", ".svn"})
CACHES = frozenset(
    {
        "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".pytype", ".tox",
        ".nox", ".ipynb_checkpoints", ".eggs", ".venv", "venv", "node_modules",
    }
)  # fmt: skip
SET_APART = VERSION_CONTROL | CACHES
COMPILED = (".pyc", ".pyo")
ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")  # a folder that holds one is an environment


def is_disposable(name: str) -> bool:
    """True for the name of a cache, of version control's own folder, or of compiled code."""
    return name in SET_APART or name.endswith(COMPILED)


def is_environment(folder: str) -> bool:
    return any(os.path.lexists(f"{folder}/{mark}") for mark in ENVIRONMENT_MARKS)


def children(folder: str, *, top: bool = False) -> list[os.DirEntry[str]]:
    """What of a folder is worth freezing: nothing of an environment, unless it is the `top` itself."""
    with os.scandir(folder) as scan:
        entries = list(scan)
    if not top and any(entry.name in ENVIRONMENT_MARKS for entry in entries):
        return []
    return [entry for entry in entries if not is_disposable(entry.name)]


def walk(root: str, below: str = "", *, drop: Callable[[str], bool] = lambda _: False) -> Iterator[str]:
    """Paths, relative to `root`, of everything below a folder that is no folder itself.

    What `drop` says of a path (a folder's ends with `/`) is neither given nor entered. Raises OSError
    for a folder that cannot be read.
    """
    folders = [below]
    while folders:
        folder = folders.pop()
        prefix = f"{folder}/" if folder else ""
        for entry in children(f"{root}/{folder}", top=folder == below):
            path = prefix + entry.name
            if not entry.is_dir(follow_symlinks=False):
                if not drop(path):
                    yield path
            elif not drop(path + "/"):
                folders.append(path)
