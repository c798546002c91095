"""Routes that take the contents of frozen projects' files."""

from __future__ import annotations

import re

from aiohttp import web

from trainforge.api import ErrorCode, ErrorDetail, MissingAnswer, MissingRequest
from trainforged.web.errors import ApiProblem
from trainforged.web.limits import body_chunks, check_length
from trainforged.web.routing import Call, Routes

routes = Routes()
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@routes.add("POST", "/v1/files/missing", "Which of these contents are not stored")
async def missing(call: Call[None, MissingRequest]) -> MissingAnswer:
    for position, sha256 in enumerate(call.body.files):
        _check(sha256, f"files[{position}]")
    return MissingAnswer(missing=await call.service.missing(call.body.files))


@routes.add("PUT", "/v1/files/{sha256}", "Store one content", status=204, takes_file=True)
async def put_file(call: Call[None, None]) -> web.Response:
    sha256, most = call.request.match_info["sha256"], call.context.limits.file
    _check(sha256, "sha256")
    check_length(call.request, most)
    await call.service.put_file(sha256, body_chunks(call.request, call.context.limits, most))
    return web.Response(status=204)


def _check(sha256: str, path: str) -> None:
    if not SHA256.fullmatch(sha256):
        message = f"expected 64 lower-case hex digits, found {sha256[:80]!r}"
        raise ApiProblem(
            ErrorCode.INVALID_REQUEST, f"{path}: {message}", [ErrorDetail(path=path, message=message)]
        )
