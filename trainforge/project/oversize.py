"""What makes a project too large, said so that its user knows what to leave out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from trainforge.jobfile.mistakes import printable

_NAMED = 5
_DOMINANT = 0.9  # a folder of which one of its own makes up this share is named by that one
_ADVICE = (
    "Name what the job reads in project.link (it is used in place), and what it does not need in "
    "project.exclude or .gitignore"
)


def largest(weights: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The few folders and files of the top that weigh most, heaviest first; a folder ends with `/`."""
    totals: defaultdict[str, int] = defaultdict(int)
    inside: defaultdict[str, set[str]] = defaultdict(set)
    for path, weight in weights.items():
        totals[path] += weight
        name = path
        for folder in _folders_above(path):
            inside[folder].add(name)
            totals[folder] += weight
            name = folder
    tops = sorted(inside[""], key=lambda name: (-totals[name], name))[:_NAMED]
    return tuple((name, totals[name]) for name in (_narrow(top, totals, inside) for top in tops))


def describe(heaviest: tuple[tuple[str, int], ...], show: Callable[[int], str]) -> str:
    """The end of a message: `largest: data/raw/ (2.9 GiB), …`, and what to do."""
    named = ", ".join(f"{printable(path)} ({show(weight)})" for path, weight in heaviest)
    return f"largest: {named}. {_ADVICE}"


def show_bytes(size: int) -> str:
    """`2.0 GiB`."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _folders_above(path: str) -> Iterator[str]:
    """`a/b/`, `a/` and the empty one, for `a/b/c`."""
    end = path.rfind("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.rfind("/", 0, end)
    yield ""


def _narrow(name: str, totals: Mapping[str, int], inside: Mapping[str, set[str]]) -> str:
    """Down to the folder that makes `name` as heavy as it is."""
    while folders := [child for child in inside.get(name, ()) if child.endswith("/")]:
        heaviest = max(folders, key=lambda child: totals[child])
        if totals[heaviest] < _DOMINANT * totals[name]:
            break
        name = heaviest
    return name
