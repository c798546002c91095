"""Patterns in the manner of `.gitignore` as regular expressions.

No pattern makes one that is slow: what stands between two wildcards is taken where it first fits,
and never tried elsewhere. That loses nothing, since the wildcard after it takes any rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ANY_FOLDERS = "**"


def path_regex(parts: Sequence[str]) -> str:
    """For a whole path, from the parts between the slashes of a pattern. Raises ValueError."""
    chunks: list[list[str]] = [[]]
    for part in parts:
        if part == ANY_FOLDERS:
            chunks.append([])
        else:
            chunks[-1].append(name_regex(part))
    first, *others = ("/".join(chunk) for chunk in chunks)
    if not others:
        return first
    body = first + "/" if first else ""
    for chunk in others[:-1]:
        body += f"(?>(?:[^/]+/)*?{chunk}/)"
    return body + (f"(?:[^/]+/)*{others[-1]}" if others[-1] else ".+")


def name_regex(part: str) -> str:
    """For one name; what is malformed stands for itself. Raises ValueError."""
    pieces = [""]
    i = 0
    while i < len(part):
        c = part[i]
        if c == "*":
            pieces.append("")
        elif c == "?":
            pieces[-1] += "[^/]"
        elif c == "[" and (end := _set_end(part, i)):
            pieces[-1] += _set(part[i + 1 : end])
            i = end
        else:
            i += c == "\\" and i + 1 < len(part)
            pieces[-1] += re.escape(part[i])
        i += 1
    return _with_stars(pieces)


def _with_stars(pieces: list[str]) -> str:
    """The pieces with a star between each two of them."""
    first, *others = pieces
    if not others:
        return first
    if not any(pieces):
        return "[^/]+"
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece)
    return f"{first}{middle}[^/]*{others[-1]}"


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
        raise ValueError(f"[{members}] is no set of characters ({error})") from None
    return regex
