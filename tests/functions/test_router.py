"""What every HTTP call has in common: who is let in, what is read, and the one shape of errors."""

from __future__ import annotations

import asyncio
import logging
import re
import threading

import pytest

from backends.accounts import Profile
from functions.domain import passwords
from functions.runtime import openapi
from functions.runtime.asgi import http_app
from functions.runtime.context import Timing, use_backends
from schemas.ids import UserId
from tests.functions.callers import PASSWORD, Caller, problem


@pytest.fixture
def anonymous(backends):
    return Caller(backends)


@pytest.mark.parametrize(
    "call",
    [call for call in openapi.described_endpoints() if not call.is_open],
    ids=lambda call: call.name,
)
async def test_calls_that_are_not_open_want_a_token(anonymous, call):
    """A call without one learns nothing, not even whether the path makes sense."""
    path = re.sub(r"{\w+}", "x", call.path)

    answer = await anonymous.call(call.method, path)

    assert problem(answer) == (401, "unauthorized", None)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/users", "POST, GET, HEAD"),
        ("POST", "/v1/me", "GET, HEAD, PATCH"),
        ("GET", "/v1/sessions", "POST"),
        ("PATCH", "/v1/chats/d-1-2/messages", "GET, HEAD"),
        ("OPTIONS", "/v1/tokens", "POST"),
    ],
)
async def test_a_wrong_method_says_what_is_allowed(anonymous, method, path, allowed):
    """405 in the one shape, with Allow."""
    answer = await anonymous.call(method, path)

    assert problem(answer)[:2] == (405, "not_found")
    assert sorted(answer.headers["allow"].split(", ")) == sorted(allowed.split(", "))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/users/",
        "/v1/users/1/2",
        "/v1/sessions/other",
        "/v1/chats/x/y",
        "/v2/users",
        "//v1/users",
    ],
)
async def test_what_is_not_there_is_not_found(anonymous, path):
    """404 in the one shape."""
    assert problem(await anonymous.get(path))[:2] == (404, "not_found")


async def test_head_is_a_get_without_its_body(anonymous):
    """As HTTP wants it."""
    answer = await anonymous.call("HEAD", "/v1/openapi.json")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application/cloudevents+json",
    ],
)
async def test_a_body_that_does_not_say_json_is_malformed(anonymous, content_type):
    """Nothing is guessed."""
    headers = {} if content_type is None else {"content-type": content_type}

    answer = await anonymous.call("POST", "/v1/users", content=b"{}", headers=headers)

    assert problem(answer) == (400, "malformed", "content-type")


async def test_json_with_a_charset_is_json(anonymous):
    """Some clients name one."""
    answer = await anonymous.call(
        "POST",
        "/v1/users",
        content=b"{}",
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )

    assert problem(answer) == (400, "malformed", "user_name")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"[]",
        b"1",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"user_name": "\\ud800"}',
        b"[" * 50_000,
        b'{"a":1}{"b":2}',
    ],
)
async def test_a_body_that_is_no_object_is_malformed(anonymous, body):
    """Whatever it is instead."""
    answer = await anonymous.call(
        "POST", "/v1/users", content=body, headers={"content-type": "application/json"}
    )

    assert problem(answer) == (400, "malformed", "body")


async def test_a_body_over_64_kib_is_too_large(anonymous):
    """The rest of it is not even read, whether its length was said or not."""

    async def parts():
        for _ in range(64):
            yield b" " * 4_096

    whole = await anonymous.call(
        "POST", "/v1/users", content=b" " * 65_537, headers={"content-type": "application/json"}
    )
    chunked = await anonymous.call(
        "POST", "/v1/users", content=parts(), headers={"content-type": "application/json"}
    )
    fits = await anonymous.call(
        "POST",
        "/v1/users",
        content=b" " * 65_534 + b"{}",
        headers={"content-type": "application/json"},
    )

    assert problem(whole)[:2] == problem(chunked)[:2] == (413, "too_large")
    assert problem(fits)[:2] == (400, "malformed")


async def test_a_client_that_goes_away_is_no_bug(backends, caplog):
    """Half a body and then nothing: the answer is not read, and nothing is logged as a failure."""
    sent = []
    parts = [
        {"type": "http.request", "body": b'{"user', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/users",
        "query_string": b"",
        "root_path": "",
    }
    await http_app([])(
        {**scope, "headers": [(b"content-type", b"application/json")], "client": None},
        receive,
        send,
    )

    assert sent[0]["status"] == 400
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_call_that_takes_too_long_ends_itself(anonymous, backends, monkeypatch):
    """It says so, and when to try again, before the client or a proxy gives up."""
    go_on = threading.Event()
    use_backends(backends, Timing(handler_timeout_s=0.05))
    monkeypatch.setattr(passwords, "_verify", lambda *_: go_on.wait(10))

    answer = await anonymous.call(
        "POST",
        "/v1/sessions",
        {"user_name": "unregistered", "password": PASSWORD, "device": "phone"},
    )
    go_on.set()

    assert problem(answer)[:2] == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_bug_answers_in_the_one_shape_and_is_logged(anonymous, backends, caplog):
    """A hash that is none cannot happen, so it is a bug: the client learns nothing of it, the log
    all but the password.
    """
    await backends.accounts.register(Profile(UserId(5), "broken", "Broken", 1), "this is no hash")

    answer = await anonymous.call(
        "POST", "/v1/sessions", {"user_name": "broken", "password": PASSWORD, "device": "phone"}
    )

    assert problem(answer) == (500, "unavailable", None)
    assert [
        (record.message, record.call)
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ] == [("bug: call failed", "POST /v1/sessions")]
    assert PASSWORD not in caplog.text


async def test_a_body_that_does_not_come_is_not_waited_for(anonymous, backends):
    """After 2 s the answer is there and the connection ends; other calls are answered meanwhile."""
    use_backends(backends, Timing(body_timeout_s=0.05))
    never = asyncio.Event()

    async def half():
        yield b'{"user_name":'
        await never.wait()

    headers = {"content-type": "application/json"}
    slow = [
        asyncio.create_task(anonymous.call("POST", "/v1/users", content=half(), headers=headers))
        for _ in range(64)
    ]
    await asyncio.sleep(0)
    others = await anonymous.get("/.well-known/jwks.json")
    answers = await asyncio.wait_for(asyncio.gather(*slow), 10)
    never.set()

    assert others.status_code == 200
    assert {(answer.status_code, answer.headers["connection"]) for answer in answers} == {
        (503, "close")
    }
    assert problem(answers[0])[:2] == (503, "unavailable")


@pytest.mark.parametrize(
    "body", [b'{"user_name": "ann", "user_name": "ben"}', b'{"x": [{"y": 1, "y": 1}]}']
)
async def test_a_body_with_a_field_twice_is_malformed(anonymous, body):
    """A proxy on the way may have read the other one."""
    answer = await anonymous.call(
        "POST", "/v1/users", content=body, headers={"content-type": "application/json"}
    )

    assert problem(answer) == (400, "malformed", "body")
