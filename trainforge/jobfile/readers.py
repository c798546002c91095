"""One value of the job file each: from a node of what was written to what it means.

A parser takes a node and returns its value, or raises ValueError with the whole sentence. A Reader
looks at everything below its node, notes every mistake, and returns a value that counts only if
there was none.
"""

from __future__ import annotations

import datetime
import posixpath
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from trainforge.jobfile.mistakes import Mistakes, expected, show
from trainforge.jobfile.tree import Fields, Items, Node, Scalar, describe
from trainforge.jobfile.units import (
    BEGIN,
    DURATION,
    SIZE,
    parse_begin,
    parse_duration,
    parse_size,
    within_longest,
)
from trainforge.protocol import RESERVED
from trainforge.spec import NOTICE_KINDS

MOST = 1_000_000  # of anything that is counted
LONGEST_STRING = 128 * 1024 - 1  # bytes in one argument, or in NAME=VALUE, that Linux hands to a program
LEAST_MEMORY = 1 << 20  # less is a number whose unit was forgotten

_LARGEST_ID = 2**63 - 1

_BOOLEANS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


class Context(NamedTuple):
    """What reading a value may need beside the value."""

    mistakes: Mistakes
    now: datetime.datetime


Reader = Callable[[Node, str, Context], Any]
Parser = Callable[[Node], Any]


def one(parse: Parser) -> Reader:
    """A single value."""

    def read(node: Node, path: str, context: Context) -> Any:
        try:
            return parse(node)
        except ValueError as error:
            context.mistakes.add(path, str(error), node)

    return read


def many(parse: Parser, what: str) -> Reader:
    """A list; `what` names its items, as in `a list of patterns`."""
    read_one = one(parse)

    def read(node: Node, path: str, context: Context) -> tuple[Any, ...]:
        if not isinstance(node, Items):
            context.mistakes.add(path, expected(f"a list of {what}", describe(node)), node)
            return ()
        return tuple([read_one(item, f"{path}[{index}]", context) for index, item in enumerate(node.items)])

    return read


def jobs(node: Node, path: str, context: Context) -> tuple[int, ...]:
    """Numbers of jobs, each once."""
    return tuple(dict.fromkeys(many(whole(1, _LARGEST_ID), "job numbers")(node, path, context)))


def refused(message: str) -> Reader:
    """A key that is known, and not built."""

    def read(node: Node, path: str, context: Context) -> None:
        context.mistakes.add(path, message, node)

    return read


def begin(node: Node, path: str, context: Context) -> datetime.datetime | None:
    try:
        return parse_begin(string(node, BEGIN), context.now)
    except ValueError as error:
        context.mistakes.add(path, str(error), node)
        return None


def command(node: Node, path: str, context: Context) -> tuple[str, ...]:
    """A list as it is; a text is the shell's."""
    if not isinstance(node, Items):
        text = one(_filled("a command, as a text or a list"))(node, path, context)
        return ("/bin/sh", "-c", text)
    words: tuple[str, ...] = many(argument, "arguments")(node, path, context)
    if not words or words[0] == "":
        context.mistakes.add(path, expected("a program to run", "nothing"), node)
    return words


def notices(node: Node, path: str, context: Context) -> tuple[str, ...]:
    """Kinds of notices, each once."""
    return tuple(dict.fromkeys(many(_notice, "kinds")(node, path, context)))


def _notice(node: Node) -> str:
    what = f"one of {', '.join(NOTICE_KINDS)}"
    text = string(node, what)
    if text not in NOTICE_KINDS:
        raise ValueError(expected(what, describe(node)))
    return text


def one_or_many(parse: Parser, what: str) -> Reader:
    """A list; a single value is a list of one."""

    def read(node: Node, path: str, context: Context) -> tuple[Any, ...]:
        if isinstance(node, Items):
            return many(parse, what)(node, path, context)  # type: ignore[no-any-return]
        return (one(parse)(node, path, context),)

    return read


def _address(node: Node) -> str:
    what = "an address that begins with https:// or http://"
    text = string(node, what)
    if not re.fullmatch(r"https?://[!-~]{1,2000}", text):
        raise ValueError(expected(what, describe(node)))
    return text


def _mailbox(node: Node) -> str:
    what = "a mail address"
    text = string(node, what)
    if not re.fullmatch(r"[A-Za-z0-9._%+][A-Za-z0-9._%+-]{0,63}(@[A-Za-z0-9.-]{1,250})?", text):
        raise ValueError(expected(what, describe(node)))
    return text


addresses = one_or_many(_address, "addresses")
mailboxes = one_or_many(_mailbox, "mail addresses")


def boolean(node: Node) -> bool:
    text = scalar(node, "true or false")
    if text.lower() not in ("true", "false"):
        raise ValueError(expected("true or false", describe(node)))
    return text.lower() == "true"


def variables(node: Node, path: str, context: Context) -> dict[str, str]:
    """Environment variables: the text as written, but for True and FALSE without quotes."""
    if not isinstance(node, Fields):
        context.mistakes.add(path, expected("a map of names and values", describe(node)), node)
        return {}
    values = {}
    for name, entry in node.entries.items():
        try:
            _check_name(name)
        except ValueError as error:
            context.mistakes.add(f"{path}.{name}", str(error), entry)
            continue
        values[name] = one(_value_of(name))(entry.value, f"{path}.{name}", context)
    for twice in node.repeats:
        context.mistakes.add(f"{path}.{twice.path}", twice.message, twice)
    return values


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            expected("a name of letters, digits and _ that does not begin with a digit", show(name))
        )
    if name in RESERVED:
        raise ValueError("TrainForge sets this variable itself; choose another name")


def _value_of(name: str) -> Parser:
    def parse(node: Node) -> str:
        text = scalar(node, "a text, a number, true or false")
        if isinstance(node, Scalar) and node.kind == "plain":
            text = _BOOLEANS.get(text, text)
        return _passable(text, len(name) + 1)

    return parse


def scalar(node: Node, what: str) -> str:
    """The text of a single value of any type."""
    if not isinstance(node, Scalar) or node.kind in ("null", "other"):
        raise ValueError(expected(what, describe(node)))
    if "\0" in node.text:
        raise ValueError(expected(what, "a NUL character in it"))
    if not node.text.isascii() and any("\ud800" <= char <= "\udfff" for char in node.text):
        raise ValueError(expected(what, "bytes in it that are not UTF-8"))
    return node.text


def string(node: Node, what: str = "a text") -> str:
    """A text: in JSON not a number or a boolean; in YAML whatever stands there."""
    if isinstance(node, Scalar) and node.kind in ("number", "boolean"):
        raise ValueError(expected(what, describe(node)))
    return scalar(node, what)


def argument(node: Node) -> str:
    if isinstance(node, Scalar) and node.kind == "plain" and not node.text:
        raise ValueError(expected("an argument", "nothing", 'an empty one is written ""'))
    return _passable(scalar(node, "a text or a number"), 0)


def _passable(text: str, besides: int) -> str:
    if len(text) > LONGEST_STRING // 4 and len(text.encode()) + besides > LONGEST_STRING:
        raise ValueError(expected("at most 128 KiB", f"{len(text)} characters: no program can be given that"))
    return text


def _filled(what: str) -> Parser:
    def parse(node: Node) -> str:
        text = _passable(string(node, what), 0)
        if not text.strip():
            raise ValueError(expected(what, describe(node)))
        return text

    return parse


filled = _filled("a text")


def name(node: Node) -> str:
    what = "a name of at most 63 letters, digits, '.', '_' and '-' that begins with a letter"
    text = string(node, what)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,62}", text):
        raise ValueError(expected(what, describe(node)))
    return text


def whole(least: int, most: int) -> Parser:
    """A whole number, in decimal digits."""
    what = f"a whole number from {least} to {most}" if most <= MOST else f"a whole number, {least} or more"

    def parse(node: Node) -> int:
        number = _whole(scalar(node, what))
        if number is None or not least <= number <= most:
            raise ValueError(expected(what, describe(node)))
        return number

    return parse


def _whole(text: str) -> int | None:
    # no leading zero: YAML has taken 010 for 8 and for 10
    return int(text) if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", text) else None


def gpus(node: Node) -> int | str:
    """A number, or a range as text. A range of one number is that number."""
    what = 'a number of GPUs, 0 or more, or a range such as "2-8"'
    text = scalar(node, what)
    number = _whole(text)
    if number is not None and 0 <= number <= MOST:
        return number
    least, most = (_whole(part) for part in text.partition("-")[::2])
    if least is None or most is None or not 1 <= least <= most <= MOST:
        raise ValueError(expected(what, describe(node)))
    return least if least == most else f"{least}-{most}"


def memory(node: Node) -> int:
    text = scalar(node, SIZE)
    size = parse_size(text)
    if size < LEAST_MEMORY:
        hint = f"did you mean {text}Gi?" if text.isdigit() and 0 < size <= 4096 else ""
        raise ValueError(expected("at least 1Mi of memory", f"{size} bytes", hint))
    return size


def duration(node: Node) -> float:
    """Seconds. A number of JSON is a number of seconds; in YAML and in text it needs a unit."""
    text = scalar(node, DURATION)
    if isinstance(node, Scalar) and node.kind == "number":
        return within_longest(float(text), text)
    return parse_duration(text)


def some_time(node: Node) -> float:
    """A duration longer than none."""
    seconds = duration(node)
    if seconds == 0:
        raise ValueError(expected("a duration longer than 0", describe(node)))
    return seconds


def hang_timeout(node: Node) -> float | str:
    if isinstance(node, Scalar) and node.text in ("auto", "off"):
        return node.text
    try:
        return some_time(node)
    except ValueError as error:
        raise ValueError(
            str(error).replace("expected a duration", "expected auto, off or a duration")
        ) from None


def nan_loss(node: Node) -> str:
    what = "warn, stop or off"
    text = scalar(node, what)
    if text not in ("warn", "stop", "off"):
        raise ValueError(expected(what, describe(node)))
    return text


def python(node: Node) -> str:
    what = "current, isolated or an absolute path"
    text = string(node, what)
    if text not in ("current", "isolated") and not (text.startswith("/") and text.strip("/")):
        raise ValueError(expected(what, describe(node)))
    return text


def inside(node: Node) -> str:
    """A path, or a pattern of paths, below the project's root."""
    what = "a path inside the project"
    text = string(node, what)
    if not text.strip() or text.startswith(("/", "~/")) or ".." in text.split("/"):
        raise ValueError(expected(what, describe(node)))
    return text


def below(node: Node) -> str:
    """A path inside the project that is not its root, in its shortest form."""
    path = posixpath.normpath(inside(node))
    if path == ".":
        raise ValueError(expected("a path below the project's root", describe(node)))
    return path


def description(node: Node) -> str:
    text = string(node)
    if any((char < " " and char not in "\n\t") or "\x7f" <= char <= "\x9f" for char in text):
        raise ValueError(expected("a text", "control characters in it"))
    return text


def image(node: Node) -> str:
    what = "the name of an image"
    text = string(node, what)
    if not text or not text.isprintable() or " " in text:
        raise ValueError(expected(what, describe(node)))
    return text
