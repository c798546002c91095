"""Results as text on a terminal, as JSON, and together as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from benchmarks.figures import Bound, Conditions, Figure, Machine, Result

VERDICTS = {True: "yes", False: "NO", None: ""}
SUMMARY = """# Speed

Made by `python -m benchmarks` from the files in `results/`; not to be edited. Times are medians unless
they say otherwise; a ratio is the median over pairs that were measured in turn. *Load* is the
machine's one-minute average before and after: above the number of cores, it was busy with other things.
"""
Table = list[list[str]]


def as_text(result: Result) -> str:
    rows = _table(result.figures)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(map(_justified, row, widths, range(len(row)))) for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    head = f"\n{result.name}: {result.title}  ({_conditions(result)})"
    return "\n".join(line.rstrip() for line in [head, *lines, *_remarks(result)])


def _justified(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def as_markdown(result: Result) -> str:
    head, *rows = _table(result.figures)
    cells = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    table = ["| " + " | ".join(row) + " |" for row in cells]
    remarks = [f"- {line}" for line in _remarks(result)]
    title = result.title[0].upper() + result.title[1:]
    return "\n".join([f"## {title}", "", *table, "", *remarks, f"- {_conditions(result)}", ""])


def write(result: Result, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(result), indent=2)
    (folder / f"{result.name}.json").write_bytes(text + b"\n")


def write_summary(folder: Path, names: Iterable[str]) -> None:
    """RESULTS.md beside the folder, from all the results that lie in it."""
    paths = [folder / f"{name}.json" for name in names]
    results = [msgspec.json.decode(path.read_bytes(), type=Result) for path in paths if path.exists()]
    machines = list(dict.fromkeys(_machine(result.machine) for result in results))
    parts = [SUMMARY, *(f"{machine}\n" for machine in machines), *map(as_markdown, results)]
    (folder.parent / "RESULTS.md").write_text("\n".join(parts))


# ---- tables


def _table(figures: Sequence[Figure]) -> Table:
    """With the peers in columns of their own where there are several, else with one for what is beside."""
    peers = list(dict.fromkeys(name for figure in figures for name in figure.others))
    if any(len(figure.others) > 1 for figure in figures):
        return _of_peers(figures, peers)
    rows = [["", "TrainForge", "beside", "ratio", "bound", "met"]]
    for figure in figures:
        beside = [f"{name} {quantity(value, figure.unit)}" for name, value in figure.others.items()]
        rows.append(
            [_what(figure), quantity(figure.value, figure.unit), *(beside or [""]), *_verdict(figure)]
        )
    return rows


def _of_peers(figures: Sequence[Figure], peers: Sequence[str]) -> Table:
    rows = [["", "TrainForge", *peers]]
    for figure in figures:
        values = [figure.value, *(figure.others.get(peer) for peer in peers)]
        rows.append([_what(figure), *(quantity(value, figure.unit) for value in values)])
    return rows


def _what(figure: Figure) -> str:
    return f"{figure.what} ({figure.note})" if figure.note else figure.what


def _verdict(figure: Figure) -> list[str]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.3g} ×"
    return [ratio, _bound(figure.bound, figure.unit), VERDICTS[figure.met]]


def _bound(bound: Bound | None, unit: str) -> str:
    if bound is None:
        return ""
    limit = quantity(bound.limit, unit) if bound.of == "value" else f"{bound.limit:g} ×"
    counts = f" ({bound.waived})" if bound.waived else ""
    return f"{'≥' if bound.least else '≤'} {limit}{counts}"


def quantity(value: float | None, unit: str) -> str:
    """Three digits that mean something, and the unit."""
    if value is None:
        return "–"
    digits = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{digits} {unit}".rstrip()


# ---- what else is to be known


def _remarks(result: Result) -> list[str]:
    quick = ["a quick run: too few repetitions for the figures to mean much"] if result.quick else []
    return [*quick, *result.notes]


def _conditions(result: Result) -> str:
    seconds = (result.after.at - result.before.at).total_seconds()
    day, cores = result.before.at.date().isoformat(), result.machine.cores
    loads = " and ".join(_load(conditions) for conditions in (result.before, result.after))
    syncs = f"{result.machine.fdatasyncs:,.0f} fdatasync/s"
    realtime = " that it went before" if result.before.realtime else ""
    return f"{day}, {seconds:.0f} s, load {loads} on {cores} cores{realtime}, {syncs}; {result.machine.cpu}"


def _load(conditions: Conditions) -> str:
    return f"{conditions.load[0]:.1f}"


def _machine(machine: Machine) -> str:
    return (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB; {machine.system}, Linux "
        f"{machine.kernel}, {machine.file_system}; Python {machine.python}; TrainForge {machine.version}."
    )
