"""Where a symbolic link of a project has to point in a copy of it."""

from __future__ import annotations

import os


def aim(root: str, path: str) -> tuple[str, str | None]:
    """(target for the copy, path it leads to). Inside the project the target is relative, and the
    path relative to the root; outside the target is absolute, and the path None.

    Where the target leads on to, if it is a link itself, does not matter.
    """
    raw = os.readlink(f"{root}/{path}")
    folder = os.path.dirname(f"{root}/{path}")
    absolute = os.path.normpath(os.path.join(folder, raw))
    inside = _inside(root, absolute)
    if inside is None:
        return absolute, None
    if os.path.isabs(raw) or _climbs(path, raw):
        return os.path.relpath(f"{root}/{inside}", folder), inside
    return raw, inside


def _inside(root: str, path: str) -> str | None:
    """`path` relative to the root; None if it is outside, by its name and in fact."""
    folder, name = os.path.split(path)
    for base, candidate in (
        (root, path),
        (os.path.realpath(root), path),
        (os.path.realpath(root), os.path.join(os.path.realpath(folder), name)),
    ):
        if candidate == base:
            return "."
        if candidate.startswith(base.rstrip("/") + "/"):
            return candidate[len(base.rstrip("/")) + 1 :]
    return None


def _climbs(path: str, target: str) -> bool:
    """Does a relative target go above the root on its way?"""
    depth = path.count("/")
    for part in target.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False
