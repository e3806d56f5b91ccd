"""Users and their profiles over HTTP (protocol.md section 1)."""

from __future__ import annotations

import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server


def _new(**change: object) -> dict[str, object]:
    body = {"user_name": f"cf-{secrets.token_hex(6)}", "password": secrets.token_urlsafe(12)}
    return {name: value for name, value in (body | change).items() if value is not None}


@case(once=True)
async def registering(at: Server) -> None:
    """The profile; capitals are folded, the name is unique whatever its capitals."""
    body = _new(display_name="Ann \u00c5", phone="+1", email="a@example.invalid")
    profile = await at.http.call("POST /v1/users", body=body)
    has(profile, "profile", display_name="Ann \u00c5", phone="+1", email="a@example.invalid")
    again = body | {"user_name": str(body["user_name"]).upper()}
    await at.http.refused("POST /v1/users", "name_taken", body=again)
    plain = await at.http.call("POST /v1/users", body=_new())
    expect("display name", plain["user_name"], plain["display_name"])


@case(once=True)
async def registering_wrongly(at: Server) -> None:
    """malformed names the field."""
    name = f"cf-{secrets.token_hex(6)}"
    for field, change in (
        ("user_name", {"user_name": None}),
        ("user_name", {"user_name": "ab"}),
        ("user_name", {"user_name": "a" * 33}),
        ("user_name", {"user_name": "caf\u00e9"}),
        ("user_name", {"user_name": 5}),
        ("password", {"password": "short"}),
        ("password", {"password": "x" * 257}),
        ("password", {"password": "password1"}),
        ("password", {"user_name": name, "password": name}),
        ("display_name", {"display_name": ""}),
        ("display_name", {"display_name": "x" * 65}),
        ("display_name", {"display_name": "a\u202eb"}),
        ("display_name", {"display_name": "\u200d"}),
        ("display_name", {"display_name": "a\nb"}),
    ):
        body = _new(**change)
        await at.http.refused("POST /v1/users", "malformed", field=field, body=body)


@case(once=True)
async def my_profile(at: Server) -> None:
    """Changes need the version that I know; null removes; an older version is stale."""
    user = await at.new_user()
    token = await at.token(user)
    me = await at.http.call("GET /v1/me", token=token)
    body = {"version": me["version"], "display_name": "New", "phone": "+1", "settings": {"a": 1}}
    changed = await at.http.call("PATCH /v1/me", token=token, body=body)
    has(changed, "profile", display_name="New", phone="+1", settings={"a": 1})
    check(int(changed["version"]) > int(me["version"]), "a greater version", changed)
    await at.http.refused("PATCH /v1/me", "stale", token=token, body=body)
    mail = {"version": changed["version"], "email": "n@example.invalid"}
    changed = await at.http.call("PATCH /v1/me", token=token, body=mail)
    has(changed, "profile", phone="+1", email="n@example.invalid")
    body = {"version": changed["version"], "phone": None, "email": None, "settings": None}
    again = await at.http.call("PATCH /v1/me", token=token, body=body)
    check(not {"phone", "email", "settings"} & again.keys(), "none of the three", again)
    expect("my profile", again, await at.http.call("GET /v1/me", token=token))
    for field, change in (
        ("version", {"version": None}),
        ("version", {"version": "x"}),
        ("display_name", {"version": "1", "display_name": None}),
        ("phone", {"version": "1", "phone": ""}),
        ("settings", {"version": "1", "settings": {"x": "y" * 5_000}}),
    ):
        await at.http.refused("PATCH /v1/me", "malformed", field=field, token=token, body=change)


@case(once=True)
async def finding_users(at: Server) -> None:
    """By three characters or more of a name, or by ids in their order; public fields only."""
    token, name = await at.token(at.ann), "GET /v1/users"
    secret = await at.http.call("POST /v1/users", body=_new(phone="+999", email="s@x.invalid"))
    found = await at.http.call(
        name, token=token, query={"search": secret["user_name"][3:].upper(), "limit": 256}
    )
    expect("found", [secret["user"]], [each["user"] for each in found["users"]])
    check(not {"phone", "email", "settings"} & found["users"][0].keys(), "public fields", found)
    ids = [secret["user"], at.ben.user]
    found = await at.http.call(name, token=token, query={"ids": ",".join([*ids, "5"])})
    expect("found by ids", ids, [each["user"] for each in found["users"]])
    one = await at.http.call("GET /v1/users/{user}", user=secret["user"], token=token)
    check(not {"phone", "email", "settings"} & one.keys(), "public fields", one)
    await at.http.refused("GET /v1/users/{user}", "unknown_user", user="5", token=token)
    await at.http.refused("GET /v1/users/{user}", "malformed", user="x", token=token)
    for field, query in (
        ("search", {}),
        ("search", {"search": "ab"}),
        ("search", {"search": "abc", "ids": "1"}),
        ("ids", {"ids": "x"}),
        ("ids", {"ids": ",".join(map(str, range(1, 258)))}),
        ("limit", {"search": "abc", "limit": 257}),
        ("limit", {"search": "abc", "limit": 0}),
    ):
        await at.http.refused(name, "malformed", field=field, token=token, query=query)
