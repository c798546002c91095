"""Every request to the web port passes here first: any local process and any web page can send one.

It comes from a process of this user, since others are turned away as they connect (`peer`). It must name a
loopback host (a rebound name does not), come from the page itself if a browser sent it, and carry a session's
cookie. What the page may load is narrow: nothing from elsewhere, and nothing inline.
"""

from __future__ import annotations

import re
from http.cookies import CookieError, SimpleCookie

from aiohttp import web

from trainforge.api import ErrorCode
from trainforged.web.context import CONTEXT
from trainforged.web.errors import ApiProblem
from trainforged.web.guard import Handler, refusal
from trainforged.web.port.door import Door
from trainforged.web.port.pages import signed_out

SIGN_IN = "/sign-in"
EXPIRES = web.RequestKey("expires", float)  # of the session that the request belongs to
READING = frozenset({"GET", "HEAD"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "trainforged",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Before `guard`, which counts and answers what passes."""
    try:
        _check_origin(request)
        if request.path == SIGN_IN:
            return await handler(request)
        session = _session(request)
    except ApiProblem as problem:
        if problem.code is ErrorCode.NOT_SIGNED_IN and not is_api(request.path):
            return signed_out()
        return refusal(request, problem)
    with door_of(request).belonging(session):
        return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On each answer, as it begins."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def is_api(path: str) -> bool:
    return path.startswith("/v1/") or path in ("/v1", "/metrics")


def cookie_name(request: web.Request) -> str:
    """Cookies are shared by all ports of a host: each daemon has its own."""
    assert request.transport is not None, "the client is there while its request is looked at"
    return f"trainforge-{request.transport.get_extra_info('sockname')[1]}"


def token(request: web.Request) -> str | None:
    """What the cookie says; None where there is none."""
    try:
        found = SimpleCookie(request.headers.get("Cookie", "")).get(cookie_name(request))
    except CookieError:
        return None
    return found.value if found is not None else None


def door_of(request: web.Request) -> Door:
    door = request.app[CONTEXT].door
    assert door is not None, "only the port's application has this gate"
    return door


def _check_origin(request: web.Request) -> None:
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        raise _forbidden("the page is served as localhost and 127.0.0.1 only")
    origins = request.headers.getall("Origin", [])
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        raise _forbidden("the request comes from another page")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") and not _is_link(request):
        raise _forbidden("the request comes from another page")
    if request.method in READING:
        return
    if not origins:
        raise _forbidden("a request that changes something must name its Origin")
    if request.content_type != "application/json":
        raise _forbidden("a request that changes something must have the Content-Type application/json")


def _is_link(request: web.Request) -> bool:
    """Somebody followed a link to the page: shown if the browser sends the cookie, which it does not from
    another site."""
    return (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
        and not is_api(request.path)
    )


def _session(request: web.Request) -> str:
    """The token of the session that the request belongs to; until when goes with the request."""
    cookie = token(request)
    expires = door_of(request).sessions.expiry(cookie) if cookie is not None else None
    if cookie is None or expires is None:
        raise ApiProblem(ErrorCode.NOT_SIGNED_IN, "not signed in: tfctl dashboard opens the page")
    request[EXPIRES] = expires
    return cookie


def _forbidden(why: str) -> ApiProblem:
    return ApiProblem(ErrorCode.FORBIDDEN, why)
