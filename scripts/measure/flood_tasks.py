"""What one account floods with: a task for each call and frame, made from their declarations,
so that a new one is flooded with by itself.

Fields get the values of VALUES by their names, others what their schema allows: an example, the
first choice, something of the right type. `flood` runs the tasks, `flooder` does them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from functions.runtime import openapi
from functions.runtime.http_endpoint import Endpoint
from measure.other_user import PASSWORD, User
from schemas.kinds import CLIENT_FRAMES

MAX_CONCURRENT: Final = 32
USED: Final = ("chat", "text", "read", "limit", "search", "display_name")
"""Fields that are given though they may be left out."""
RATE: Final = 600
"""Frames a second: more than a session may say."""
_REF: Final = "#/components/schemas/"
_CHOICES: Final = re.compile(r"\^\((\w+)\|")
"""A pattern that lists what there may be."""


def values_of(flooder: User) -> dict[str, Any]:
    """What fields of calls and frames are given, by their names."""
    return {
        "chat": f"d-{flooder.user}-{flooder.user}",
        "user": flooder.user,
        "users": [flooder.user],
        "user_name": flooder.name,
        "password": PASSWORD,
        "new_password": PASSWORD,
        "device": "flood",
        "refresh_token": flooder.refresh,
        "token": flooder.token,
        "key": "flood",
        "text": "flood",
        "name": "Flood",
        "display_name": "Flood",
        "search": "per",
        "q": "fl+oo",
        "message": "1",
        "read": "1",
        "from": "1",
        "to": "9223372036854775807",
        "version": "0",
        "emoji": "👍",
        "for": "all",
        "members": [],
        "section": "limits",
        "type": "text/plain",
    }


def example_of(
    schema: Mapping[str, Any], components: Mapping[str, Any], values: Mapping[str, Any]
) -> Any:
    """Something that the schema allows: of an object the required fields, and those USED."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, values)
    for combined in ("allOf", "anyOf", "oneOf"):
        if combined in schema:
            return example_of(schema[combined][0], components, values)
    for said in ("example", "const", "default"):
        if said in schema:
            return schema[said]
    if "enum" in schema:
        return schema["enum"][0]
    if choices := _CHOICES.match(schema.get("pattern", "")):
        return choices[1]
    match schema.get("type"):
        case "object":
            return fields_of(schema, components, values)
        case "array":
            item = schema.get("items", {})
            return [example_of(item, components, values) for _ in range(schema.get("minItems", 0))]
        case "boolean":
            return True
        case "integer" | "number":
            # The most that may be asked for costs the most.
            return min(schema.get("maximum", 256), 256)
        case _:
            return "flood".ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 64)]


def fields_of(
    schema: Mapping[str, Any], components: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of an object that are given."""
    required = schema.get("required", ())
    return {
        name: values[name] if name in values else example_of(field, components, values)
        for name, field in schema.get("properties", {}).items()
        if name in required or name in USED
    }


def tasks(flooder: User) -> dict[str, dict[str, Any]]:
    """What is flooded with, by name: every call that is declared, and every frame but the first."""
    values = values_of(flooder)
    found = {call.name: call_of(call, values) for call in openapi.described_endpoints()}
    # A known name is refused by one look at the table, and a hash comes before that look.
    found["POST /v1/users"]["body"]["user_name"] = f"{flooder.name}x"
    found["DELETE /v1/devices/{device}"]["path"] = "/v1/devices/gone"
    for tag, kind in CLIENT_FRAMES.items():
        if tag != "hello":
            found[tag] = {
                "frame": {"type": tag, **frame_of(kind, values)},
                "url": flooder.gateway,
                "rate": RATE,
                "device": "phone",
            }
    for task in found.values():
        task |= {"token": flooder.token, "chat": values["chat"], "fill": 0}
    return found


def call_of(call: Endpoint, values: Mapping[str, Any]) -> dict[str, Any]:
    """The task of a call."""
    components = openapi.document()["components"]["schemas"]
    path = call.path
    for name in call.path_parameters:
        path = path.replace(f"{{{name}}}", str(values.get(name, "1")))
    query = dict(_query(openapi.parameters(call), components, values))
    body = None if call.body is None else {"$ref": f"{_REF}{call.body.__name__}"}
    return {
        "method": call.method,
        "path": path + ("?" if query else "") + "&".join(f"{k}={v}" for k, v in query.items()),
        "body": body and example_of(body, components, values),
        "at_once": MAX_CONCURRENT,
    }


def _query(
    parameters: Iterable[Mapping[str, Any]],
    components: Mapping[str, Any],
    values: Mapping[str, Any],
) -> Iterable[tuple[str, Any]]:
    for given in parameters:
        name = given["name"]
        if given["in"] == "query" and (given["required"] or name in USED):
            most = given["schema"].get("maximum")
            yield name, values.get(name, most or example_of(given["schema"], components, values))


def frame_of(kind: type[msgspec.Struct], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a frame, without its type."""
    _, components = msgspec.json.schema_components([kind])
    schema = components[kind.__name__]
    fields = fields_of(schema, components, values)
    fields.pop("type", None)
    return {
        name: 256 if name == "limit" else value for name, value in fields.items() if name != "id"
    }
