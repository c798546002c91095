"""Effects: orders in the imperative, for others to perform."""

from __future__ import annotations

from trainforged.core.messages.base import Message


class Effect(Message, frozen=True, kw_only=True):
    """An order. Doing it twice does no harm: it is keyed by the attempt."""

    job: int
    attempt: int


class StartAttempt(Effect, frozen=True, kw_only=True):
    """Answered by `AttemptStarted` or `AttemptEnded`. Given again after a restart: a shim that
    already runs is adopted, a status already written is read."""

    gpus: tuple[str, ...]
    cpu: int
    memory: int


class AdoptAttempt(Effect, frozen=True, kw_only=True):
    """Find what a former daemon started. Answered as `StartAttempt`; starts nothing."""


class StopAttempt(Effect, frozen=True, kw_only=True):
    """TERM, `grace` seconds, KILL. Answered by `AttemptEnded`."""

    grace: float


class ReleaseLease(Effect, frozen=True, kw_only=True):
    """See to it that nothing of the attempt is left. Answered by `LeaseReleased`."""

    gpus: tuple[str, ...]


class RemoveFiles(Effect, frozen=True, kw_only=True):
    """Delete the folder of a job that was removed. Not answered."""
