"""The API's description: every route, every type, and nothing that does not resolve."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.shell.fake_service import FakeService
from tests.shell.web.served import served
from trainforged.web.app import TABLE, describe, make_app


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(describe()))
    return found


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_every_registered_route_is_described_and_every_described_one_registered() -> None:
    app = make_app(FakeService())
    registered = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    described = {
        (method.upper(), path) for path, methods in document()["paths"].items() for method in methods
    }

    assert registered == described == {(route.method, route.path) for route in TABLE}


def test_the_contract_is_served() -> None:
    """The calls that programs outside this repository rely on."""
    described = document()["paths"]
    for method, path in (
        ("post", "/v1/jobs"), ("get", "/v1/jobs"), ("get", "/v1/jobs/{id}"), ("delete", "/v1/jobs/{id}"),
        ("patch", "/v1/jobs/{id}"), ("post", "/v1/jobs/{id}/cancel"), ("post", "/v1/jobs/{id}/hold"),
        ("post", "/v1/jobs/{id}/release"), ("post", "/v1/jobs/{id}/retry"), ("get", "/v1/jobs/{id}/logs"),
        ("get", "/v1/jobs/{id}/metrics"), ("get", "/v1/jobs/{id}/events"), ("get", "/v1/events"),
        ("get", "/v1/jobs/{id}/path"), ("post", "/v1/files/missing"), ("put", "/v1/files/{sha256}"),
        ("get", "/v1/gpus"), ("post", "/v1/gpus/{uuid}/drain"), ("post", "/v1/gpus/{uuid}/undrain"),
        ("get", "/v1/status"), ("get", "/v1/disk"), ("post", "/v1/prune"), ("get", "/v1/openapi.json"),
        ("get", "/metrics"),
    ):  # fmt: skip
        assert method in described.get(path, {}), (method, path)


def test_every_reference_resolves_and_every_schema_is_used() -> None:
    whole = document()
    schemas = whole["components"]["schemas"]
    referred = {node["$ref"] for node in nodes(whole) if "$ref" in node}

    assert referred == {f"#/components/schemas/{name}" for name in schemas}


def test_operations_are_named_once_and_name_their_parameters() -> None:
    names = []
    for path, methods in document()["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            in_path = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"]
            assert "default" in operation["responses"]
    assert len(names) == len(set(names))


def test_what_a_route_takes_is_what_it_documents() -> None:
    paths = document()["paths"]

    jobs = {p["name"]: p for p in paths["/v1/jobs"]["get"]["parameters"]}
    assert set(jobs) == {"state", "user", "name", "limit", "cursor"}
    assert "queued" in jobs["state"]["schema"]["items"]["enum"]
    assert (jobs["limit"]["schema"]["maximum"], jobs["limit"]["required"]) == (1000, False)
    body = paths["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"$ref": "#/components/schemas/SubmitRequest"} in body["anyOf"]
    events = paths["/v1/events"]["get"]["responses"]["200"]["content"]
    assert set(events) == {"application/json", "text/event-stream"}
    assert paths["/v1/files/{sha256}"]["put"]["responses"]["204"] == {"description": "done"}


async def test_it_is_served(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        assert (await api.ask("GET", "/v1/openapi.json")).json == document()
