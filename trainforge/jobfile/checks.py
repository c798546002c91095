"""What was written → JobSpec, or every mistake in it at once.

The same checks serve the commands, on a tree read from YAML whose mistakes have lines, and the daemon,
on a JSON object. Sizes in JSON are numbers of bytes and durations numbers of seconds, though text with
a unit is taken too; what `msgspec.to_builtins` makes of a JobSpec gives an equal JobSpec again. Whether
the machine can hold the job is not asked here.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from trainforge.jobfile import readers
from trainforge.jobfile.mistakes import Mistakes, Place, SpecError, expected, format_details
from trainforge.jobfile.readers import Context, Reader, many, one, refused, whole
from trainforge.jobfile.tree import Entry, Fields, Node, Tree, describe, from_object, is_null
from trainforge.spec import (
    Checkpoints,
    Environment,
    JobSpec,
    Notify,
    Project,
    Recovery,
    Resources,
    Schedule,
    Training,
)

__all__ = ["SECTIONS", "SpecError", "check", "check_all", "format_details", "shape"]

_SUGGESTIONS = 50  # beyond that many unknown keys the file is something else

Shape = Literal["one", "many", "either", "map"]


class Key(msgspec.Struct, frozen=True):
    """A key of the job file: how its value is read, and whether that is a scalar, a list or a map."""

    read: Reader
    shape: Shape = "one"


_PATTERNS = Key(many(readers.inside, "patterns"), "many")

SECTIONS: dict[str, dict[str, Key]] = {
    "project": {
        "name": Key(one(readers.name)),
        "description": Key(one(readers.description)),
        "include": _PATTERNS,
        "exclude": _PATTERNS,
        "link": Key(many(readers.below, "paths"), "many"),
    },
    "training": {
        "script": Key(one(readers.filled)),
        "args": Key(many(readers.argument, "arguments"), "many"),
        "requirements": Key(one(readers.below)),
        "command": Key(readers.command, "either"),
    },
    "resources": {
        "gpu": Key(one(readers.gpus)),
        "cpu": Key(one(whole(1, readers.MOST))),
        "memory": Key(one(readers.memory)),
        "gpu_memory": Key(refused("sharing a GPU is not yet built; leave this key out")),
    },
    "environment": {
        "base_image": Key(one(readers.image)),
        "python": Key(one(readers.python)),
        "env": Key(readers.variables, "map"),
    },
    "schedule": {
        "priority": Key(one(whole(-100, 100))),
        "time_limit": Key(one(readers.some_time)),
        "after": Key(readers.jobs, "many"),
        "afterany": Key(readers.jobs, "many"),
        "afternotok": Key(readers.jobs, "many"),
        "begin": Key(readers.begin),
    },
    "recovery": {
        "max_retries": Key(one(whole(0, readers.MOST))),
        "backoff": Key(one(readers.duration)),
        "hang_timeout": Key(one(readers.hang_timeout)),
        "grace": Key(one(readers.duration)),
        "nan_loss": Key(one(readers.nan_loss)),
    },
    "checkpoints": {
        "dir": Key(one(readers.below)),
        "keep": Key(one(whole(1, readers.MOST))),
    },
    "notify": {
        "on": Key(readers.notices, "many"),
        "command": Key(readers.command, "either"),
        "webhook": Key(readers.addresses, "either"),
        "slack": Key(readers.addresses, "either"),
        "discord": Key(readers.addresses, "either"),
        "mail": Key(readers.mailboxes, "either"),
        "desktop": Key(one(readers.boolean)),
    },
}


def check(tree: Tree | dict[str, Any], *, now: datetime.datetime, source: str | None = None) -> JobSpec:
    """The job that a tree, or a JSON object, describes. Raises SpecError with every mistake.

    `now` is aware; `schedule.begin` counts from it. `source` names a JSON object in the mistakes.
    """
    whole_tree = tree if isinstance(tree, Tree) else from_object(tree, source)
    mistakes = Mistakes(whole_tree.problems)
    values = _Checker(Context(mistakes, now)).values(whole_tree.root)
    mistakes.raise_any(whole_tree.files)
    return _spec(values)


def check_all(trees: Iterable[Tree], *, now: datetime.datetime) -> tuple[JobSpec, ...]:
    """The jobs of several trees; a mistake that they share is reported once."""
    specs = []
    details = {}
    for tree in trees:
        try:
            specs.append(check(tree, now=now))
        except SpecError as error:
            details.update(dict.fromkeys(error.details))
    if details:
        raise SpecError(tuple(details))
    return tuple(specs)


def shape(keys: tuple[str, ...]) -> Shape:
    """What may stand at a key path. An unknown one is taken for a scalar: the checks then say so."""
    if len(keys) == 1:
        return "map" if keys[0] in SECTIONS or keys[0] == "env" else "one"
    key = SECTIONS.get(keys[0], {}).get(keys[1])
    return key.shape if key is not None and len(keys) == 2 else "one"


class _Checker:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._mistakes = context.mistakes
        self._suggested = 0

    def values(self, root: Fields) -> dict[str, dict[str, Any]]:
        """What is written in each section. The mistakes say whether it may be used."""
        values = {}
        for name, entry in root.entries.items():
            if name in SECTIONS:
                values[name] = self._section(name, entry.value)
            elif name == "env":  # could not be lifted, since `environment` is no map
                readers.variables(entry.value, name, self._context)
            else:
                self._unknown("", name, entry, [*SECTIONS, "env"])
        self._repeats("", root)
        self._require(root)
        return values

    def _section(self, section: str, node: Node) -> dict[str, Any]:
        if is_null(node):
            return {}
        if not isinstance(node, Fields):
            self._mistakes.add(section, expected("a map", describe(node)), node)
            return {}
        values = {}
        for name, entry in node.entries.items():
            key = SECTIONS[section].get(name)
            if key is None:
                self._unknown(f"{section}.", name, entry, SECTIONS[section])
            elif not is_null(entry.value):
                values[name] = key.read(entry.value, f"{section}.{name}", self._context)
        self._repeats(f"{section}.", node)
        return values

    def _repeats(self, prefix: str, fields: Fields) -> None:
        for repeat in fields.repeats:
            self._mistakes.add(prefix + repeat.path, repeat.message, repeat)

    def _unknown(self, prefix: str, name: str, at: Place, known: Iterable[str]) -> None:
        self._suggested += 1
        near = _nearest(name, known) if self._suggested <= _SUGGESTIONS else None
        hint = f"did you mean {near}?" if near else f"known here: {', '.join(known)}"
        self._mistakes.add(prefix + name, f"unknown key; {hint}", at)

    def _require(self, root: Fields) -> None:
        """The rules that hold between keys."""
        project, training = root.entries.get("project"), root.entries.get("training")
        if _is_map(project) and _written(root, "project", "name") is None:
            self._mistakes.add("project.name", "required, and not given", project or Place(file=root.file))
        script, command = _written(root, "training", "script"), _written(root, "training", "command")
        if _is_map(training) and not script and not command:
            place = training or Place(file=root.file)
            self._mistakes.add("training", "expected a script or a command, found neither", place)
        if script and command:
            self._mistakes.add("training.command", "expected a script or a command, found both", command)
        args = _written(root, "training", "args")
        if command and not script and args and not _is_empty(args.value):
            self._mistakes.add("training.args", "args go to a script; a command has its own", args)


def _spec(values: dict[str, dict[str, Any]]) -> JobSpec:
    recovery = values.get("recovery", {})
    if "command" in values["training"]:
        recovery.setdefault("max_retries", 0)
    return JobSpec(
        project=Project(**values["project"]),
        training=Training(**values["training"]),
        resources=Resources(**values.get("resources", {})),
        environment=Environment(**values.get("environment", {})),
        schedule=Schedule(**values.get("schedule", {})),
        recovery=Recovery(**recovery),
        checkpoints=Checkpoints(**values.get("checkpoints", {})),
        notify=Notify(**values.get("notify", {})),
    )


def _written(root: Fields, section: str, name: str) -> Entry | None:
    entry = root.entries.get(section)
    inner = entry.value.entries.get(name) if entry and isinstance(entry.value, Fields) else None
    return None if inner is None or is_null(inner.value) else inner


def _is_map(section: Entry | None) -> bool:
    """False for what was written in a section's place and is a mistake of its own."""
    return section is None or is_null(section.value) or isinstance(section.value, Fields)


def _is_empty(node: Node) -> bool:
    return is_null(node) or getattr(node, "items", None) == ()


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """What was probably meant: the same key in another section, else a known one spelled alike."""
    homes = [f"{section}.{name}" for section, keys in SECTIONS.items() if name in keys]
    if homes:
        return homes[0]
    if len(name) > 40:
        return None
    from difflib import get_close_matches

    return next(iter(get_close_matches(name.lower(), list(known), n=1)), None)
