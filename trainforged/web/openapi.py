"""The API's description in OpenAPI 3.1, from the declared routes and the code's own types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

import trainforge
from trainforge.api import ErrorAnswer
from trainforged.web.routing import Route

REFERENCE = "#/components/schemas/{name}"


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    routes = list(routes)
    types = [ErrorAnswer, *(t for r in routes for t in (r.body, r.answer) if t is not None)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    known = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {"title": "TrainForge", "version": trainforge.__version__},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    parameters = [*_in_path(route), *_in_query(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"content": _json(known[repr(route.body)])}
    if route.takes_file:
        operation["requestBody"] = {"content": {"application/octet-stream": {}}}
    operation["responses"] = {
        str(route.status): _answer(route, known),
        "default": {"description": "refused", "content": _json(known[repr(ErrorAnswer)])},
    }
    return operation


def _answer(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    content = {} if route.answer is None else _json(known[repr(route.answer)])
    for kind in route.content:
        content[kind] = {"schema": {"type": "string"}}
    return {"description": "done", "content": content} if content else {"description": "done"}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _in_path(route: Route) -> Iterable[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        kind = {"type": "integer"} if name == "id" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": kind}


def _in_query(route: Route) -> Iterable[dict[str, Any]]:
    if route.query is None:
        return
    for field in msgspec.structs.fields(route.query):
        schema, components = msgspec.json.schema_components([field.type])
        yield {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": _inline(schema[0], components),
        }


def _inline(schema: Any, components: dict[str, Any]) -> Any:
    """Parameters hold small types only (a list of states): written out in place."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(components[schema["$ref"].rpartition("/")[2]], components)
        return {key: _inline(value, components) for key, value in schema.items()}
    return [_inline(part, components) for part in schema] if isinstance(schema, list) else schema
