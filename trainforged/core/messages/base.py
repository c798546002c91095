"""What all messages have in common."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="kind"):
    """Base of all messages; `tag` puts the class's name into its JSON."""
