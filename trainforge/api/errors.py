"""Why a request was refused: `{"error": {"code", "message", "details"}}`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ErrorCode(StrEnum):
    """`error.code` of an answer that is not 2xx, with the HTTP status it comes with."""

    INVALID_SPEC = "invalid_spec"  # 422
    INVALID_REQUEST = "invalid_request"  # 400
    NOT_SIGNED_IN = "not_signed_in"  # 401, on the web port
    FORBIDDEN = "forbidden"  # 403, on the web port
    NOT_FOUND = "not_found"  # 404
    NO_SUCH_JOB = "no_such_job"  # 404
    METHOD_NOT_ALLOWED = "method_not_allowed"  # 405, with Allow
    TIMEOUT = "timeout"  # 408: the request came too slowly
    CONFLICT = "conflict"  # 409: the job's state does not allow it
    MISSING_FILES = "missing_files"  # 409: contents named in `files` were not uploaded
    TOO_LARGE = "too_large"  # 413
    TOO_MANY = "too_many"  # 429, with Retry-After
    NOT_YET = "not_yet"  # 501
    NO_SPACE = "no_space"  # 507: the disk is full; nothing was accepted
    INTERNAL = "internal"  # 500
    UNAVAILABLE = "unavailable"  # 503: the daemon is starting or stopping


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One mistake in what was sent. `line` is known for job files only."""

    path: str
    message: str
    file: str | None = None
    line: int | None = None


class Error(msgspec.Struct, frozen=True, kw_only=True):
    code: ErrorCode
    message: str
    details: tuple[ErrorDetail, ...] = ()


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    error: Error
