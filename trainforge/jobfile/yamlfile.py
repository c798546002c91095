"""YAML text → `trainforge.jobfile.tree`, keeping lines and the text of every scalar.

Reads the parser's events and no further: YAML 1.1's guesses (22:00 is 1320, 010 is 8, on is true) and
its tags, which make Python objects, never come into play. A key that stands in a map twice is a mistake,
and reading goes on; a file that is no YAML, or that is too large, too deep or made to swell by aliases
is refused at once. It imports PyYAML, so import it only when there is YAML to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from trainforge.jobfile.mistakes import Mistakes, Place, SpecError, expected, printable, refusal
from trainforge.jobfile.tree import DEEPEST, Entry, Fields, Items, Node, Scalar, Tree, describe, repeat
from trainforge.project.regular import open_regular

LARGEST = 256 * 1024  # bytes; PyYAML without libyaml still reads that in half a second
MOST_VALUES = 20_000  # with every alias counted as often as it is used

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TOO_DEEP = f"nested more than {DEEPEST} deep"
# At a line's start, in every sense of YAML. Thousands of %TAG lines would also take libyaml minutes.
_DIRECTIVE = "(?:^|[\n\r\x85\u2028\u2029])%(?!YAML )"
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})
_HINTS = {
    "mapping values are not allowed": 'quote a value that contains ": "',
    "could not find expected ':'": 'a key is followed by ": "',
    "found undefined tag handle": "quote a value that begins with !",
    "while scanning an alias": "quote a value that begins with *",
    "while scanning an anchor": "quote a value that begins with &",
}


def read_file(file: str) -> Tree:
    """The tree of a YAML file whose root is a map. Raises SpecError where it cannot be read."""
    try:
        with open_regular(file) as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise refusal(f"cannot be read: {error.strerror}", Place(file=file)) from None
    except ValueError:  # a NUL in the name
        raise refusal("cannot be read: no such file", Place(file=file)) from None
    return parse(data, file)


def parse(data: bytes, file: str | None) -> Tree:
    """The tree of the contents of a YAML file."""
    if len(data) > LARGEST:
        raise refusal(f"larger than {LARGEST >> 10} KiB: this is no job file", Place(file=file))
    root, problems = _read(_decoded(data, file), file)
    if not isinstance(root, Fields):
        raise refusal(expected('a map, such as "project:" with its keys below', describe(root)), root)
    return Tree(root=root, problems=problems.found, files=(file,) if file else ())


def parse_value(text: str, origin: str) -> Node:
    """The node of one value in YAML's notation, given on a command line by the flag `origin`."""
    root, problems = _read(text, origin)
    problems.raise_any()
    return root


def _decoded(data: bytes, file: str | None) -> str:
    if (nul := data.find(b"\0")) >= 0:
        raise refusal("a NUL character: this is no text file", Place(file=file, line=_line(data, nul)))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(file=file, line=_line(error.object, error.start))
        raise refusal(f"not UTF-8: {error.reason}", place) from None


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _read(text: str, file: str | None) -> tuple[Node, Mistakes]:
    if directive := re.search(_DIRECTIVE, text):
        place = Place(file=file, line=text.count("\n", 0, directive.end()) + 1)
        raise refusal("YAML directives are not supported; indent the line if it belongs to a text", place)
    builder = _Builder(yaml.parse(text, Loader=_PARSER), file)
    try:
        return builder.document(), builder.problems
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    except (ValueError, OverflowError) as error:  # of PyYAML's own parser, for an escape like "\UFFFFFFFF"
        raise refusal(f"not YAML: {printable(str(error))}", Place(file=file)) from None


def _syntax_error(error: yaml.YAMLError, text: str, file: str | None) -> SpecError:
    if control := yaml.reader.Reader.NON_PRINTABLE.search(text):
        place = Place(file=file, line=text.count("\n", 0, control.start()) + 1)
        return refusal(f"the control character {printable(control[0])}: this is no text file", place)
    said = _said(error)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return refusal(f"not YAML: {printable(said, 200)}", Place(file=file))
    if "maximum nesting depth" in said:  # libyaml's own bound, met before the first node is made
        return refusal(_TOO_DEEP, Place(file=file, line=mark.line + 1))
    lines = text.splitlines()
    if "cannot start any token" in said and mark.line < len(lines):
        said = _bad_start(lines[mark.line][mark.column :])
    hint = next((f"; {hint}" for sign, hint in _HINTS.items() if sign in said), "")
    return refusal(f"not YAML: {printable(said, 200)}{hint}", Place(file=file, line=mark.line + 1))


def _said(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    context = getattr(error, "context", None)
    return f"{context}: {problem}" if context else str(problem)


def _bad_start(rest: str) -> str:
    if rest.startswith("\t"):
        return "a tab; indent with spaces"
    return f"a value cannot begin with {rest[:1]}; quote it"


class _Builder:
    """Makes nodes of the events of one document."""

    def __init__(self, events: Iterator[Any], file: str | None) -> None:
        self.problems = Mistakes()
        self._events = events
        self._file = file
        self._anchors: dict[str, tuple[Node, int]] = {}  # with how many values the node holds
        self._values = 0
        self._path: list[str] = []

    def document(self) -> Node:
        """The one document of the file."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                node = self._node(next(self._events), 0)
                break
        else:
            raise refusal("empty: there is no key in it", Place(file=self._file, line=1))
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise refusal("a second document (---): a job file is one", self._place(event))
        return node

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > DEEPEST:
            raise refusal(_TOO_DEEP, self._place(event))
        before = self._values
        self._count(1, event)
        node = self._new(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._values - before
        return node

    def _new(self, event: Any, depth: int) -> Node:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!", 1)
            self._problem(event, f"the tag {printable(tag)} is not supported")
        line = event.start_mark.line + 1
        if isinstance(event, yaml.MappingStartEvent):
            return self._map(line, depth + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            items = [self._node(inner, depth + 1) for inner in self._until(yaml.SequenceEndEvent)]
            return Items(items=tuple(items), file=self._file, line=line)
        plain = event.implicit[0] and event.tag is None
        return Scalar(text=event.value, kind="plain" if plain else "text", file=self._file, line=line)

    def _until(self, end: type) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _map(self, line: int, depth: int) -> Fields:
        entries: dict[str, Entry] = {}
        repeats = []
        for event in self._until(yaml.MappingEndEvent):
            key = self._node(event, depth)
            name = key.text if isinstance(key, Scalar) else ""
            self._path.append(name)
            entry = Entry(value=self._node(next(self._events), depth), file=self._file, line=key.line)
            if not isinstance(key, Scalar):
                self._problem(event, f"a key has to be text; this one is {describe(key)}")
            elif name in entries:
                repeats.append(repeat(name, entry, entries[name]))
            else:
                entries[name] = entry
            self._path.pop()
        return Fields(entries=self._merged(entries), repeats=tuple(repeats), file=self._file, line=line)

    def _merged(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """`<<` carried out: what the map itself says wins, then the first of several sources."""
        merge = entries.pop("<<", None)
        for source in () if merge is None else _sources(merge.value):
            if isinstance(source, Fields):
                for key, entry in source.entries.items():
                    entries.setdefault(key, entry)
            else:
                path = ".".join([*self._path, "<<"])
                self.problems.add(path, expected("a map, or a list of maps", describe(source)), source)
        return entries

    def _alias(self, event: Any) -> Node:
        self._count(1, event)
        if event.anchor not in self._anchors:
            name = printable(event.anchor)
            self._problem(event, f"*{name}: nothing before it is named &{name} (a name cannot hold itself)")
            return Scalar(text="an unknown alias", kind="other", file=self._file)
        node, values = self._anchors[event.anchor]
        self._count(values - 1, event)
        return node

    def _count(self, values: int, event: Any) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            raise refusal(f"more than {MOST_VALUES} values: this is no job file", self._place(event))

    def _problem(self, event: Any, message: str) -> None:
        self.problems.add(".".join(self._path), message, self._place(event))

    def _place(self, event: Any) -> Place:
        return Place(file=self._file, line=event.start_mark.line + 1)


def _sources(value: Node) -> tuple[Node, ...]:
    return value.items if isinstance(value, Items) else (value,)
