"""What the shim needs of the standard library, from its C halves.

`json`, `socket` and `signal` draw in `re`, `enum` and `collections`: 23 ms from start to ready
become 13, for every attempt of every job. On a Python without these halves the public modules serve.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable
    from json.encoder import encode_basestring_ascii as _quote
    from json.scanner import make_scanner
    from typing import Any
else:
    try:
        import _signal as signal
        import _socket as socket
        from _json import encode_basestring_ascii as _quote
        from _json import make_scanner
    except ImportError:
        import signal
        import socket
        from json.encoder import encode_basestring_ascii as _quote
        from json.scanner import make_scanner

__all__ = ["compose", "parse", "signal", "socket"]


class _Plain:
    """The settings of `json.loads` without arguments."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    parse_object = parse_array = parse_string = None
    memo: dict[str, str] = {}


def _parser() -> Callable[[str], Any]:
    try:
        scan = make_scanner(_Plain)  # type: ignore[arg-type]  # typed by its own result
        if scan('{"a": [1, 2.5, null, "b"]}', 0)[0] == {"a": [1, 2.5, None, "b"]}:
            return lambda text: scan(text, 0)[0]
    except Exception:  # this half is private: whatever it says, it is not the one we know
        pass
    from json import loads

    return loads


_scan = _parser()


def parse(text: str | bytes) -> Any:
    """JSON to objects. Raises ValueError; what follows the first value is not looked at."""
    try:
        return _scan((text.decode() if isinstance(text, bytes) else text).strip())
    except (StopIteration, RecursionError):
        raise ValueError("not JSON") from None


def compose(value: object) -> str:
    """Objects to JSON: None, bool, int, finite float, str, list, tuple and dict with str keys."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quote(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {compose(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(compose(item) for item in value) + "]"
    raise TypeError(f"no JSON form: {value!r}")
