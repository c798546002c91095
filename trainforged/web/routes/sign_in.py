"""Routes about who is signed in to the page."""

from __future__ import annotations

import datetime
import socket

from trainforge.api import ErrorCode
from trainforge.api.page import SessionAnswer, SignInAnswer
from trainforged.web.errors import ApiProblem
from trainforged.web.port.gate import EXPIRES, token
from trainforged.web.routing import Call, Routes

routes = Routes()


@routes.add("POST", "/v1/sign-in", "An address that opens the page, once; over the socket only")
async def sign_in(call: Call[None, None]) -> SignInAnswer:
    door = call.context.door
    if EXPIRES in call.request:
        raise ApiProblem(ErrorCode.NOT_FOUND, "codes are given over the socket only: tfctl dashboard")
    if door is None or door.address is None:
        why = door.problem if door is not None else "it is off"
        raise ApiProblem(ErrorCode.CONFLICT, f"there is no web page: {why}")
    code, expires_at = door.sessions.new_code()
    return SignInAnswer(
        code=code,
        expires_at=datetime.datetime.fromtimestamp(expires_at, datetime.UTC),
        address=f"http://{door.address}/sign-in?code={code}",
    )


@routes.add("GET", "/v1/session", "Who is signed in, and until when")
async def session(call: Call[None, None]) -> SessionAnswer:
    status = await call.service.status()
    expires = call.request.get(EXPIRES)
    return SessionAnswer(
        user=status.user,
        host=socket.gethostname(),
        version=status.version,
        expires_at=None if expires is None else datetime.datetime.fromtimestamp(expires, datetime.UTC),
    )


@routes.add("POST", "/v1/sign-out", "End the session of this browser", status=204)
async def sign_out(call: Call[None, None]) -> None:
    if EXPIRES not in call.request:
        raise ApiProblem(ErrorCode.CONFLICT, "the socket has no session that could be ended")
    secret = token(call.request)
    assert call.context.door is not None, "a session came through it"
    assert secret is not None, "a session has a cookie"
    call.context.door.sign_out(secret)
