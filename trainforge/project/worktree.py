"""What git knows of a folder: its files, its commit, and whether something changed since.

Two git processes run side by side; each repository nested in the folder takes one more. git's index
is only read, never refreshed on disk.
"""

from __future__ import annotations

import os
import stat

import msgspec

from trainforge.project.folders import COMPILED, ENVIRONMENT_MARKS, ProjectError, is_disposable
from trainforge.project.processes import Finished, Process

_LIST = ("ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard")
_STATUS = ("status", "-z", "--porcelain=v2", "--branch", "--untracked-files=no", "--", ".")

_READ = (".gitignore", ".gitattributes")  # by git itself, which would wait for a FIFO for ever
_PATIENCE = 120.0  # seconds for git; a large work tree on a network file system is slow
_LONGEST_WARNING = 400  # characters of one of its: it names paths of any length

# What a hook or an alias that runs us has set for its own repository.
_FOREIGN = frozenset(
    f"GIT_{name}" for name in ("DIR", "WORK_TREE", "INDEX_FILE", "PREFIX", "COMMON_DIR", "OBJECT_DIRECTORY")
)


class GitError(ProjectError):
    """git is there and refuses; the message is git's."""


class NoGit(Exception):
    """There is a `.git`, and no use of it can be made; the message says why."""


class Worktree(msgspec.Struct, frozen=True, kw_only=True):
    """Paths are relative to the folder that was asked for. One may be a folder: a nested repository.

    `untracked` are files that git neither tracks nor ignores. `changed` speaks of tracked files;
    `commit` is None before the first one.
    """

    tracked: list[str]
    untracked: list[str]
    commit: str | None
    changed: bool
    warnings: tuple[str, ...]


def has_git(folder: str) -> bool:
    """Is there a `.git` here or above? Cheaper than to ask git."""
    while True:
        if os.path.lexists(f"{folder}/.git"):
            return True
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent


def read_worktree(folder: str) -> Worktree:
    """Ask git. Raises NoGit or GitError."""
    for name in _READ:
        path = f"{folder}/{name}"
        if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise GitError(f"{name} is not a regular file")
    try:
        listing, status = _start(folder, _LIST), _start(folder, _STATUS)
    except FileNotFoundError:
        raise NoGit("git is not installed, so its ignore rules were not applied") from None
    done = [process.finish(_PATIENCE) for process in (listing, status)]
    listed, stood = map(_check, done)
    tracked, untracked = _parse_listing(listed.output)
    commit, changed = _parse_status(stood.output)
    warnings = tuple(f"git: {line[:_LONGEST_WARNING]}" for line in listed.errors.splitlines())
    return Worktree(
        tracked=tracked, untracked=_worth(untracked), commit=commit, changed=changed, warnings=warnings
    )


def read_nested(folder: str) -> list[str]:
    """Files of a repository inside the project, as git would take them. Raises GitError or NoGit."""
    tracked, untracked = _parse_listing(_check(_start(folder, _LIST).finish(_PATIENCE)).output)
    return tracked + _worth(untracked)


def _start(folder: str, arguments: tuple[str, ...]) -> Process:
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env.update(GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
    return Process(("git", "-C", folder, *arguments), env)


def _check(done: Finished | None) -> Finished:
    if done is None:
        raise GitError(f"git has not answered for {_PATIENCE:g} s")
    if done.code == 0:
        return done
    if "not a git repository" in done.errors:
        raise NoGit("its .git is no repository, so it was taken as a plain folder")
    raise GitError(done.errors.strip() or f"git ended with {done.code}")


def _parse_listing(output: bytes) -> tuple[list[str], list[str]]:
    """(tracked, untracked), without the `/` that ends a nested repository. A file in conflict is
    listed once for each side."""
    tracked: dict[str, None] = {}
    untracked: list[str] = []
    for line in os.fsdecode(output).split("\0"):
        if line.startswith("? "):
            untracked.append(line[2:].rstrip("/"))
        elif line:
            tracked[line[2:]] = None
    return list(tracked), untracked


def _parse_status(output: bytes) -> tuple[str | None, bool]:
    """(commit, any tracked file changed)."""
    commit, changed = None, False
    for line in output.decode(errors="replace").split("\0"):
        if line.startswith("# branch.oid "):
            oid = line.removeprefix("# branch.oid ")
            commit = None if oid == "(initial)" else oid
        elif line and not line.startswith("# "):
            changed = True
    return commit, changed


def _worth(untracked: list[str]) -> list[str]:
    """Without caches and environments, which a new project often forgets to ignore."""
    environments = _environments(untracked)
    kept: dict[str, bool] = {}

    def keep(folder: str) -> bool:
        if folder not in kept:
            in_cache = any(map(is_disposable, folder.split("/")))
            kept[folder] = not in_cache and not any(map((folder + "/").startswith, environments))
        return kept[folder]

    return [path for path in untracked if keep(os.path.dirname(path)) and not path.endswith(COMPILED)]


def _environments(untracked: list[str]) -> set[str]:
    """Folders (each with a `/` at its end) that hold a mark of one; never the project itself."""
    found = set()
    for path in untracked:
        for mark in ENVIRONMENT_MARKS:
            head, seen, _ = f"/{path}/".partition(f"/{mark}/")
            if seen and head:
                found.add(head[1:] + "/")
    return found
