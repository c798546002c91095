"""How the text of a knob is read: kinds of values, each with the words that say what is expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

ON = ("true", "yes", "on", "1")
OFF = ("false", "no", "off", "0")
FIT = 0  # BATCH_SIZE: auto
MANY = 10**9  # more of anything is a slip


class Interval(NamedTuple):
    """So many epochs, or steps; without end when both are zero."""

    epochs: float = 0.0
    steps: int = 0

    def in_steps(self, steps_per_epoch: int) -> int:
        """In steps, at least one; 0 without end."""
        return self.steps or math.ceil(self.epochs * steps_per_epoch)

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps else f"{self.epochs:g}" if self.epochs else "off"


class Kind(NamedTuple):
    """How the text of a knob is read: `parse` raises ValueError for what is not `expected`."""

    expected: str
    parse: Callable[[str], Any]
    choices: tuple[str, ...] = ()


def choice(*names: str) -> Kind:
    def parse(text: str) -> str:
        return names[names.index(text.lower())]

    return Kind(f"one of {', '.join(names)}", parse, names)


def whole(least: int, most: int = MANY) -> Kind:
    def parse(text: str) -> int:
        if not least <= (value := int(text)) <= most:
            raise ValueError
        return value

    return Kind(f"a whole number from {least} to {most}", parse)


def number(limits: str, fits: Callable[[float], bool]) -> Kind:
    def parse(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and fits(value)):
            raise ValueError
        return value

    return Kind(f"a number {limits}", parse)


def auto(kind: Kind) -> Kind:
    """The same, or `auto`, which reads as None and is decided in `complete`."""

    def parse(text: str) -> Any:
        return None if text.lower() == "auto" else kind.parse(text)

    return Kind(f"auto, or {kind.expected}", parse, kind.choices)


def optional(kind: Kind) -> Kind:
    """The same, or nothing, which reads as None and is decided in `complete`."""
    return Kind(kind.expected, lambda text: kind.parse(text) if text else None, kind.choices)


ABOVE_0 = number("above 0", lambda value: value > 0)
EPOCHS = number(f"above 0, {MANY} at most", lambda value: 0 < value <= MANY)
FROM_0 = number("of 0 or more", lambda value: value >= 0)
SHARE = number("from 0 to below 1", lambda value: 0 <= value < 1)
DECAY = number("between 0 and 1", lambda value: 0 < value < 1)


def parse_flag(text: str) -> bool:
    if text.lower() not in ON + OFF:
        raise ValueError
    return text.lower() in ON


def strength(kind: Kind, when_true: float) -> Kind:
    """A number of that kind, or a word: `true` for the usual one, `false` (0) for none."""

    def parse(text: str) -> float:
        if text.lower() in ("true", "yes", "on"):
            return when_true
        return 0.0 if text.lower() in OFF else float(kind.parse(text))

    return Kind(f"{kind.expected}, true ({when_true}) or false", parse)


def parse_batch(text: str) -> int:
    return FIT if text.lower() == "auto" else int(whole(1).parse(text))


def parse_interval(text: str) -> Interval:
    if text.lower() in OFF:
        return Interval()
    steps = re.fullmatch(r"(\d+) *steps?", text.lower())
    return Interval(steps=whole(1).parse(steps[1])) if steps else Interval(epochs=EPOCHS.parse(text))


FLAG = Kind("true or false", parse_flag)
BATCH = Kind(f"auto, or a whole number from 1 to {MANY}", parse_batch)
INTERVAL = Kind("epochs (1, 0.5), steps (`500 steps`) or off", parse_interval)
