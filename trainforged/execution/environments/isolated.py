"""Isolated environments: what a requirements file asks for, installed once and used by many jobs.

`<root>/<key>/` is one; the key is a hash of the interpreter and of all that the requirements name.
An environment cannot be moved, so it is built in place: `.complete` in it comes last, and what has
none is built anew. `<key>.lock` beside it is held by its builder and by the installer, so that an
installer which outlives its daemon is waited for.

uv installs where it is on PATH, else venv and pip. Paths in a requirements file are relative to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from trainforged.execution.environments.installer import run
from trainforged.execution.environments.requirements import fingerprint
from trainforged.execution.errors import EnvironmentFailed
from trainforged.execution.syncing import sync_file_system
from trainforged.execution.threads import in_thread

_COMPLETE = ".complete"
_POLL = 0.1  # seconds between looks at a lock that another holds
_IDENTITY = "import os, sys; print(os.path.realpath(sys.executable), sys.version)"

# What would lead an installer, or the interpreter it runs in, elsewhere than into the environment.
_MISLEADING = frozenset(
    {
        "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "PIP_TARGET",
        "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT",
    }
)  # fmt: skip
_PLAIN = {
    "NO_COLOR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PYTHONUNBUFFERED": "1",
    "UV_NO_PROGRESS": "1",
}

Say = Callable[[str], None]


class Environments:
    """Those below `root`, which is made if it is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._marks = threading.Lock()  # over use and removal of one environment
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def ensure(
        self, python: Path, requirements: Path, say: Say, environ: Mapping[str, str] | None = None
    ) -> Path:
        """The interpreter of an environment made by `python` that has what `requirements` asks for.

        Where there is none yet it is built, with each line of the installer given to `say`. `environ`
        are the variables of the job's shell (package index, proxy, PATH); None means the daemon's.
        Raises EnvironmentFailed. Cancelled, it leaves no process and no half-built environment.
        """
        env = _variables(environ)
        folder = self._root / await _key(python, requirements, env)
        if not self._use(folder):
            with _lock_file(folder) as lock:
                await _acquire(lock, say)
                if not self._use(folder):
                    await _build(folder, python, requirements, env, lock, say)
        return folder / "bin" / "python"

    def collect(self, in_use: Collection[Path], unused_for: float) -> tuple[Path, ...]:
        """Remove what was left half-built, and environments that `ensure` has not given out for so
        many seconds, unless their interpreter (as it returned it) is in use. Returns the interpreters
        that are gone. Blocks."""
        removed = []
        for folder in [path for path in self._root.iterdir() if path.is_dir()]:
            interpreter = folder / "bin" / "python"
            if interpreter not in in_use and self._remove(folder, unused_for):
                removed.append(interpreter)
        return tuple(removed)

    def _use(self, folder: Path) -> bool:
        """Mark it as used now; False if it is not complete."""
        with self._marks:
            try:
                os.utime(folder / _COMPLETE)
            except FileNotFoundError:
                return False
            return True

    def _remove(self, folder: Path, unused_for: float) -> bool:
        with _lock_file(folder) as lock:
            if not _try(lock) or not self._retire(folder / _COMPLETE, unused_for):
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return True

    def _retire(self, mark: Path, unused_for: float) -> bool:
        """True if it is not complete, any more or at all."""
        with self._marks, contextlib.suppress(FileNotFoundError):
            if time.time() - mark.stat().st_mtime < unused_for:
                return False
            mark.unlink()
        return True


def _variables(environ: Mapping[str, str] | None) -> dict[str, str]:
    base = os.environ if environ is None else environ
    return {name: value for name, value in base.items() if name not in _MISLEADING} | _PLAIN


async def _key(python: Path, requirements: Path, env: Mapping[str, str]) -> str:
    try:
        asked = await in_thread(lambda: fingerprint(requirements))
    except OSError as error:
        raise EnvironmentFailed(f"{requirements}: {error.strerror}") from error
    identity: list[str] = []
    await run([str(python), "-I", "-c", _IDENTITY], cwd=requirements.parent, env=env, say=identity.append)
    return hashlib.sha256("\n".join([*identity, asked]).encode()).hexdigest()[:32]


@contextlib.contextmanager
def _lock_file(folder: Path) -> Iterator[int]:
    """A descriptor to lock for one environment; unlocked at the end, whoever else has it open."""
    lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _acquire(lock: int, say: Say) -> None:
    if not _try(lock):
        say("waiting for another builder of the same environment")
        while not _try(lock):  # noqa: ASYNC110 (another process may hold it, which sets no event)
            await asyncio.sleep(_POLL)


async def _build(
    folder: Path, python: Path, requirements: Path, env: Mapping[str, str], lock: int, say: Say
) -> None:
    try:
        await in_thread(lambda: _clear(folder))
        for argv in _steps(folder, python, requirements, env):
            say(f"$ {' '.join(argv)}")
            await run(argv, cwd=requirements.parent, env=env, keep=lock, say=say)
        await in_thread(lambda: _complete(folder))
    except OSError as error:
        raise EnvironmentFailed(f"{folder}: {error.strerror}") from error
    finally:
        if not (folder / _COMPLETE).exists():
            await in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))


def _steps(
    folder: Path, python: Path, requirements: Path, env: Mapping[str, str]
) -> tuple[tuple[str, ...], ...]:
    """The commands that make an environment at `folder`."""
    own, asked = str(folder / "bin" / "python"), str(requirements)
    uv = shutil.which("uv", path=env.get("PATH"))
    if uv is not None:
        return (
            (uv, "venv", "--python", str(python), str(folder)),
            (uv, "pip", "install", "--python", own, "-r", asked),
        )
    return (str(python), "-m", "venv", str(folder)), (own, "-m", "pip", "install", "-r", asked)


def _clear(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _complete(folder: Path) -> None:
    """Say that it is whole, once it would survive a power cut."""
    sync_file_system(str(folder))
    (folder / _COMPLETE).touch()
