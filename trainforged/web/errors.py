"""The one error that a route, or what stands behind it, refuses a request with.

Everything that goes wrong in a request leaves as `{"error": {...}}`; `trainforged.web.guard`
turns this exception, and every other one, into such an answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from trainforge.api import Error, ErrorAnswer, ErrorCode, ErrorDetail

STATUS = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.NOT_SIGNED_IN: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NO_SUCH_JOB: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.TIMEOUT: 408,
    ErrorCode.CONFLICT: 409,
    ErrorCode.MISSING_FILES: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.INVALID_SPEC: 422,
    ErrorCode.TOO_MANY: 429,
    ErrorCode.INTERNAL: 500,
    ErrorCode.NOT_YET: 501,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.NO_SPACE: 507,
}


class ApiProblem(Exception):
    """The request is refused, and nothing was changed by it.

    `message` is a sentence for people: what, where, what was found, the next step.
    `retry_after` (seconds) tells the client when another try makes sense.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        details: Iterable[ErrorDetail] = (),
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return STATUS[self.code]

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after)))}

    @property
    def answer(self) -> ErrorAnswer:
        """The body of the answer."""
        return ErrorAnswer(error=Error(code=self.code, message=self.message, details=self.details))


def no_such_job(job: int | str) -> ApiProblem:
    return ApiProblem(ErrorCode.NO_SUCH_JOB, f"no such job: {job}")


def no_such_attempt(job: int, attempt: int, newest: int) -> ApiProblem:
    return ApiProblem(ErrorCode.NOT_FOUND, f"job {job} has no attempt {attempt}; its newest is {newest}")
