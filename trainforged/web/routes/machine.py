"""Routes about the machine and the daemon itself."""

from __future__ import annotations

import datetime
import time
from typing import Annotated, Any

import msgspec
from aiohttp import web

from trainforge.api import DiskAnswer, DrainRequest, ErrorCode, GpuList, GpuView, StatusAnswer
from trainforge.api.report import ReportAnswer
from trainforge.jobfile.units import parse_duration
from trainforged.web.at_once import Question
from trainforged.web.errors import ApiProblem
from trainforged.web.prometheus import CONTENT_TYPE, scrape
from trainforged.web.routing import Call, Routes

routes = Routes()


class GpusQuery(msgspec.Struct, frozen=True, kw_only=True):
    history: Annotated[float, msgspec.Meta(ge=0, le=86400)] | None = None  # seconds


def _gpus_as_they_are(call: Call[GpusQuery, None]) -> Question | None:
    return call.service.memory.gpus if call.query.history is None else None


@routes.add(
    "GET",
    "/v1/gpus",
    "The devices; with `history`, their last so many seconds",
    at_once=_gpus_as_they_are,
)
async def gpus(call: Call[GpusQuery, None]) -> GpuList:
    return await call.service.gpus(call.query.history)


@routes.add("POST", "/v1/gpus/{uuid}/drain", "Give this GPU out no more")
async def drain(call: Call[None, DrainRequest]) -> GpuView:
    return await call.service.drain(call.request.match_info["uuid"], call.body.reason)


@routes.add("POST", "/v1/gpus/{uuid}/undrain", "Offer this GPU again")
async def undrain(call: Call[None, None]) -> GpuView:
    return await call.service.undrain(call.request.match_info["uuid"])


@routes.add(
    "GET",
    "/v1/status",
    "The daemon: version, uptime, counts, load",
    at_once=lambda call: call.service.memory.status,
)
async def status(call: Call[None, None]) -> StatusAnswer:
    return await call.service.status()


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True):
    since: str = "7d"  # how long ago, as a duration, or a moment (RFC 3339)


@routes.add("GET", "/v1/report", "What GPUs were held for, and what was made of them")
async def report(call: Call[ReportQuery, None]) -> ReportAnswer:
    return await call.service.report(_moment(call.query.since))


def _moment(since: str) -> float:
    try:
        return max(0.0, time.time() - parse_duration(since))
    except ValueError:
        pass
    try:
        found = datetime.datetime.fromisoformat(since)
        return max(0.0, (found if found.tzinfo else found.astimezone()).timestamp())
    except (ValueError, OverflowError, OSError) as error:
        message = f"since: expected a duration (7d, 12h) or a moment (2026-11-20), found {since[:40]!r}"
        raise ApiProblem(ErrorCode.INVALID_REQUEST, message) from error


@routes.add("GET", "/v1/disk", "What lies on the disk, and for which job")
async def disk(call: Call[None, None]) -> DiskAnswer:
    return await call.service.disk()


@routes.add("GET", "/v1/openapi.json", "This document")
async def openapi(call: Call[None, None]) -> dict[str, Any]:
    return call.context.describe()


@routes.add("GET", "/metrics", "Figures for Prometheus", content=("text/plain",))
async def prometheus(call: Call[None, None]) -> web.Response:
    return web.Response(body=await scrape(call.context), headers={"Content-Type": CONTENT_TYPE})
