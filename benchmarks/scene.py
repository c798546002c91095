"""What a benchmark is given: a folder of its own, daemons in it, and the commands as a user has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tests.daemon.real import RealDaemon, own_path

T = TypeVar("T")
INTERPRETER = sys.executable  # what runs the commands: a venv's link to the interpreter, no wrapper of it
BIN = Path(sys.executable).parent


class Scene:
    """Ends what it started, and removes its folder. `notes` are for the reader of the result."""

    def __init__(self, *, quick: bool = False) -> None:
        self.quick = quick
        self.folder = Path(tempfile.mkdtemp(prefix="tf-bench-"))
        self.notes: list[str] = []
        self._daemons: list[RealDaemon] = []

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in self._daemons:
            daemon.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def times(self, full: T, quick: T) -> T:
        """How often, how many, how long."""
        return quick if self.quick else full

    def daemon(self, gpus: int = 2, *options: str) -> RealDaemon:
        """Started, and answering."""
        folder = self.folder / f"d{len(self._daemons)}"
        folder.mkdir()
        daemon = RealDaemon(folder, gpus, *options)
        self._daemons.append(daemon)
        return daemon.start()

    def environment(self, daemon: RealDaemon) -> dict[str, str]:
        """Of a shell with the virtual environment active, that talks to this daemon."""
        return os.environ | {"TRAINFORGE_SOCKET": str(daemon.socket), "PATH": own_path()}

    def project(self) -> Path:
        """A small project as `init` writes it, in a git repository where there is git."""
        folder = self.folder / "project"
        subprocess.run(
            tfctl("init", str(folder), "--template", "blank"), check=True, stdout=subprocess.DEVNULL
        )
        if shutil.which("git") is None:
            self.notes.append("git is not installed: the project is a plain folder")
            return folder
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "A project"]):
            who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", "-C", str(folder), *who, *words], check=True)
        return folder


def tfctl(*words: str) -> list[str]:
    """The command that the installation brought."""
    installed = BIN / "tfctl"
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "tfctl"]
    return [*program, *words]
