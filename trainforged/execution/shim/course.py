"""When to ask and when to kill: the course of one attempt's end. Decides only.

    running ──order──► asked: TERM to the main process ──grace──► KILL
       │                 ├─ all ranks have ended: KILL to their launcher, which has nothing left to do
       │                 └─ the main process ends: TERM to what is left, for the rest of the grace
       ├─ the main process ends with 0: TERM to what is left ──LINGER──► KILL
       ├─ it ends otherwise: KILL what is left
       ├─ a rank is killed, or crashes: KILL; the others have nothing to say to that
       └─ a rank fails otherwise: PATIENCE for the others to say why ──► KILL

TERM goes to the main process alone at first: data-loader workers that end before their rank has
saved would take the save with them. Times are monotonic seconds, handed in.
"""

from __future__ import annotations

LINGER = 5.0  # for helpers that a successful command left behind
PATIENCE = 0.5  # between a rank's death and the end of the others

TERM_MAIN = "term_main"
TERM_ALL = "term_all"
KILL_MAIN = "kill_main"
KILL = "kill"


class Course:
    """Each method takes in what happened and returns what to do now, or None."""

    def __init__(self) -> None:
        self.deadline: float | None = None  # when `due` has something to say
        self.ordered = False  # an order came first, before any failure
        self.killing = False
        self.main_over = False
        self._failing = False

    @property
    def orderly(self) -> bool:
        """No failure yet that would make a stop look like a consequence of it."""
        return not (self.main_over or self._failing or self.killing)

    def order(self, now: float, grace: float) -> str | None:
        """Stop, with time to save. A second order changes nothing."""
        if self.ordered or not self.orderly:
            return None
        self.ordered = True
        self.deadline = now + grace
        return TERM_MAIN

    def order_now(self) -> str | None:
        """Stop, with no time at all."""
        if self.orderly:
            self.ordered = True
        return self._kill()

    def rank_failed(self, now: float, of_itself: bool = False) -> str | None:
        """A rank ended, unordered, and not with 0. `of_itself`: certainly not because it lost another."""
        if not self.orderly or self.ordered:
            return None
        self._failing = True
        self.deadline = now + PATIENCE
        return self._kill() if of_itself else None

    def ranks_over(self) -> str | None:
        """Every rank has ended. A launcher that was told to stop needs 2 s more, and a traceback."""
        return KILL_MAIN if self.ordered and not (self.main_over or self.killing) else None

    def main_ended(self, now: float, success: bool) -> str | None:
        self.main_over = True
        if self.killing:
            return None
        if self.ordered:
            return TERM_ALL
        if success and not self._failing:
            self.deadline = now + LINGER
            return TERM_ALL
        return self._kill()

    def due(self, now: float) -> str | None:
        """What the passing of time brings."""
        if self.killing or self.deadline is None or now < self.deadline:
            return None
        return self._kill()

    def _kill(self) -> str | None:
        if self.killing:
            return None
        self.killing = True
        self.deadline = None
        return KILL
