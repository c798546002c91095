"""Bytes of a terminal as names of keys: `q`, `enter`, `up`, `pagedown`, `escape`. Pure."""

from __future__ import annotations

import re

NAMES = {
    b"A": "up", b"B": "down", b"C": "right", b"D": "left", b"H": "home", b"F": "end",
    b"1~": "home", b"7~": "home", b"4~": "end", b"8~": "end", b"5~": "pageup", b"6~": "pagedown",
}  # fmt: skip
PLAIN = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", " ": "space"}
SEQUENCE = re.compile(rb"\x1b(?:\[([0-?]*[ -/]*[@-~])|O([@-~]))")
BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


def decode(data: bytes, *, whole: bool = False) -> tuple[list[str], bytes]:
    """The keys, and what may be the beginning of another one. With `whole` nothing more will come:
    an Escape that stands alone is the key. Sequences that mean nothing here are passed over."""
    keys: list[str] = []
    while data:
        if match := SEQUENCE.match(data):
            name = NAMES.get(match[1] or match[2])
            keys += [name] if name is not None else []
            data = data[match.end() :]
        elif BEGUN.match(data) and not whole:
            return keys, data
        elif data[:1] == b"\x1b":
            keys.append("escape")
            data = data[1:]
        else:
            length = _length(data[0])
            if len(data) < length and not whole:
                return keys, data
            text = data[:length].decode(errors="ignore")
            keys += [PLAIN.get(text, text)] if text in PLAIN or (text.isprintable() and text) else []
            data = data[length:]
    return keys, b""


def _length(first: int) -> int:
    """Bytes of a character in UTF-8, from its first one."""
    return 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2 if first >= 0xC0 else 1
