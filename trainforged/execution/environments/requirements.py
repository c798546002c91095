"""What a requirements file asks for, as one hash.

The text counts, that of each file it includes (`-r`, `-c`), and the content of each local project or
archive it names. A project to be installed in place (`-e`) stays where it is, so its path counts,
with the files that say how it is built.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from trainforge.project.folders import walk

_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+)?(\S.*)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+)(\S.*)")
_BUILT = re.compile(r"(?:^|/)(?:build|dist|[^/]*\.egg-info)/")  # by an earlier installation
_BUILD_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


def fingerprint(requirements: Path) -> str:
    """64 hex digits. Raises OSError if the file cannot be read.

    Local paths in it are relative to the folder of `requirements`, where the installer is run.
    """
    digest = hashlib.sha256()
    for part in _parts(requirements, requirements.parent, set()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _parts(file: Path, base: Path, seen: set[Path]) -> Iterator[bytes]:
    seen.add(file.resolve())
    text = file.read_bytes()
    yield text
    for line in _lines(text.decode(errors="replace")):
        if match := _INCLUDE.fullmatch(line):
            included = file.parent / match[1]
            if os.path.isfile(included) and included.resolve() not in seen:
                yield from _parts(included, base, seen)
        elif match := _EDITABLE.fullmatch(line):
            yield from _project_in_place(_local(match[1], base))
        elif "/" in line or line.startswith(".") or line.endswith((".whl", ".zip", ".gz")):
            yield from _content(_local(line, base))


def _lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.split(r"(?:^|\s)#|\s;|\s--", line)[0].strip()
        if line:
            yield line


def _local(requirement: str, base: Path) -> Path:
    """`./lib[fast]`, `lib @ file:///src/lib`: the path. Anything else gives one that does not exist."""
    head, is_address, path = requirement.partition("file:")
    path = urllib.parse.unquote(path.removeprefix("//").removeprefix("localhost")) if is_address else head
    if path.endswith("]"):
        path = path.rpartition("[")[0]
    return base / path


def _project_in_place(folder: Path) -> Iterator[bytes]:
    yield os.fsencode(folder.absolute())
    for name in _BUILD_FILES:
        yield from _content(folder / name)


def _content(path: Path) -> Iterator[bytes]:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            yield hashlib.file_digest(file, "sha256").digest()
    elif any(os.path.isfile(path / name) for name in _BUILD_FILES):
        for name in sorted(walk(str(path))):
            if not _BUILT.search(name):
                yield os.fsencode(name)
                yield from _member(path / name)


def _member(path: Path) -> Iterator[bytes]:
    if os.path.islink(path):
        yield os.fsencode(os.readlink(path))
    else:
        yield from _content(path)
