"""What the daemon and its GPU reader say to each other: one line of JSON each.

The daemon sends an `Order`; the reader answers with lines, of which the last has `end`. Before it touches
a GPU it names it (`at`), so that the daemon knows which one a reader hung or died on.
"""

from __future__ import annotations

import msgspec

from trainforged.devices.inventory import Sample


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One round. `skip` are indices of GPUs that must not be touched."""

    skip: tuple[int, ...] = ()


class End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The round is over. `problem`: the driver as a whole cannot be used. `count`: how many GPUs it names."""

    count: int = 0
    driver: str | None = None
    problem: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of these."""

    at: int | None = None
    sample: Sample | None = None
    end: End | None = None
