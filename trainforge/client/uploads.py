"""The contents of files on their way to the daemon: small ones whole, large ones in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from trainforge.client.transport import Request

PIECE = 1024 * 1024  # bytes; a smaller content is sent at once


def put_request(sha256: str, open: Callable[[], BinaryIO]) -> Request:
    """The request that stores one content. `open` is called again for each try."""
    with open() as file:
        small = file.read(PIECE)
        size = file.seek(0, os.SEEK_END)
    if len(small) == size:
        return Request("PUT", f"/v1/files/{sha256}", lambda: small)
    return Request("PUT", f"/v1/files/{sha256}", lambda: _pieces(open, size), size)


def _pieces(open: Callable[[], BinaryIO], size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, as was announced; a file that has shrunk since cannot be sent."""
    left = size
    with open() as file:
        while left:
            piece = file.read(min(left, PIECE))
            if not piece:
                raise OSError(f"{getattr(file, 'name', 'the file')} has become shorter while it was read")
            left -= len(piece)
            yield piece
