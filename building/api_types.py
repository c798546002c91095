"""The page's types, from the daemon's own: `dashboard/src/api/types.ts`.

`python -m building.api_types` writes it anew; a test holds that it is up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from trainforge.api import JobProgress, page
from trainforged.web.app import describe
from trainforged.web.openapi import REFERENCE

TARGET = Path(__file__).parents[1] / "dashboard" / "src" / "api" / "types.ts"
HEAD = "// Made by `python -m building.api_types` from the daemon's OpenAPI: do not edit.\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def generated() -> str:
    schemas = describe()["components"]["schemas"] | _beside()
    return HEAD + "".join(f"\n{_declaration(name, schemas[name])}\n" for name in sorted(schemas))


def _beside() -> dict[str, Any]:
    """Types that OpenAPI has no place for: data of the event stream, and the rest of the page's."""
    structs = [value for value in vars(page).values() if isinstance(value, type)]
    types = [JobProgress, *(kind for kind in structs if issubclass(kind, msgspec.Struct))]
    return dict(msgspec.json.schema_components(types, ref_template=REFERENCE)[1])


def _declaration(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"export type {name} = {_type(schema)};"
    # Also where a field has a default: an answer carries it all the same.
    lines = [f"  {key}: {_type(value)};" for key, value in schema["properties"].items()]
    return "\n".join((f"export interface {name} {{", *lines, "}"))


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    match schema.get("type"):
        case "array":
            return _array(schema)
        case "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {_type(values) if isinstance(values, dict) and values else 'unknown'}>"
        case str(kind):
            return PLAIN[kind]
    return "unknown"


def _array(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(map(_type, schema['prefixItems']))}]"
    inner = _type(schema["items"]) if schema.get("items") else "unknown"
    return f"({inner})[]" if "|" in inner else f"{inner}[]"


def main() -> None:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(generated())


if __name__ == "__main__":
    main()
