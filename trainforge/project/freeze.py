"""A project as it is now: which of its files a job takes along, and their hashes.

In a git work tree: what git tracks, and untracked files it does not ignore. Elsewhere: everything.
In both, caches, environments and version control's own folders stay out unless git tracks them.
Then, by pattern (`trainforge.project.patterns`): `link` takes paths out, to be used in place, `exclude`
takes out, `include` adds back what is ignored or disposable. `link` and `exclude` win over
`include`. Patterns of `link` are relative to the root even without a `/`.

A symbolic link stays one. One that leads out of the project is used in place, and a word says so.
Empty folders are not kept. Nothing is sent from here.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Mapping
from typing import BinaryIO

import msgspec

from trainforge.api import FileEntry, Git
from trainforge.jobfile.mistakes import printable
from trainforge.project.candidates import Candidates, below, find_candidates
from trainforge.project.digests import Changed, Content, Digests, Signature, open_regular
from trainforge.project.folders import ProjectError
from trainforge.project.symlinks import aim
from trainforge.spec import Project

LIMIT = 2 << 30  # bytes
MOST_FILES = 100_000


class FreezeError(Exception):
    """The project cannot be frozen as it is; the message says what to do."""


class FrozenTooLarge(FreezeError):
    """Above the limit. `largest` are the folders (ending with `/`) and files that take most of it,
    with their bytes, or with their numbers of files where those are too many."""

    def __init__(self, message: str, largest: tuple[tuple[str, int], ...]) -> None:
        super().__init__(message)
        self.largest = largest


class FileChanged(FreezeError):
    """A large file is no longer what was hashed: freeze again."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """What `freeze` found. `skipped` are sentences about what was not taken, or only in place."""

    root: str
    entries: tuple[FileEntry, ...]  # by path
    size: int  # bytes
    links: tuple[str, ...]  # paths used in place, from `project.link`
    left_out: tuple[str, ...]  # top-level folders that git ignores
    skipped: tuple[str, ...]
    git: Git | None  # None also before the first commit
    sources: Mapping[str, Content]  # by path; what `open` gives

    def path(self, entry: FileEntry) -> str:
        """Where it lies in the project, absolute."""
        return f"{self.root}/{entry.path}"

    def open(self, entry: FileEntry) -> BinaryIO:
        """The bytes whose hash and size the entry names. Raises FileChanged."""
        source = self.sources[entry.path]
        if isinstance(source.held, bytes):
            return io.BytesIO(source.held)
        if source.held is not None:
            return open(f"/proc/self/fd/{source.held}", "rb")
        try:
            fd = open_regular(self.path(entry))
        except (Changed, OSError):
            raise _changed(entry.path) from None
        if Signature.of(os.fstat(fd)) != source.signature:
            os.close(fd)
            raise _changed(entry.path)
        return io.BufferedReader(io.FileIO(fd))

    def contents(self) -> dict[str, FileEntry]:
        """One entry for each content, by hash."""
        return {entry.sha256: entry for entry in self.entries if entry.sha256}

    def has(self, path: str) -> bool:
        """Will the job find this path (relative to the root) in its copy?"""
        path = os.path.normpath(path)
        return below(path, self.links) or any(below(entry.path, (path,)) for entry in self.entries)


def freeze(root: str, project: Project, limit: int = LIMIT) -> Frozen:
    """Read the project at `root`. Above `limit` bytes nothing is read. Raises FreezeError."""
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise FreezeError(f"{root}: no such folder")
    try:
        found = find_candidates(root, project)
        _check_names(found.files)
        _check_size(found.files, limit)
        return _freeze(root, found)
    except Changed as error:
        raise _changed(os.path.relpath(error.args[0], root)) from None
    except OSError as error:
        raise _unreadable(root, error) from None
    except ProjectError as error:
        raise FreezeError(str(error)) from None


def _freeze(root: str, found: Candidates) -> Frozen:
    digests = Digests(root)
    entries: list[FileEntry] = []
    sources: dict[str, Content] = {}
    aims: dict[str, str | None] = {}
    for path, status in sorted(found.files.items()):
        if stat.S_ISLNK(status.st_mode):
            target, aims[path] = aim(root, path)
            if not _is_utf8(target):
                raise FreezeError(f"{path}: leads to {_legible(target)}, which is not UTF-8")
            entries.append(FileEntry(path=path, target=target, mode=0o777))
        else:
            sources[path] = source = digests.read(path)
            entries.append(FileEntry(path=path, sha256=source.sha256, mode=source.mode, size=source.size))
    digests.save()
    return Frozen(
        root=root,
        entries=tuple(entries),
        size=sum(entry.size for entry in entries),
        links=found.links,
        left_out=found.left_out,
        skipped=found.skipped + tuple(_words_on(aims, root, found)),
        git=found.git,
        sources=sources,
    )


def _words_on(aims: Mapping[str, str | None], root: str, found: Candidates) -> Iterable[str]:
    """What a user has to know of the symbolic links in the project."""
    if not aims:
        return
    known = {".", *found.files, *map(os.path.dirname, found.files)}
    for path, leads_to in aims.items():
        if leads_to is None:
            yield f"{printable(path)}: leads out of the project and is used in place, not frozen"
        elif leads_to not in known and not below(leads_to, found.links):
            above = any(folder.startswith(leads_to + "/") for folder in known)
            if not above and os.path.lexists(f"{root}/{leads_to}"):
                yield f"{printable(path)}: leads to {printable(leads_to)}, which is not frozen"


def _check_names(paths: Iterable[str]) -> None:
    try:
        "\n".join(paths).encode()
    except UnicodeEncodeError:
        first = next(path for path in paths if not _is_utf8(path))
        raise FreezeError(
            f"{_legible(first)}: its name is not UTF-8; rename it, or name it in project.exclude"
        ) from None


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _legible(path: str) -> str:
    return ascii(os.fsencode(path))[2:-1]


def _check_size(files: Mapping[str, os.stat_result], limit: int) -> None:
    sizes = {path: status.st_size for path, status in files.items()}
    total = sum(sizes.values())
    if total <= limit and len(sizes) <= MOST_FILES:
        return
    from trainforge.project import oversize

    if total > limit:
        found = f"{oversize.show_bytes(total)}, above the limit of {oversize.show_bytes(limit)}"
        heaviest = oversize.largest(sizes)
        ending = oversize.describe(heaviest, oversize.show_bytes)
    else:
        found = f"{len(sizes):,} files, more than {MOST_FILES:,}"
        heaviest = oversize.largest(dict.fromkeys(sizes, 1))
        ending = oversize.describe(heaviest, "{:,} files".format)
    raise FrozenTooLarge(f"the project has {found}; {ending}", heaviest)


def _unreadable(root: str, error: OSError) -> FreezeError:
    where = printable(os.path.relpath(os.fsdecode(error.filename or root), root))
    advice = "make it readable, or name it in project.exclude"
    return FreezeError(f"{where}: cannot be read ({error.strerror}); {advice}")


def _changed(path: str) -> FileChanged:
    return FileChanged(f"{printable(path)} changed while the project was being read; try again")
