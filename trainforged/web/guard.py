"""Every request passes here: it is counted, and whatever goes wrong leaves as a JSON error."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from trainforge.api import ErrorCode
from trainforged.web.connection import Connection
from trainforged.web.context import CONTEXT
from trainforged.web.errors import ApiProblem
from trainforged.web.routing import QUESTION, json_response

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if isinstance(request.protocol, Connection):
            request.protocol.admit()
        response = await handler(request)
    except ApiProblem as problem:
        response = refusal(request, problem)
    except web.HTTPException as error:
        response = _translated(request, error)
    except Exception as error:
        if request.transport is None or request.writer.output_size > 0:
            raise ConnectionResetError("the client is gone, or the answer has begun") from error
        response = refusal(request, _internal(request, error))
    route = request.match_info.route.resource
    name = route.canonical if route is not None else ""
    if response.status == 200 and isinstance(request.protocol, Connection) and QUESTION in request:
        request.protocol.learn(name, request[QUESTION])
    request.app[CONTEXT].requests[request.method if name else "", name, response.status] += 1
    return response


def refusal(request: web.Request, problem: ApiProblem) -> web.Response:
    """The problem as an answer."""
    response = json_response(problem.answer, problem.status)
    response.headers.update(problem.headers)
    if not request.content.is_eof():  # what is still to come of the body is not waited for
        response.force_close()
    return response


def _translated(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp raises these while it looks for the route."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path[:200]} takes {allowed}, not {request.method[:20]}"
        response = refusal(request, ApiProblem(ErrorCode.METHOD_NOT_ALLOWED, message))
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, web.HTTPNotFound):
        message = f"no such address: {request.path[:200]} (GET /v1/openapi.json lists them)"
        return refusal(request, ApiProblem(ErrorCode.NOT_FOUND, message))
    return refusal(request, ApiProblem(ErrorCode.INVALID_REQUEST, error.reason))


def _internal(request: web.Request, error: Exception) -> ApiProblem:
    """The client learns an id, the log what happened."""
    id = secrets.token_hex(4)
    log.error("request %s failed: %s %s", id, request.method, request.path, exc_info=error)
    return ApiProblem(ErrorCode.INTERNAL, f"internal error {id}; the daemon's log says more")
