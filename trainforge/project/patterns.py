"""Patterns that name files of a project, in the manner of `.gitignore`.

- `data` names a file or a folder with everything below it, at any depth; `data/` a folder only.
- With a `/` at its start or in its middle a pattern is relative to the project's root: `/data`,
  `runs/old`.
- `*` and `?` stand for characters other than `/`, `[a-z]` for one of a set, `**` for any number of
  folders, `\\` takes the meaning from the next character.
- `!pattern` takes back what an earlier one named: the last pattern that matches decides. What no
  pattern matches is as the folder it is in. (git takes nothing back below an ignored folder.)

Paths are relative to the root, with `/` between their parts; a folder's ends with `/`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from trainforge.jobfile.mistakes import printable
from trainforge.project.folders import SET_APART, VERSION_CONTROL, ProjectError, children, is_environment
from trainforge.project.globs import ANY_FOLDERS, name_regex, path_regex

_MAGIC = re.compile(r"[*?\[\\]")


class PatternError(ProjectError):
    """A pattern that has no meaning; the message says why."""


class Patterns:
    """Some patterns, in order. `anchored` makes each of them relative to the root."""

    def __init__(self, patterns: Sequence[str], *, anchored: bool = False) -> None:
        self._patterns = [_Pattern(text, anchored) for text in patterns]
        self.takes_back = any(pattern.negated for pattern in self._patterns)

    def match(self, path: str) -> bool:
        """Is this path named, itself or by a folder above it?"""
        if not self.takes_back:
            return any(pattern.covers.match(path) for pattern in self._patterns)
        named = False
        for end in [*_slashes(path), len(path)]:
            for pattern in self._patterns:
                if pattern.itself.match(path, 0, end):
                    named = not pattern.negated
        return named

    def expand(self, root: str) -> tuple[str, ...]:
        """What exists of what is named, sorted, without what lies below something else of it.

        A wildcard does not find caches, environments and version control's own folders; a name in
        full does (never the latter). No symbolic link is followed, but one may be the result.
        """
        found = {path for pattern in self._patterns if not pattern.negated for path in pattern.find(root)}
        result: list[str] = []
        for path in sorted(found, key=lambda path: path.split("/")):
            if self.match(path + "/") and not (result and path.startswith(result[-1] + "/")):
                result.append(path)
        return tuple(result)


class _Pattern:
    """One pattern. `parts` are what stands between its slashes, `**` first where it is not anchored."""

    def __init__(self, text: str, anchored: bool) -> None:
        self.negated = text.startswith("!")
        body = text[self.negated :]
        self.folder = body.endswith("/")
        self.parts = _parts(body, anchored or "/" in body.rstrip("/"))
        if not self.parts or ".." in self.parts:
            raise PatternError(f"{printable(text) or '(empty)'}: names nothing inside the project")
        try:
            regex = path_regex(self.parts)
        except ValueError as error:
            raise PatternError(f"{printable(text)}: {error}") from None
        self.itself = re.compile(regex + (r"/\Z" if self.folder else r"/?\Z"), re.DOTALL)
        self.covers = re.compile(regex + ("/" if self.folder else r"(?:/|\Z)"), re.DOTALL)

    def find(self, root: str) -> set[str]:
        """What the parts lead to. A folder is looked at once for each part."""
        found: set[str] = set()
        seen: set[tuple[str, int]] = set()
        todo = [("", 0)]  # a folder (empty, or ending with `/`), and the part that is looked for in it
        while todo:
            step = base, number = todo.pop()
            if step in seen:
                continue
            seen.add(step)
            if self.parts[number] == ANY_FOLDERS:
                todo += self._anywhere(root, base, number, found)
                continue
            for name in _names(f"{root}/{base}", self.parts[number]):
                path = base + name
                if number + 1 < len(self.parts):
                    if _is_folder(f"{root}/{path}"):
                        todo.append((path + "/", number + 1))
                elif not self.folder or os.path.isdir(f"{root}/{path}"):
                    found.add(path)
        return found

    def _anywhere(self, root: str, base: str, number: int, found: set[str]) -> list[tuple[str, int]]:
        """For `**`: the next part here, and the same again in each folder. At the end: all that is here."""
        inside = children(f"{root}/{base}", top=not base)
        folders = [entry.name for entry in inside if entry.is_dir(follow_symlinks=False)]
        steps = [(f"{base}{name}/", number) for name in folders]
        if number + 1 == len(self.parts):
            found.update(base + name for name in (folders if self.folder else [each.name for each in inside]))
        elif inside:
            steps.append((base, number + 1))
        return steps


def _parts(body: str, anchored: bool) -> list[str]:
    parts = [part for part in body.split("/") if part not in ("", ".")]
    if parts and not anchored:
        parts.insert(0, ANY_FOLDERS)
    return [part for part, before in zip(parts, ["", *parts], strict=False) if (part, before) != ("**", "**")]


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _slashes(path: str) -> Iterator[int]:
    """Where each folder above ends, its `/` included."""
    return (match.end() for match in re.finditer("/(?!$)", path))


def _names(folder: str, part: str) -> list[str]:
    """Names in a folder that one part stands for."""
    if not _MAGIC.search(part):
        known = part not in VERSION_CONTROL and os.path.lexists(f"{folder}/{part}")
        return [part] if known else []
    regex = re.compile(name_regex(part), re.DOTALL)
    found = [name for name in os.listdir(folder) if name not in SET_APART and regex.fullmatch(name)]
    return [name for name in found if not is_environment(f"{folder}/{name}")]
