"""Run by a job's interpreter: which of the requirements on standard input does it not meet?

Prints {"folders": {folder on sys.path: its time of change in ns}, "missing": [...]} as JSON. Uses
the standard library (Python ≥ 3.9), and `packaging`, where one can be found, for versions and
markers; without it names alone are judged. Options, URLs, paths, and whatever else is no plain
requirement, are not judged.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_NAME = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*"
_PLAIN = re.compile(_NAME + r"((?:[<>=!~]=?|===)[^;@]*|\([^)]*\))?\s*(?:;\s*(.+))?")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")


def main() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if path not in ("", here)]
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    missing = [word for word in map(judge, lines(text)) if word]
    print(json.dumps({"folders": folders(), "missing": missing}))


def folders() -> dict[str, int]:
    """Every folder that packages may appear in; 0 for one that is not there yet."""
    found = {}
    for path in sys.path:
        try:
            found[path] = os.stat(path).st_mtime_ns
        except OSError:
            found[path] = 0
    return found


def lines(text: str) -> Iterator[str]:
    """Requirements as they stand, without comments, options and line continuations."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.split(r"(?:^|\s)#|\s--", line)[0].strip()
        if line and not line.startswith("-"):
            yield line


def judge(requirement: str) -> str | None:
    """None if it is met, or not for us to judge."""
    match = _PLAIN.fullmatch(requirement)
    if match is None or requirement.endswith(_ARCHIVES):
        return None
    name, specifier, marker = match.groups()
    library = _packaging() if specifier or marker else None
    parsed = None
    if library is not None:
        try:
            parsed = library.Requirement(requirement)
        except Exception:  # its class of error is another one in each version
            return None
    if marker and (parsed is None or not parsed.marker.evaluate({"extra": ""})):
        return None
    installed = _version(name)
    if installed is None:
        return name + "".join((specifier or "").split())
    if parsed is None or parsed.specifier.contains(installed, prereleases=True):
        return None
    return f"{name}{parsed.specifier} ({installed} is installed)"


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _packaging() -> Any:
    """`packaging.requirements`: the interpreter's own, or the copy inside pip or setuptools."""
    for parent in ("", "pip._vendor.", "setuptools._vendor.", "setuptools.extern."):
        try:
            return import_module(parent + "packaging.requirements")
        except ImportError:
            continue
    return None


if __name__ == "__main__":
    main()
