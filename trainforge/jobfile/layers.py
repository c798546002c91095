"""Job files, fragments laid over them, and what a command line changes in them → one tree.

Later files lie over earlier ones, flags over the files, `--set` over flags and `--env` over all. The
tree is whole only when `trainforge.jobfile.checks` has read it: a fragment alone is no mistake here.

`--sweep` makes many trees of one. In `--sweep K=V1,V2` a K with a dot is a key path
(`schedule.priority`), one without is the name of a variable in `environment.env` (`BATCH_SIZE`).
Its values are written as in a YAML list: `"a,b",c` are two, and `[1,2],[3]` are two lists.
"""

from __future__ import annotations

import datetime
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar

import msgspec

from trainforge.jobfile.checks import check, shape
from trainforge.jobfile.mistakes import Mistakes, Place, SpecError, expected, format_details, refusal, show
from trainforge.jobfile.tree import (
    Fields,
    Items,
    Node,
    Scalar,
    Setting,
    Tree,
    from_object,
    lay,
    lift_env,
    nested,
    to_plain,
)
from trainforge.spec import JobSpec

__all__ = [
    "Point",
    "Setting",
    "SpecError",
    "format_details",
    "grid",
    "load",
    "parse_set",
    "setting",
    "updated",
    "varied",
]

MOST_POINTS = 10_000  # jobs in one grid
MOST_VARIED = 32  # as many as the API takes

_T = TypeVar("_T")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a grid: what was varied, as (K, value) in the order of the flags, and its tree."""

    values: tuple[tuple[str, str], ...]
    tree: Tree


def load(
    files: Sequence[str | os.PathLike[str]] = (),
    *,
    base: Mapping[str, Any] | None = None,
    over: Iterable[Setting] = (),
    sets: Iterable[str] = (),
    envs: Iterable[str] = (),
) -> Tree:
    """One tree of all that was given, lowest first: `base` (a JSON object), `files`, `over`, `sets`, `envs`.

    `over` are settings made by flags of their own, `sets` and `envs` the texts after `--set` and `--env`.
    Raises SpecError where a file cannot be read or a text has no `=`, with all such mistakes; mistakes that
    reading can go on after are kept in the tree, for the checks to report with their own.
    """
    fatal = Mistakes()
    layers = [from_object(dict(base))] if base is not None else []
    layers += _read_files([os.fspath(file) for file in files], fatal)
    settings = [*over, *_each(parse_set, sets, fatal), *_each(parse_env, envs, fatal)]
    fatal.raise_any([os.fspath(file) for file in files])
    return _laid(_stacked(layers), settings)


def setting(path: str, value: Any, origin: str) -> Setting:
    """A value for a key path, from the flag `origin`: `setting("resources.gpu", "4", "--gpu")`."""
    return Setting(keys=tuple(path.split(".")), value=value, origin=origin)


def parse_set(text: str) -> Setting:
    """`KEY.PATH=VALUE`. A list is written `a,b` or `[a, b]`; nothing, `null` and `~` mean: not set.

    Raises SpecError where the form is wrong. The key may still be unknown: that is for the checks.
    """
    path, equals, value = text.partition("=")
    keys = tuple(path.split("."))
    if not equals or not all(keys):
        raise refusal(expected("KEY.PATH=VALUE", show(text)), Place(file="--set"))
    return Setting(keys=keys, value=_value(keys, value), origin="--set")


def parse_env(text: str) -> Setting:
    """`NAME=VALUE`, the value as it stands. Raises SpecError where the form is wrong."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise refusal(expected("NAME=VALUE", show(text)), Place(file="--env"))
    return Setting(keys=("environment", "env", name), value=value, origin="--env")


def updated(spec: JobSpec, changes: Mapping[str, Any], *, now: datetime.datetime) -> JobSpec:
    """The job with new values at key paths, as in `api.UpdateRequest`. Raises SpecError."""
    settings = [Setting(keys=tuple(path.split(".")), value=value) for path, value in changes.items()]
    return check(_laid(from_object(msgspec.to_builtins(spec)), settings), now=now)


def grid(tree: Tree, sweeps: Sequence[str]) -> tuple[Point, ...]:
    """Every combination of the values of `sweeps`, the last varying fastest; without any, the tree itself.

    Raises SpecError with every mistake in the form of the sweeps.
    """
    fatal = Mistakes()
    axes = list(_each(_axis, sweeps, fatal))
    names = [axis[0].keys for axis in axes]
    for keys in dict.fromkeys(keys for keys in names if names.count(keys) > 1):
        fatal.add(".".join(keys), "swept twice", Place(file="--sweep"))
    if (points := math.prod(map(len, axes))) > MOST_POINTS:
        fatal.add("", expected(f"at most {MOST_POINTS} jobs", str(points)), Place(file="--sweep"))
    fatal.raise_any()
    return tuple(_point(tree, chosen) for chosen in itertools.product(*axes))


def _point(tree: Tree, chosen: Sequence[Setting]) -> Point:
    values = tuple((_swept_name(each.keys), _as_text(each.value)) for each in chosen)
    return Point(values=values, tree=_laid(tree, chosen))


def varied(sweeps: Sequence[str], sets: Sequence[str], envs: Sequence[str]) -> tuple[str, ...]:
    """Key paths of what sets a job apart from others of its project: what is swept, else what was set for it
    alone. All texts are ones that `grid` and `load` have taken."""
    if sweeps:
        keys = [axis[0].keys for axis in map(_axis, sweeps)]
    else:
        keys = [each.keys for each in (*map(parse_set, sets), *map(parse_env, envs))]
    whole = [("environment", *path) if path[0] == "env" else path for path in keys]
    return tuple(dict.fromkeys(map(".".join, whole)))[:MOST_VARIED]


def _axis(text: str) -> list[Setting]:
    name, equals, values = text.partition("=")
    keys = tuple(name.split(".")) if "." in name else ("env", name)
    keys = ("environment", *keys) if keys[0] == "env" else keys
    if not equals or not all(keys) or not values.strip():
        raise refusal(expected("K=V1,V2", show(text)), Place(file="--sweep"))
    listed = _yaml(name, f"[{values}]", "--sweep")
    if not isinstance(listed, Items) or not listed.items:
        hint = "quote a value with brackets in it"
        raise refusal(expected("K=V1,V2", show(text), hint), Place(file="--sweep"))
    return [Setting(keys=keys, value=_swept(keys, node), origin="--sweep") for node in listed.items]


def _swept(keys: tuple[str, ...], node: Node) -> Any:
    """In the environment every scalar is text, `null` too."""
    return node.text if isinstance(node, Scalar) and _in_env(keys) else to_plain(node)


def _swept_name(keys: tuple[str, ...]) -> str:
    return keys[-1] if _in_env(keys) else ".".join(keys)


def _in_env(keys: tuple[str, ...]) -> bool:
    return (len(keys) == 3 and keys[:2] == ("environment", "env")) or (len(keys) == 2 and keys[0] == "env")


def _as_text(value: Any) -> str:
    return " ".join(map(_as_text, value)) if isinstance(value, list) else "" if value is None else str(value)


def _each(parse: Callable[[str], _T], texts: Iterable[str], fatal: Mistakes) -> Iterator[_T]:
    for text in texts:
        try:
            yield parse(text)
        except SpecError as error:
            _keep(error, fatal)


def _keep(error: SpecError, fatal: Mistakes) -> None:
    for detail in error.details:
        fatal.add(detail.path, detail.message, Place(file=detail.file, line=detail.line))


def _value(keys: tuple[str, ...], text: str) -> Any:
    kind = shape(keys)
    if kind == "map" and text.startswith("{"):
        return to_plain(_yaml(".".join(keys), text, "--set"))
    if kind in ("many", "either") and text.startswith("[") and text.endswith("]"):
        return to_plain(_yaml(".".join(keys), text, "--set"))
    if kind == "many":
        return [part.strip() for part in text.split(",")] if text else []
    return None if text in ("", "~", "null") and not _in_env(keys) else text


def _yaml(path: str, text: str, origin: str) -> Node:
    from trainforge.jobfile.yamlfile import parse_value

    try:
        return parse_value(text, origin)
    except SpecError as error:
        mistakes = Mistakes()
        for detail in error.details:
            mistakes.add(path, detail.message, Place(file=origin))  # a flag has no lines
        mistakes.raise_any()
        raise


def _read_files(files: Sequence[str], fatal: Mistakes) -> list[Tree]:
    if not files:
        return []
    from trainforge.jobfile.yamlfile import read_file  # and with it PyYAML, which a `-- COMMAND` does without

    trees = []
    for file in files:
        try:
            trees.append(read_file(file))
        except SpecError as error:
            _keep(error, fatal)
    return trees


def _stacked(layers: Sequence[Tree]) -> Tree:
    if not layers:
        return Tree(root=Fields())
    root = reduce(_lay_root, (lift_env(layer.root) for layer in layers))
    problems = tuple(problem for layer in layers for problem in layer.problems)
    files = tuple(file for layer in layers for file in layer.files)
    return Tree(root=root, problems=problems, files=files)


def _laid(tree: Tree, settings: Iterable[Setting]) -> Tree:
    problems, root, files = Mistakes(tree.problems), tree.root, dict.fromkeys(tree.files)
    for each in settings:
        root = _lay_root(root, lift_env(nested(each, problems)))
        if each.origin is not None:
            files[each.origin] = None
    return Tree(root=root, problems=problems.found, files=tuple(files))


def _lay_root(under: Fields, over: Fields) -> Fields:
    laid = lay(under, over)
    assert isinstance(laid, Fields)
    return laid
