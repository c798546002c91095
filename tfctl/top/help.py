"""What the keys do and what the columns mean."""

from __future__ import annotations

from tfctl.top.spans import STRONG, Line, Span

KEYS = (
    ("q", "quit (so does Ctrl-C); jobs are not touched"),
    ("↑ ↓  j k", "choose a job; PgUp PgDn Home End go further"),
    ("l  Enter", "its log as it is written; q comes back"),
    ("L", "its log in $PAGER, or less: Ctrl-C stops following, q comes back"),
    ("c", "cancel it, after y: it gets its time to save"),
    ("h", "hold it, a running one after y (it saves and stops); or release it"),
    ("s", "sort by id, progress, eta or user; the queue only by user"),
)
WORDS = (
    ("USE", "how busy the GPU was: ten seconds to a bar"),
    ("ETA", "time left, from the rate measured in this attempt"),
    ("TRY", "which attempt runs; above 1 it was started again"),
    ("IMG/S", "images per second, or what it does in place of training"),
    ("WHY", "tfctl why JOB says it whole"),
)


def help_lines() -> list[Line]:
    """At most 22 lines of at most 80 cells."""
    out: list[Line] = [()]
    for title, entries in (("Keys", KEYS), ("Words", WORDS)):
        out.append((Span(f" {title}", STRONG),))
        out += [(Span(f"  {word:<10}", STRONG), Span(meaning)) for word, meaning in entries]
        out.append(())
    return out
