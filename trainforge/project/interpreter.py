"""The Python that `python: current` means, and whether it has what a project requires.

The interpreter is that of the shell: the active virtual or conda environment's, else the first
`python3` or `python` on PATH. It is named as the shell finds it: a virtual environment's link is not
followed, or the environment would be lost.

A requirement is judged by `trainforge.project.probe`, run by that interpreter; what it cannot judge, and an
interpreter that cannot run it, count as met. The answer is kept until packages change.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping

import msgspec

from trainforge.project import caches
from trainforge.project.processes import Process
from trainforge.project.regular import open_regular

_PROBE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
_TIMEOUT = 20.0  # seconds; a cold cache of a network file system is slow


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe prints; `folders` are those it found packages in, with the ns of their change."""

    folders: dict[str, int]
    missing: tuple[str, ...]


def current_python(environ: Mapping[str, str], cwd: str) -> str | None:
    """Absolute path of the interpreter of a shell with these variables; None if it has none."""
    for path in _candidates(environ):
        path = os.path.join(cwd, path)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return _behind_pyenv(path, environ, cwd)
    return None


def missing_requirements(
    python: str, requirements: str, environ: Mapping[str, str] = os.environ
) -> tuple[str, ...]:
    """The requirements, in their order, that the interpreter does not meet: `numpy`, or
    `torch>=2.4 (2.1.0 is installed)`. `requirements` is the text of a requirements file."""
    if not requirements.strip():
        return ()
    key = _key(python, requirements, environ)
    known = caches.load("requirements", key, _Answer)
    if known is not None and all(_changed_at(path) == when for path, when in known.folders.items()):
        return known.missing
    answer = _ask(python, requirements, environ)
    if answer is None:
        return ()
    caches.store("requirements", key, answer)
    return answer.missing


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if prefix := environ.get(variable):
            yield f"{prefix}/bin/python"
    for name in ("python3", "python"):
        for folder in environ.get("PATH", os.defpath).split(":"):
            yield os.path.join(folder, name)


def _behind_pyenv(path: str, environ: Mapping[str, str], cwd: str) -> str:
    """pyenv's shims choose by the folder they run in, which is another one in the job: choose now."""
    shims, name = os.path.split(path)
    pyenv = os.path.dirname(shims)
    if os.path.basename(shims) != "shims" or not os.path.isdir(f"{pyenv}/versions"):
        return path
    for version in _pyenv_versions(pyenv, environ, cwd):
        real = f"{pyenv}/versions/{version}/bin/{name}"
        if os.access(real, os.X_OK):
            return real
    return path


def _pyenv_versions(pyenv: str, environ: Mapping[str, str], cwd: str) -> list[str]:
    """The chosen versions, in the order in which pyenv looks: shell, folder, global."""
    if chosen := environ.get("PYENV_VERSION"):
        return chosen.split(":")
    folders = [cwd]
    while folders[-1] != os.path.dirname(folders[-1]):
        folders.append(os.path.dirname(folders[-1]))
    for path in [*(f"{folder}/.python-version" for folder in folders), f"{pyenv}/version"]:
        try:
            with open_regular(path) as file:
                return file.read().decode().split()
        except (OSError, UnicodeError):
            continue
    return []


def _key(python: str, requirements: str, environ: Mapping[str, str]) -> str:
    parts = (python, str(_changed_at(python)), environ.get("PYTHONPATH", ""), requirements)
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def _changed_at(path: str) -> int:
    """ns; 0 where there is nothing."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _ask(python: str, requirements: str, environ: Mapping[str, str]) -> _Answer | None:
    try:
        probe = Process((python, _PROBE), environ, requirements.encode(errors="surrogateescape"))
    except OSError:
        return None
    done = probe.finish(_TIMEOUT)
    try:
        return msgspec.json.decode(done.output, type=_Answer) if done else None
    except msgspec.DecodeError:
        return None
