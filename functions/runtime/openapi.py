"""The OpenAPI document of all HTTP calls, made from the endpoints, whose models also validate.

The Swagger UI of the installed swagger-ui-bundle reads OpenAPI 3.0, so the models' JSON Schemas are
put into its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final

import msgspec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from functions.runtime.budgets import RATE_LIMIT_HEADERS
from functions.runtime.http_endpoint import Endpoint, Redirect, prose
from functions.triggers import TRIGGERS, OnHttp
from schemas import costs, endpoints, frames
from schemas.errors import STATUS_OF_CODE

_REF: Final = "#/components/schemas/"
_HEADERS: Final = {
    **RATE_LIMIT_HEADERS,
    "retry-after": "Whole seconds after which the call will be taken.",
    "www-authenticate": "How to authenticate: Bearer.",
}
_BESIDE: Final = {
    401: ("www-authenticate",),
    429: ("retry-after",),
    503: ("retry-after",),
}
"""Headers of errors, by their status."""
_MEANING: Final = {
    400: "The request is not right as it is; `details.field` names the place.",
    401: "No token, or one that does not count (any longer).",
    403: "Not allowed.",
    404: "Not there.",
    409: "Another call was first.",
    413: "Too large.",
    429: "Too often: wait as long as `Retry-After` says.",
    503: "A part we need does not answer: try again after `Retry-After`.",
}


@cache
def described_endpoints() -> Sequence[Endpoint]:
    """The endpoints of all HTTP targets that stand in the document."""
    files = [
        import_module(f"functions.{trigger.module}")
        for trigger in TRIGGERS
        if isinstance(trigger, OnHttp)
    ]
    return [call for file in files for call in file.ENDPOINTS if call.is_described]


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.0 document."""
    paths: dict[str, dict[str, Any]] = {}
    for call in described_endpoints():
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "kn-chat",
            "version": "1",
            "description": "Ids and versions are decimal strings; times are RFC 3339, UTC.",
        },
        # From where this document lies: it may be served below a prefix.
        "servers": [{"url": ".."}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "headers": {
                name: {"description": meaning, "schema": {"type": "string"}}
                for name, meaning in _HEADERS.items()
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "the access token of a log-in",
                }
            },
        },
    }


def _operation(call: Endpoint) -> dict[str, Any]:
    words = re.findall(r"[a-z]+", call.path.removeprefix("/v1"))
    operation: dict[str, Any] = {
        "operationId": call.method.lower() + "".join(word.capitalize() for word in words),
        "summary": call.summary,
        "tags": [words[0] if call.path.startswith("/v1/") else "keys"],
        "security": [] if call.is_open else [{"token": []}],
        # Units of a budget: `units`, and `per_item` for each item of `limit`.
        "x-cost": {"units": call.cost.units, "per_item": call.cost.per_item},
        "responses": {
            **{
                str(status): _response(call)
                for status in (call.status, call.repeat_status)
                if status
            },
            **_problems(call),
        },
    }
    if found := [*parameters(call)]:
        operation["parameters"] = found
    if call.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(call.body)}
    return operation


def _json(model: type[Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"{_REF}{model.__name__}"}}}


def _response(call: Endpoint) -> dict[str, Any]:
    headers = _headers(call)
    if call.status == Redirect.status:
        where = {"schema": {"type": "string"}, "description": "Ask there, for a minute."}
        return {
            "description": "It is elsewhere.",
            "headers": {"Location": where, **headers.get("headers", {})},
        }
    if call.answer is None:
        return {"description": "Done.", **headers}
    return {"description": prose(call.answer), "content": _json(call.answer), **headers}


def _headers(call: Endpoint, *more: str) -> dict[str, Any]:
    names = [*([] if call.cost == costs.FREE else RATE_LIMIT_HEADERS), *more]
    if not names:
        return {}
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def _problems(call: Endpoint) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for code in call.all_errors:
        codes.setdefault(STATUS_OF_CODE[code], []).append(f"`{code}`")
    return {
        str(status): {
            "description": f"{', '.join(names)}. {_MEANING[status]}",
            "content": _json(endpoints.Problem),
            **_headers(call, *_BESIDE.get(status, ())),
        }
        for status, names in sorted(codes.items())
    }


def parameters(call: Endpoint) -> Iterable[dict[str, Any]]:
    """What a call takes in its path and behind the question mark, as the document describes it."""
    for name in call.path_parameters:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if call.query is None:
        return
    if issubclass(call.query, msgspec.Struct):
        schema = msgspec.json.schema_components([call.query])[1][call.query.__name__]
    else:
        schema = call.query.model_json_schema()
    for name, given in schema["properties"].items():
        described = _in_words_of_3_0(given)
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": described.pop("description", ""),
            "schema": described,
        }


def _schemas() -> dict[str, Any]:
    models: set[type[Any]] = {
        model
        for call in described_endpoints()
        for model in (call.body, call.answer)
        if model is not None
    } | {endpoints.Problem}
    structs = [model for model in models if issubclass(model, msgspec.Struct)]
    ours = [model for model in models if issubclass(model, BaseModel)]
    _, described = models_json_schema(
        [(model, "validation") for model in ours], ref_template=f"{_REF}{{model}}"
    )
    _, framed = msgspec.json.schema_components(structs, ref_template=f"{_REF}{{name}}")
    for struct in structs:  # over HTTP without what belongs to a frame
        if not issubclass(struct, frames.ServerFrame):
            continue
        schema = framed[struct.__name__]
        for name in ("type", "re"):
            del schema["properties"][name]
        schema["required"].remove("type")
    return {
        name: _in_words_of_3_0(schema)
        for name, schema in sorted({**described["$defs"], **framed}.items())
    }


def _in_words_of_3_0(schema: Any) -> Any:
    """JSON Schema 2020-12 in the words of OpenAPI 3.0: `nullable` for a union with null, one
    `example`, no titles.
    """
    if isinstance(schema, list):
        return [_in_words_of_3_0(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    words = {
        name: _in_words_of_3_0(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }
    if "examples" in words:
        words["example"] = words.pop("examples")[0]
    if {"type": "null"} in words.get("anyOf", ()):
        (only,) = [kind for kind in words.pop("anyOf") if kind != {"type": "null"}]
        words = {**only, **words, "nullable": True}
        words.pop("default", None)
    return words
