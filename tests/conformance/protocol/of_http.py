"""What all HTTP calls have in common: what is open, and how they refuse (protocol.md section 1)."""

from __future__ import annotations

import asyncio
import re

from tests.conformance.protocol.cases import case
from tests.conformance.protocol.expectations import check, expect
from tests.conformance.protocol.rows import CALLS
from tests.conformance.protocol.server import Server


@case(once=True)
async def what_is_open(at: Server) -> None:
    """Public keys, the calls as OpenAPI and as a page; the document names all calls of the page."""
    keys = (await at.http.call("GET /.well-known/jwks.json"))["keys"]
    check(keys and not any("d" in key for key in keys), "public keys", keys)
    document = await at.http.call("GET /v1/openapi.json")
    described = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    left_out = {"GET /v1/openapi.json", "GET /v1/docs"}
    expect("calls that the document lacks", set(), CALLS.keys() - described - left_out)
    check("<html" in await at.http.call("GET /v1/docs"), "a page", "")


@case(once=True)
async def without_a_token(at: Server) -> None:
    """unauthorized for every call that is not open; so is a token that is none."""
    known = {"user": at.ann.user, "device": "phone", "chat": at.chat(at.ann, at.ben)}
    for name, call in CALLS.items():
        if not call.is_open:
            places = {place: known.get(place, "1") for place in re.findall(r"{(\w+)}", name)}
            for token in (None, "nonsense"):
                refusal = await at.http.refused(
                    name, "unauthorized", token=token, body=None, **places
                )
                check("www-authenticate" in refusal.headers, "WWW-Authenticate", name)


@case(once=True)
async def bodies_that_are_malformed(at: Server) -> None:
    """No JSON, a field twice, another content type; more than 64 KiB is too_large."""
    json_type = {"content-type": "application/json"}
    for content, headers, code in (
        (b"{", json_type, "malformed"),
        (b"[]", json_type, "malformed"),
        (b'{"refresh_token":"a","refresh_token":"b"}', json_type, "malformed"),
        (b'{"refresh_token":"\xff"}', json_type, "malformed"),
        (b"{}", {"content-type": "text/plain"}, "malformed"),
        (b'{"x":"' + b"y" * 65_536 + b'"}', json_type, "too_large"),
    ):
        answer = await at.http.raw("POST", "/v1/tokens", content=content, headers=headers)
        at.http.check_problem(answer, code, what=f"{content[:40]!r}")


@case(once=True)
async def paths_and_methods_that_do_not_exist(at: Server) -> None:
    """404 not_found, and 405 with the methods that do."""
    token = await at.token(at.ann)
    for path in ("/v1/nonsense", "/v1/users/1/2/3", "/v1/chats/x/y"):
        answer = await at.http.raw("GET", path, token=token)
        at.http.check_problem(answer, "not_found", what=path)
    answer = await at.http.raw("PUT", "/v1/me", token=token)
    expect("status of a method that is not there", 405, answer.status_code)
    allowed = {each.strip() for each in answer.headers.get("allow", "").split(",")}
    check({"GET", "PATCH"} <= allowed, "Allow: GET, PATCH", allowed)


@case(once=True)
async def over_the_budget(at: Server) -> None:
    """429 rate_limited with Retry-After over HTTP, `retry_after_ms` on the socket; afterwards there
    is enough.
    """
    user = await at.new_user()
    token, chat = await at.token(user), at.chat(user, at.ben)
    name, query = "GET /v1/chats/{chat}/digest", {"from": "0", "to": "1"}
    path = name.partition(" ")[2].format(chat=chat)
    answers = await asyncio.gather(
        *(at.http.raw("GET", path, token=token, params=query) for _ in range(40))
    )
    limited = [answer for answer in answers if answer.status_code == 429]
    check(limited, "429 for some of 40 digests at once", {each.status_code for each in answers})
    at.http.check_problem(limited[-1], "rate_limited", what=name)
    await asyncio.sleep(int(limited[-1].headers["retry-after"]))
    await at.http.call(name, chat=chat, token=token, query=query)
    sockets = [await at.connect(user, f"device-{number}") for number in range(4)]
    digests = [{"type": "digest", "id": at_, "chat": chat, **query} for at_ in range(1, 65)]
    for socket in sockets:
        await socket.say(digests)
    waits = []
    for socket in sockets:
        for number in range(1, 65):
            reply = await socket.hear(re=number)
            if reply["type"] == "error":
                socket.check_error(reply, "rate_limited", what="digest")
                waits.append(reply.get("retry_after_ms"))
    check(waits, "rate_limited for some of 256 digests at once", waits)
    check(all(isinstance(wait, int) for wait in waits), "retry_after_ms", waits)
    await asyncio.sleep(max(waits) / 1_000)
    expect("after that", "digest", (await socket.ask("digest", chat=chat, **query))["type"])
