"""Tables for a pipe: columns padded with spaces, no colour, no cutting; stable for scripts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfctl.render.words import visible


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """`right` are the columns whose values stand at their right edge."""
    lines = [list(heading), *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]

    def cell(text: str, column: int) -> str:
        return text.rjust(widths[column]) if column in right else text.ljust(widths[column])

    return "\n".join("  ".join(map(cell, line, range(len(line)))).rstrip() for line in lines)
