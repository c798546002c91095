"""What the daemon answers when it refuses, as an exception."""

from __future__ import annotations

import msgspec

from trainforge.api import ErrorCode, ErrorDetail


class ApiError(Exception):
    """The daemon refused; nothing was changed. `details` names each mistake in what was sent."""

    def __init__(
        self, code: ErrorCode, message: str, details: tuple[ErrorDetail, ...] = (), status: int = 0
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.status = status


class _Error(msgspec.Struct):
    code: str
    message: str
    details: tuple[ErrorDetail, ...] = ()


class _ErrorAnswer(msgspec.Struct):
    error: _Error


def refusal(status: int, body: bytes) -> ApiError:
    """A code that this version does not know (the daemon is newer) reads as `internal`."""
    try:
        error = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ApiError(ErrorCode.INTERNAL, f"the daemon answered {status} without saying why", (), status)
    known = error.code in ErrorCode.__members__.values()
    code = ErrorCode(error.code) if known else ErrorCode.INTERNAL
    return ApiError(code, error.message, error.details, status)
