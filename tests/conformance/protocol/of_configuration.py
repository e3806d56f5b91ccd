"""What administrators change while the server runs (protocol.md section 1)."""

from __future__ import annotations

from typing import Any

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import expect, has
from tests.conformance.protocol.server import Server

ALL, ONE = "GET /v1/config", "GET /v1/config/{section}"
PUT, HISTORY = "PUT /v1/config/{section}", "GET /v1/config/{section}/history"
SECTION = "retention"
"""That of the cases: what is set of it disturbs no other case."""


@case(once=True)
async def configuration_is_for_administrators(at: Server) -> None:
    """All others are refused, whatever they ask for."""
    token = await at.token(at.ann)
    for section in ("limits", "nothing"):
        await at.http.refused(ONE, "forbidden", section=section, token=token)
        await at.http.refused(HISTORY, "forbidden", section=section, token=token)
        body = {"version": "0", "values": {}}
        await at.http.refused(PUT, "forbidden", section=section, token=token, body=body)
    await at.http.refused(ALL, "forbidden", token=token)
    await at.http.refused(ALL, "unauthorized")


@case(once=True, is_for_administrators=True)
async def configuration_is_shown_and_set(at: Server) -> None:
    """A change has the next version and its author; an old version is stale; a field that is left
    out has its default.
    """
    token = await at.administrator()
    sections = (await at.http.call(ALL, token=token))["sections"]
    was = next(one for one in sections if one["section"] == SECTION)
    expect("section", was, await at.http.call(ONE, section=SECTION, token=token))
    field = next(one for one in was["fields"] if one["type"] == "integer")
    value = field["most"] if field["value"] != field["most"] else field["most"] - 1
    body = {"version": was["version"], "values": {field["name"]: value}}
    changed = await at.http.call(PUT, section=SECTION, token=token, body=body)
    has(changed, "section", version=str(int(was["version"]) + 1))
    expect("its value", (value, True), _of(changed, field["name"]))
    await at.http.refused(PUT, "stale", section=SECTION, token=token, body=body, field="version")
    back = {"version": changed["version"], "values": {}}
    reset = await at.http.call(PUT, section=SECTION, token=token, body=back)
    expect("its default", (field["default"], False), _of(reset, field["name"]))
    query: dict[str, object] = {"limit": 1}
    newest = await at.http.call(HISTORY, section=SECTION, token=token, query=query)
    expect("newest", [{}], [one["values"] for one in newest["revisions"]])
    query = {"before": newest["before"]}
    older = (await at.http.call(HISTORY, section=SECTION, token=token, query=query))["revisions"]
    expect("the one before", {field["name"]: value}, older[0]["values"])
    expect("its author", changed["author"], older[0]["author"])


def _of(section: dict[str, Any], name: str) -> tuple[Any, bool]:
    field = next(one for one in section["fields"] if one["name"] == name)
    return field["value"], field["is_set"]


@case(once=True, is_for_administrators=True)
async def wrong_configuration_is_refused(at: Server) -> None:
    """Each field beyond its bounds, or of another type: it is named, and nothing is changed."""
    token = await at.administrator()
    before = await at.http.call(ALL, token=token)
    for section in before["sections"]:
        name, version = section["section"], section["version"]
        for field in section["fields"]:
            wrong = {
                "boolean": ["true", 1],
                "text": ["nothing", 1],
            }.get(field["type"]) or [field["least"] - 1, field["most"] + 1, "1", True]
            for value in wrong:
                body = {"version": version, "values": {field["name"]: value}}
                await at.http.refused(
                    PUT,
                    "malformed",
                    section=name,
                    token=token,
                    body=body,
                    field=f"values.{field['name']}",
                )
        body = {"version": version, "values": {"nothing": 1}}
        await at.http.refused(
            PUT, "malformed", section=name, token=token, body=body, field="values.nothing"
        )
    for call, more in ((ONE, {}), (HISTORY, {}), (PUT, {"body": {"version": "0", "values": {}}})):
        await at.http.refused(
            call, "not_found", section="nothing", token=token, field="section", **more
        )
    for field, bad in (("version", {"values": {}}), ("values", {"version": "0"})):
        await at.http.refused(PUT, "malformed", section=SECTION, token=token, body=bad, field=field)
    after = await at.http.call(ALL, token=token)
    fixed = [one for one in after["sections"] if one["section"] != SECTION]
    expect(
        "other sections", [one for one in before["sections"] if one["section"] != SECTION], fixed
    )
