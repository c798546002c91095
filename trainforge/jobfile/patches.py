"""JSON merge patches (RFC 7396): what sets one JSON object apart from another, and laying it over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def difference(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that makes `over` of `under`, a null counting as no key at all."""
    patch: dict[str, Any] = {key: None for key in under if key not in over}
    for key, value in over.items():
        before = under.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


def patched(under: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A new object; what the patch leaves alone is shared with `under`."""
    out = dict(under)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            before = out.get(key)
            out[key] = patched(before if isinstance(before, dict) else {}, value)
        else:
            out[key] = value
    return out
