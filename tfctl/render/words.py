"""Sentences of a job or of the daemon, made to fit where they are shown."""

from __future__ import annotations

import re

LEAST_NAME = 8  # cells that a name keeps beside a long label
LONGEST = 200  # characters of a sentence in a list
LEADS = ("waits for ", "waits: ", "waits ", "is ")
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)")  # of ECMA-48
CONTROLS = re.compile(  # C0, DEL, C1; halves of surrogates; ends of lines; what turns the direction of text
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
KEYS = re.compile(r"(?:(?<=^)|(?<= ))[\w.]+(?==)")  # of a label
VALUES = re.compile(r"(?<==)(?:'[^']*'|\S+)")
BREAK = re.compile(r"(?=; | \()")  # where a sentence may be cut without leaving half a thought


def one_line(text: str, most: int = LONGEST) -> str:
    """The text on one line, cut with `…`: the message of an exception may have many lines."""
    words = visible(" ".join(text.split()))
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def visible(text: str, keep: str = "") -> str:
    """The text with control characters as escapes (`\\x1b`, `\\n`), but for those in `keep`."""
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def plain(line: str) -> str:
    """A line of output as a terminal would be left with it, without what would steer the terminal."""
    shown = ESCAPES.sub("", line).rstrip("\r").rpartition("\r")[2]
    return "".join(char for char in shown if char.isprintable() or char == "\t")


def reason(why: str, width: int) -> str:
    """Why a job waits, without what the heading says; of its parts as many as fit, then `…`."""
    for lead in LEADS:
        if why.startswith(lead):
            why = why[len(lead) :]
            break
    if len(why) <= width:
        return why
    *_, end = (0, *(match.start() for match in BREAK.finditer(why) if match.start() <= width - 2))
    return f"{why[:end]} …" if end > width // 3 else one_line(why, max(1, width))


def named(name: str, label: str, width: int) -> str:
    """A job's name with what sets it apart from others of that name, in so many cells. The name gives way
    first and then the words of the label, since values tell such jobs from each other."""
    short = _in_short(label)
    for words in (label, short):
        left = width - len(words) - 1
        if not words or left >= min(len(name), LEAST_NAME):
            return f"{cut(name, left if words else width)} {words}".rstrip()
    return short if len(short) <= width else cut(" ".join(VALUES.findall(short)), width)


def _in_short(label: str) -> str:
    """`LR=0.1 priority=5` of `LEARNING_RATE=0.1 schedule.priority=5`."""
    return KEYS.sub(lambda found: _initials(found[0].rpartition(".")[2]), label)


def _initials(name: str) -> str:
    words = [word for word in name.split("_") if word]
    return "".join(word[0] for word in words) if len(words) > 1 else name


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
