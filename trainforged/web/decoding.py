"""From what a client sent to types, or to an error that names each place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_origin

import msgspec
from multidict import MultiMapping

from trainforge.api import ErrorCode, ErrorDetail
from trainforged.web.errors import ApiProblem


def decode_body(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """An empty body stands for `{}`."""
    try:
        return decoder.decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise _invalid("the body does not have the expected form", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise ApiProblem(ErrorCode.INVALID_REQUEST, "the body is nested too deeply") from error


class QueryDecoder:
    """Makes a Struct of the part after `?`. A field that is a tuple takes `a=1&a=2` and `a=1,2`."""

    def __init__(self, query: type[msgspec.Struct]) -> None:
        self._type = query
        fields = msgspec.structs.fields(query)
        self._many = {f.encode_name: get_origin(f.type) is tuple for f in fields}

    def decode(self, query: MultiMapping[str]) -> Any:
        values = {name: self._value(name, query.getall(name)) for name in query}
        try:
            return msgspec.convert(values, self._type, strict=False)
        except msgspec.ValidationError as error:
            raise _invalid("the address is not understood", str(error)) from error

    def _value(self, name: str, given: list[str]) -> str | list[str]:
        if name not in self._many:
            raise _unknown(name, self._many)
        if self._many[name]:
            return [part for text in given for part in text.split(",") if part]
        if len(given) > 1:
            raise _invalid("the address is not understood", f"given {len(given)} times - at `$.{name}`")
        return given[0]


def _unknown(name: str, known: Mapping[str, bool]) -> ApiProblem:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known) or 'none'}"
    return _invalid("the address is not understood", f"unknown parameter{hint} - at `$.{name[:80]}`")


def _invalid(message: str, problem: str) -> ApiProblem:
    """`problem` ends with " - at `$.path`", as msgspec writes it."""
    what, _, where = problem.partition(" - at `")
    path = where.rstrip("`").removeprefix("$").removeprefix(".")
    detail = ErrorDetail(path=path, message=what)
    place = f"{path}: {what}" if path else what
    return ApiProblem(ErrorCode.INVALID_REQUEST, f"{message}: {place}", [detail])
