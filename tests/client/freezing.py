"""Projects to freeze: a folder, optionally a git work tree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from trainforge.project.freeze import LIMIT, Frozen, freeze
from trainforge.spec import Project

IDENTITY = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


class Folder:
    """A folder under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def write(self, *paths: str, text: str | None = None) -> Folder:
        """Each with its own path as content, unless `text` is given."""
        for path in paths:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path if text is None else text)
        return self

    def link(self, path: str, target: str) -> Folder:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).symlink_to(target)
        return self

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, env=os.environ | IDENTITY, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def init(self) -> Folder:
        self.git("init", "-q", ".")
        return self

    def commit(self) -> str:
        """Everything there is; returns the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "state")
        return self.git("rev-parse", "HEAD")

    def freeze(self, limit: int = LIMIT, **patterns: tuple[str, ...]) -> Frozen:
        return freeze(str(self.root), project(**patterns), limit)


def project(**patterns: Any) -> Project:
    return Project(name="p", **patterns)


def paths(frozen: Frozen) -> list[str]:
    return [entry.path for entry in frozen.entries]
