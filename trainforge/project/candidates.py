"""The paths of a project that are to be frozen, before any of them is opened.

`trainforge.project.freeze` says which they are; here it is found out: from git or by walking, with the
project's patterns laid over.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from trainforge.api import Git
from trainforge.jobfile.mistakes import printable
from trainforge.project.folders import children, walk
from trainforge.project.worktree import NoGit, has_git, read_nested, read_worktree
from trainforge.spec import Project

if TYPE_CHECKING:
    from trainforge.project.patterns import Patterns

_KINDS = (
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """`files` are regular files and symbolic links, as lstat saw them. The rest as in `Frozen`."""

    files: dict[str, os.stat_result]
    links: tuple[str, ...]
    left_out: tuple[str, ...]
    skipped: tuple[str, ...]
    git: Git | None


class _Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What there is before patterns are laid over it. `ignores`: git's rules were applied."""

    paths: list[str]
    ignores: bool = False
    git: Git | None = None
    words: tuple[str, ...] = ()


def find_candidates(root: str, project: Project) -> Candidates:
    """Raises OSError, `trainforge.project.worktree.GitError`, `trainforge.project.patterns.PatternError`."""
    rules = _Rules(root, project)
    listing = _list(root, rules)
    paths = [*listing.paths, *rules.added()]
    skipped = [*rules.words, *listing.words]
    files = dict(_look(root, paths, rules, skipped))
    return Candidates(
        files=files,
        links=rules.links,
        left_out=tuple(_left_out(root, files, rules)) if listing.ignores else (),
        skipped=tuple(skipped),
        git=listing.git,
    )


def below(path: str, folders: Iterable[str]) -> bool:
    """Is the path one of these or under one?"""
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


class _Rules:
    """The project's patterns. Without any, as usual, no regular expression is even imported."""

    def __init__(self, root: str, project: Project) -> None:
        self._root = root
        self._include = project.include
        self._excluded = None
        self.links: tuple[str, ...] = ()
        self.words: list[str] = []
        if project.exclude:
            self._excluded = _patterns("exclude", project.exclude)
        if project.link:
            self._find_links(project.link)

    def _find_links(self, link: tuple[str, ...]) -> None:
        self.links = _patterns("link", link).expand(self._root)
        for text in link:
            if not text.startswith("!") and not _patterns("link", (text,)).expand(self._root):
                self.words.append(f"project.link: {printable(text)}: nothing there")

    def drop(self, path: str) -> bool:
        """Is it taken out, by `link` or by `exclude`? A folder (with a `/` at its end): all of it."""
        if self.links and below(path.rstrip("/"), self.links):
            return True
        if self._excluded is None or (path.endswith("/") and self._excluded.takes_back):
            return False
        return self._excluded.match(path)

    def added(self) -> Iterator[str]:
        """What `include` names."""
        if not self._include:
            return
        for path in _patterns("include", self._include).expand(self._root):
            if stat.S_ISDIR(os.lstat(f"{self._root}/{path}").st_mode):
                yield from walk(self._root, path, drop=self.drop)
            else:
                yield path


def _patterns(key: str, texts: tuple[str, ...]) -> Patterns:
    from trainforge.project.patterns import PatternError, Patterns

    try:
        return Patterns(texts, anchored=key == "link")
    except PatternError as error:
        raise PatternError(f"project.{key}: {error}") from None


def _list(root: str, rules: _Rules) -> _Listing:
    """git's view where it has one. A folder that a repository further up ignores is a plain folder."""
    if not has_git(root):
        return _Listing(paths=list(walk(root, drop=rules.drop)))
    try:
        tree = read_worktree(root)
    except NoGit as error:
        return _Listing(paths=list(walk(root, drop=rules.drop)), words=(str(error),))
    if not (tree.tracked or tree.untracked or os.path.lexists(f"{root}/.git")):
        return _Listing(paths=list(walk(root, drop=rules.drop)))
    added = any(not rules.drop(path) for path in tree.untracked)
    git = Git(commit=tree.commit, dirty=tree.changed or added) if tree.commit else None
    return _Listing(paths=tree.tracked + tree.untracked, ignores=True, git=git, words=tree.warnings)


def _look(
    root: str, paths: list[str], rules: _Rules, skipped: list[str]
) -> Iterator[tuple[str, os.stat_result]]:
    """Each path that can be frozen, with its lstat. Nested repositories are opened up."""
    while paths:
        path = paths.pop()
        if rules.drop(path):
            continue
        try:
            status = os.lstat(f"{root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            continue  # tracked, and deleted since
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            yield path, status
        elif stat.S_ISDIR(status.st_mode):
            paths += _nested(root, path, rules, skipped)
        else:
            kind = next((word for test, word in _KINDS if test(status.st_mode)), "no file")
            skipped.append(f"{printable(path)}: {kind}, left out")


def _nested(root: str, path: str, rules: _Rules, skipped: list[str]) -> list[str]:
    """Files of a submodule, or of another repository that lies in the project."""
    with contextlib.suppress(NoGit):
        if os.path.lexists(f"{root}/{path}/.git"):
            return [f"{path}/{name}" for name in read_nested(f"{root}/{path}")]
    found = list(walk(root, path, drop=rules.drop))
    if not found:
        skipped.append(f"{printable(path)}: an empty submodule (git submodule update --init fills it)")
    return found


def _left_out(root: str, files: Iterable[str], rules: _Rules) -> list[str]:
    """Top-level folders of which nothing is frozen, though there is something in them."""
    taken = {path.partition("/")[0] for path in files}
    found = []
    for entry in children(root, top=True):
        if entry.name in taken or rules.drop(entry.name + "/") or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(PermissionError):
            found += [entry.name] if children(entry.path) else []
    return sorted(found)
