"""Replies: what whoever asked for something is told."""

from __future__ import annotations

import msgspec


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event was taken; `jobs` are the ids it made or touched."""

    jobs: tuple[int, ...] = ()


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The event changed nothing. `code` is one of `trainforge.api.ErrorCode`."""

    code: str
    message: str
    path: str | None = None


Reply = Accepted | Refused
