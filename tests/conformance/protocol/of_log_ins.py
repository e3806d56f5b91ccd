"""Log-ins, tokens, devices and passwords over HTTP (protocol.md section 1)."""

from __future__ import annotations

import secrets

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect, has
from tests.conformance.protocol.server import Server


@case(once=True)
async def logging_in(at: Server) -> None:
    """Tokens, their end, the gateway, my profile; a wrong name and a wrong password look alike."""
    user = await at.new_user()
    good = {"user_name": user.name, "password": user.password, "device": "phone"}
    body = good | {"user_name": user.name.upper(), "device_name": "My phone"}
    login = await at.http.call("POST /v1/sessions", body=body)
    user.logins["phone"] = login
    expect("profile", user.name, login["profile"]["user_name"])
    wrong = [
        await at.http.refused("POST /v1/sessions", "unauthorized", body=good | change)
        for change in ({"password": "not the password"}, {"user_name": f"no-{user.name}"})
    ]
    expect("refusal of an unknown name", wrong[0].json(), wrong[1].json())
    for field, change in (
        ("device", {"device": "a b"}),
        ("device", {"device": ""}),
        ("device", {"device": None}),
        ("device_name", {"device_name": "x" * 65}),
        ("password", {"password": 5}),
    ):
        bad = {name: value for name, value in (good | change).items() if value is not None}
        await at.http.refused("POST /v1/sessions", "malformed", field=field, body=bad)


@case(once=True)
async def refreshing(at: Server) -> None:
    """New tokens; the token before the newest answers the same successor; an older one ends the
    device.
    """
    user = await at.new_user()
    first = (await at.log_in(user))["refresh_token"]
    second = await at.http.call("POST /v1/tokens", body={"refresh_token": first})
    again = await at.http.call("POST /v1/tokens", body={"refresh_token": first})
    expect("successor", second["refresh_token"], again["refresh_token"])
    third = await at.http.call("POST /v1/tokens", body={"refresh_token": second["refresh_token"]})
    await at.http.call("GET /v1/me", token=third["access_token"])
    await at.http.refused("POST /v1/tokens", "unauthorized", body={"refresh_token": first})
    newest = {"refresh_token": third["refresh_token"]}
    await at.http.refused("POST /v1/tokens", "unauthorized", body=newest)
    await at.http.refused("GET /v1/me", "unauthorized", token=third["access_token"])
    await at.http.refused("POST /v1/tokens", "unauthorized", body={"refresh_token": "nonsense"})
    await at.http.refused("POST /v1/tokens", "malformed", body={}, field="refresh_token")


@case(once=True)
async def devices(at: Server) -> None:
    """Each log-in is one, the caller's is current; one that is ended is gone and its token too."""
    user = await at.new_user()
    token, tablet = await at.token(user), await at.token(user, "tablet")
    listed = (await at.http.call("GET /v1/devices", token=token))["devices"]
    expect("devices", {"phone", "tablet"}, {each["device"] for each in listed})
    expect("current", ["phone"], [each["device"] for each in listed if each["current"]])
    await at.http.call("DELETE /v1/devices/{device}", device="tablet", token=token)
    await at.http.refused("GET /v1/me", "unauthorized", token=tablet)
    for code, device in (("not_found", "tablet"), ("not_found", "other"), ("malformed", "a%20b")):
        await at.http.refused("DELETE /v1/devices/{device}", code, device=device, token=token)
    await at.http.call("DELETE /v1/sessions/current", token=token)
    await at.http.refused("GET /v1/devices", "unauthorized", token=token)


@case(once=True)
async def a_new_log_in_replaces_that_of_its_device(at: Server) -> None:
    """The older tokens are over."""
    user = await at.new_user()
    older = await at.log_in(user)
    newer = await at.log_in(user)
    await at.http.refused("GET /v1/me", "unauthorized", token=older["access_token"])
    body = {"refresh_token": older["refresh_token"]}
    await at.http.refused("POST /v1/tokens", "unauthorized", body=body)
    await at.http.call("GET /v1/me", token=newer["access_token"])


@case(slow=True, once=True)
async def more_devices_than_fifty(at: Server) -> None:
    """A new log-in ends the one that was unused longest."""
    user = await at.new_user()
    for number in range(50):
        await at.log_in(user, f"d{number}")
    await at.http.call("GET /v1/me", token=await at.token(user, "d0"))
    token = (await at.log_in(user, "d50"))["access_token"]
    listed = (await at.http.call("GET /v1/devices", token=token))["devices"]
    names = {each["device"] for each in listed}
    expect("number of devices", 50, len(names))
    check({"d50"} <= names, "the newest device", sorted(names))
    gone = {f"d{number}" for number in range(51)} - names
    for device in gone:
        await at.http.refused("GET /v1/me", "unauthorized", token=await at.token(user, device))


@case()
async def other_devices_are_told_of_a_log_in(at: Server) -> None:
    """`device` with its name; the first device of all is told to none; a cursor comes with it."""
    user = await at.new_user()
    phone = await at.connect(user, "phone")
    await phone.silent("device", within_s=0.3)
    body = {"user_name": user.name, "password": user.password, "device": "tablet"}
    user.logins["tablet"] = await at.http.call(
        "POST /v1/sessions", body=body | {"device_name": "My tablet"}
    )
    told = await phone.hear("device", device="tablet")
    has(told, "device", op="logged_in", device_name="My tablet")
    listed = await at.http.call("GET /v1/devices", token=await at.token(user))
    (tablet,) = [one for one in listed["devices"] if one["device"] == "tablet"]
    expect("time", tablet["created"], told["time"])
    again = await at.hello(user, "phone", resume=phone.welcome["cursor"])
    has(await again.hear("device"), "what was missed", device="tablet", op="logged_in")


@case(once=True)
async def other_devices_are_told_of_a_new_password(at: Server) -> None:
    """`device` and close 4403; who logs in there again and resumes has it too. The one that asked
    goes on with its new tokens.
    """
    user = await at.new_user()
    phone, tablet = await at.connect(user, "phone"), await at.connect(user, "tablet")
    cursor, new = tablet.welcome["cursor"], secrets.token_urlsafe(12)
    body = {"password": user.password, "new_password": new}
    token = await at.token(user, "phone")
    user.logins["phone"] |= await at.http.call("PUT /v1/me/password", token=token, body=body)
    await tablet.closed(4403)
    await phone.closed(4004)
    user.password = new
    await at.log_in(user, "tablet")
    again = await at.hello(user, "tablet", resume=cursor)
    await again.hear("device", device="phone", op="password_changed")
    await at.connect(user, "phone")


@case(once=True)
async def what_is_left_of_the_budget(at: Server) -> None:
    """RateLimit-* headers of calls: less with each, never more than the limit."""
    token = await at.token(at.ann)
    left = []
    for _ in range(2):
        answer = await at.http.raw("GET", "/v1/me", token=token)
        values = [
            int(answer.headers.get(f"ratelimit-{name}", -1))
            for name in ("limit", "remaining", "reset")
        ]
        check(min(values) >= 0, "RateLimit-Limit, -Remaining and -Reset", dict(answer.headers))
        limit, remaining, _ = values
        check(remaining < limit, "less left than the limit", values)
        check(
            answer.headers.get("ratelimit-policy", "").startswith(f"{limit};w="),
            "RateLimit-Policy with the limit",
            answer.headers.get("ratelimit-policy"),
        )
        left.append(remaining)
    refused = await at.http.raw("GET", "/v1/users/5", token=token)
    check("ratelimit-remaining" in refused.headers, "headers of a refusal", dict(refused.headers))


@case(once=True)
async def my_password(at: Server) -> None:
    """The old one is forbidden when wrong, a common new one malformed; a repeat has the same
    outcome.
    """
    user = await at.new_user()
    token, new = await at.token(user), secrets.token_urlsafe(12)
    name = "PUT /v1/me/password"
    wrong = {"password": "not the password", "new_password": new}
    await at.http.refused(name, "forbidden", token=token, body=wrong)
    common = {"password": user.password, "new_password": "password1"}
    await at.http.refused(name, "malformed", token=token, body=common, field="new_password")
    body = {"password": user.password, "new_password": new}
    await at.http.call(name, token=token, body=body)
    again = await at.http.call(name, token=token, body=body)
    await at.http.refused("GET /v1/me", "unauthorized", token=token)
    await at.http.call("GET /v1/me", token=again["access_token"])
    user.password = new
    await at.log_in(user)


@case(once=True)
async def where_my_gateway_is(at: Server) -> None:
    """Mine is told, another user's is forbidden."""
    token, name = await at.token(at.ann), "GET /v1/gateways"
    mine = await at.http.call(name, token=token, query={"user": at.ann.user})
    expect("gateway", at.ann.logins["phone"]["gateway"], mine["gateway"])
    for user in (at.ben.user, "5"):
        await at.http.refused(name, "forbidden", token=token, query={"user": user})
    await at.http.refused(name, "malformed", token=token, query={"user": "x"}, field="user")
    await at.http.refused(name, "malformed", token=token, field="user")
