"""What was written, before it means anything: scalars, lists and maps that know their place.

Made from YAML (`yamlfile`) or from a JSON object; laid over one another by `layers`; given a meaning
by `checks`. No value is guessed: a scalar of YAML stays the text that stands in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from trainforge.jobfile.mistakes import Mistake, Mistakes, Place, expected, refusal, show

DEEPEST = 16  # a job file needs 4

# plain: YAML without quotes, of whatever type its reader takes it for · text: quoted, or a string of
# JSON · number, boolean, null: of JSON · other: what neither can hold; `text` then describes it
Kind = Literal["plain", "text", "number", "boolean", "null", "other"]


class Scalar(Place, frozen=True, kw_only=True):
    text: str
    kind: Kind = "plain"


class Items(Place, frozen=True, kw_only=True):
    """A list."""

    items: tuple[Node, ...] = ()


class Entry(Place, frozen=True, kw_only=True):
    """A value in a map. The place is its key's."""

    value: Node


class Fields(Place, frozen=True, kw_only=True):
    """A map. `repeats` are the keys that stand in it a second time, each as `Mistake` with the bare key."""

    entries: dict[str, Entry] = {}
    repeats: tuple[Mistake, ...] = ()


Node = Scalar | Items | Fields


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """A job description as written. `problems` are mistakes that reading it went on after."""

    root: Fields
    problems: tuple[Mistake, ...] = ()
    files: tuple[str, ...] = ()  # in the order in which mistakes are to be reported


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value from outside any file: `keys` is its path, `origin` names the flag it came from.

    `value` is text, a list, a map or None, as in JSON.
    """

    keys: tuple[str, ...]
    value: Any
    origin: str | None = None


def is_null(node: Node) -> bool:
    """True where a key has no value: in a section it then counts as not written."""
    if not isinstance(node, Scalar):
        return False
    return node.kind == "null" or (node.kind == "plain" and node.text in ("", "~", "null", "Null", "NULL"))


def describe(node: Node) -> str:
    """What was found, in a message."""
    if isinstance(node, Items):
        return "a list"
    if isinstance(node, Fields):
        return "a map"
    if node.kind in ("null", "other"):
        return node.text or "null"
    if node.kind == "plain" and not node.text:
        return "nothing"
    return show(node.text)


def lay(under: Node, over: Node) -> Node:
    """`over` upon `under`: maps are merged, anything else is replaced.

    A map stays where nothing is written over it: an `env:` whose every line is commented out changes nothing.
    """
    if not isinstance(under, Fields):
        return over
    if isinstance(over, Fields):
        return _merge(under, over)
    return under if is_null(over) else over


def _merge(under: Fields, over: Fields) -> Fields:
    entries = dict(under.entries)
    for key, entry in over.entries.items():
        below = entries.get(key)
        value = entry.value if below is None else lay(below.value, entry.value)
        entries[key] = Entry(value=value, file=entry.file, line=entry.line)
    place = under if under.file else over
    return Fields(entries=entries, repeats=under.repeats + over.repeats, file=place.file, line=place.line)


def lift_env(root: Fields) -> Fields:
    """Move a top-level `env` to where it is short for. Left in place where `environment` is no map."""
    short = root.entries.get("env")
    if short is None:
        return root
    environment = root.entries.get("environment", Entry(value=Fields(), file=short.file, line=short.line))
    section = Fields(file=short.file) if is_null(environment.value) else environment.value
    if not isinstance(section, Fields):
        return root
    whole = section.entries.get("env")
    env = _joined(whole.value, short.value) if whole else short.value
    section = _with(section, "env", Entry(value=env, file=short.file, line=short.line))
    root = _with(root, "environment", Entry(value=section, file=environment.file, line=environment.line))
    return replace(root, entries={key: entry for key, entry in root.entries.items() if key != "env"})


def _with(fields: Fields, key: str, entry: Entry) -> Fields:
    return replace(fields, entries={**fields.entries, key: entry})


def _joined(whole: Node, short: Node) -> Node:
    """Both spellings of one map in one file: neither lies over the other, so a name may stand in one only."""
    if not (isinstance(whole, Fields) and isinstance(short, Fields)):
        return lay(whole, short)
    both = whole.entries.keys() & short.entries.keys()
    twice = [repeat(key, short.entries[key], whole.entries[key]) for key in sorted(both)]
    merged = _merge(whole, short)
    return replace(merged, repeats=(*merged.repeats, *twice))


def repeat(key: str, again: Place, first: Place) -> Mistake:
    """The mistake of a key that stands in a map twice."""
    earlier = f"; first on line {first.line}" if first.line is not None else ""
    return Mistake(path=key, message=f"given twice{earlier}", file=again.file, line=again.line)


def nested(setting: Setting, problems: Mistakes) -> Fields:
    """The smallest tree that holds the setting."""
    place = Place(file=setting.origin)
    node = from_plain(setting.value, setting.origin, problems, ".".join(setting.keys))
    for key in reversed(setting.keys):
        node = Fields(entries={key: Entry(value=node, file=place.file)}, file=place.file)
    assert isinstance(node, Fields)
    return node


def from_object(value: object, file: str | None = None) -> Tree:
    """The tree of a JSON object. Raises SpecError where it is no object."""
    problems = Mistakes()
    root = from_plain(value, file, problems)
    if not isinstance(root, Fields):
        raise refusal(expected("a map", describe(root)), root)
    return Tree(root=lift_env(root), problems=problems.found, files=(file,) if file else ())


def from_plain(value: object, file: str | None, problems: Mistakes, path: str = "", depth: int = 0) -> Node:
    """The node of any value as JSON has it; what JSON cannot hold becomes a scalar that no reader takes."""
    if not isinstance(value, (dict, list, tuple)):
        return _scalar(value, file)
    if depth == DEEPEST:
        problems.add(path, f"nested more than {DEEPEST} deep", Place(file=file))
        return Scalar(text="a nested value", kind="other", file=file)
    if isinstance(value, dict):
        return _fields(value, file, problems, path, depth + 1)
    items = [from_plain(item, file, problems, path, depth + 1) for item in value]
    return Items(items=tuple(items), file=file)


def _fields(
    value: Mapping[Any, object], file: str | None, problems: Mistakes, path: str, depth: int
) -> Fields:
    entries = {}
    for key, item in value.items():
        name = key if isinstance(key, str) else repr(key)
        inner = f"{path}.{name}" if path else name
        entries[name] = Entry(value=from_plain(item, file, problems, inner, depth), file=file)
    return Fields(entries=entries, file=file)


def _scalar(value: object, file: str | None) -> Scalar:
    if isinstance(value, str):
        return Scalar(text=value, kind="text", file=file)
    if value is None:
        return Scalar(text="", kind="null", file=file)
    if isinstance(value, bool):
        return Scalar(text="true" if value else "false", kind="boolean", file=file)
    if isinstance(value, (int, float)):
        try:
            return Scalar(text=repr(value), kind="number", file=file)
        except ValueError:  # Python does not write out integers of more than some thousand digits
            return Scalar(text="an enormous number", kind="other", file=file)
    return Scalar(text=f"a {type(value).__name__}", kind="other", file=file)


def to_plain(node: Node) -> Any:
    """The value as JSON has it; what was no number in JSON is text. None where nothing is written."""
    if isinstance(node, Items):
        return [to_plain(item) for item in node.items]
    if isinstance(node, Fields):
        return {key: to_plain(entry.value) for key, entry in node.entries.items()}
    if node.kind == "number":
        return int(node.text) if node.text.lstrip("-").isdigit() else float(node.text)
    if node.kind == "boolean":
        return node.text == "true"
    return None if is_null(node) else node.text
