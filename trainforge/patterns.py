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

from trainforge.folders import SET_APART, VERSION_CONTROL, ProjectError, children, is_environment

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
        asked = [pattern for pattern in self._patterns if not pattern.negated]
        found = {path for pattern in asked for path in _expand(root, "", pattern.parts, pattern.folder)}
        result: list[str] = []
        for path in sorted(found, key=lambda path: path.split("/")):
            if self.match(path + "/") and not (result and path.startswith(result[-1] + "/")):
                result.append(path)
        return tuple(result)


class _Pattern:
    def __init__(self, text: str, anchored: bool) -> None:
        self.negated = text.startswith("!")
        body = text[self.negated :]
        self.folder = body.endswith("/")
        anchored = anchored or "/" in body.rstrip("/")
        parts = [part for part in body.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise PatternError(f"{text!r} names nothing inside the project")
        self.parts = tuple(parts if anchored else ["**", *parts])
        body = _regex(self.parts)
        self.itself = re.compile(body + (r"/\Z" if self.folder else r"/?\Z"), re.DOTALL)
        self.covers = re.compile(body + ("/" if self.folder else r"(?:/|\Z)"), re.DOTALL)


def _slashes(path: str) -> Iterator[int]:
    """Where each folder above ends, its `/` included."""
    return (match.end() for match in re.finditer("/(?!$)", path))


def _regex(parts: tuple[str, ...]) -> str:
    body = ""
    for part in parts[:-1]:
        body += "(?:.+/)?" if part == "**" else _translate(part) + "/"
    return body + (".+" if parts[-1] == "**" else _translate(parts[-1]))


def _translate(part: str) -> str:
    """One part of a pattern as a regular expression; what is malformed stands for itself."""
    body, i = "", 0
    while i < len(part):
        c = part[i]
        if c == "*":
            body += "" if body.endswith("[^/]*") else "[^/]*"
        elif c == "?":
            body += "[^/]"
        elif c == "[" and (end := _set_end(part, i)):
            body += _set(part[i + 1 : end])
            i = end
        else:
            i += c == "\\" and i + 1 < len(part)
            body += re.escape(part[i])
        i += 1
    return body


def _set_end(part: str, start: int) -> int:
    """Where the `]` of a set is, or 0. One that stands first is a member."""
    first = start + 1 + (part[start + 1 : start + 2] in ("!", "^"))
    return max(part.find("]", first + 1), 0)


def _set(members: str) -> str:
    negated = members[0] in "!^"
    body = "".join(c if c.isalnum() or c == "-" else "\\" + c for c in members[negated:])
    regex = f"[^/{body}]" if negated else f"(?!/)[{body}]"
    try:
        re.compile(regex)
    except re.error as error:
        raise PatternError(f"[{members}] is no set of characters: {error}") from None
    return regex


def _expand(root: str, base: str, parts: tuple[str, ...], folder: bool) -> Iterator[str]:
    """Paths below `base` (empty, or ending with `/`) that the parts lead to."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _anywhere(root, base, parts, folder)
        return
    for name in _names(root + "/" + base, part):
        path = base + name
        full = f"{root}/{path}"
        if not rest:
            if os.path.isdir(full) or not folder:
                yield path
        elif os.path.isdir(full) and not os.path.islink(full):
            yield from _expand(root, path + "/", rest, folder)


def _anywhere(root: str, base: str, parts: tuple[str, ...], folder: bool) -> Iterator[str]:
    """`**`: the rest here, and the same again in each folder. At the end: all that is here."""
    inside = children(f"{root}/{base}", top=not base)
    if inside:
        yield from _expand(root, base, parts[1:] or ("*",), folder)
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from _expand(root, f"{base}{entry.name}/", parts, folder)


def _names(folder: str, part: str) -> list[str]:
    """Names in a folder that one part stands for."""
    if not _MAGIC.search(part):
        known = part not in VERSION_CONTROL and os.path.lexists(f"{folder}/{part}")
        return [part] if known else []
    regex = re.compile(_translate(part), re.DOTALL)
    found = [name for name in os.listdir(folder) if name not in SET_APART and regex.fullmatch(name)]
    return [name for name in found if not is_environment(f"{folder}/{name}")]
