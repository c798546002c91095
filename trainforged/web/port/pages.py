"""What people see where there is no page to show: short, whole, and without anything to load."""

from __future__ import annotations

import html

from aiohttp import web


def signed_out() -> web.Response:
    return _page(
        401,
        "Not signed in",
        "This page belongs to the user that TrainForge runs as. In a terminal of that user, "
        "<code>tfctl dashboard</code> opens it, or prints an address that does.",
    )


def wrong_code() -> web.Response:
    return _page(
        401,
        "This sign-in has been used, or is too old",
        "Each address opens the page once, within a minute. <code>tfctl dashboard</code> gives a new one.",
    )


def too_many_tries(seconds: int) -> web.Response:
    response = _page(429, "Too many wrong sign-ins", f"Try again in {seconds} s.")
    response.headers["Retry-After"] = str(seconds)
    return response


def not_built() -> web.Response:
    return _page(
        503,
        "The page is not part of this installation",
        "TrainForge was installed without building it; the daemon and <code>tfctl</code> work. "
        "<code>make page</code> in its source builds it.",
    )


def not_found(path: str) -> web.Response:
    return _page(
        404, "No such page", f"{html.escape(path[:200])} is nothing; <a href='/'>the overview</a> is."
    )


def _page(status: int, title: str, text: str) -> web.Response:
    body = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'>"
        f"<title>{title} - TrainForge</title><h1>{title}</h1><p>{text}</p></html>"
    )
    return web.Response(text=body, status=status, content_type="text/html", charset="utf-8")
