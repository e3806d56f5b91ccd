"""Whatever is sent to the HTTP functions, they answer as documented: no crash, no 5xx, one shape of
errors.
"""

from __future__ import annotations

import json
import secrets
import time
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backends.accounts import Device, Profile
from backends.settings import Settings
from functions.domain.passwords import DUMMY_HASH
from functions.endpoints import accounts, chats, configuration, devices, files, search
from functions.runtime import openapi
from functions.runtime.asgi import http_app
from functions.runtime.http_endpoint import Endpoint
from schemas import endpoints
from schemas.errors import STATUS_OF_CODE
from schemas.ids import UserId
from schemas.tokens import claims_of

ANN = UserId(1001)
DEVICES = count()

TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "x" * 300,
        "null",
        "1001",
        "d-1001-1002",
        "1.0",
        "٣",
        "a\r\nb",
        "../..",
        "%00",
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**63, 2**64, 10**30])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
GOOD: dict[Endpoint, dict[str, Any]] = {
    accounts.create_user: {"user_name": "someone", "password": "a good password"},
    devices.create_session: {
        "user_name": "unregistered",
        "password": "a good password",
        "device": "phone",
    },
    devices.refresh_tokens: {"refresh_token": "A" * 22 + ".1." + "A" * 43},
    accounts.change_me: {"version": "1", "display_name": "Ann"},
    accounts.set_password: {"password": "a good password", "new_password": "another good password"},
    configuration.put_section: {"version": "0", "values": {"text_bytes": 100}},
    files.new_file: {"name": "a.txt", "bytes": 5, "type": "text/plain", "purpose": "message"},
}
GOOD_QUERIES: dict[Endpoint, dict[str, str]] = {
    accounts.list_users: {"search": "ann"},
    devices.get_gateway: {"user": "1001"},
    chats.get_messages: {"around": "2026-01-31T23:59:59.000Z", "limit": "3"},
    chats.get_digest: {"from": "1", "to": "2"},
    search.find_messages: {"q": "ann from:1001"},
}
IDS = (
    st.sampled_from(
        [
            "1001",
            "1002",
            "0",
            "d-1001-1002",
            "d-1001-1001",
            "phone",
            "x",
            "%",
            "9" * 19,
            "current",
            "messages",
            ".",
        ]
    )
    | TEXT
)


@pytest.fixture
def settings(tmp_path):
    """So few log-ins that the fuzzer finds the limits too, and hashing does not slow it."""
    return Settings(data=tmp_path, logins_per_minute=20)


@pytest.fixture
async def app(backends):
    await backends.accounts.register(Profile(ANN, "ann", "Ann", 1), DUMMY_HASH)
    await backends.administrators.grant(ANN, now_ms=1)
    return http_app(["https://chat.test"])


async def token_of_a_new_device(backends) -> str:
    """A good token: what the fuzzer's log-outs end is one device of many."""
    now_ms, name = time.time_ns() // 1_000_000, f"d{next(DEVICES)}"
    await backends.log_ins.begin(
        Device(
            ANN,
            name,
            "",
            secrets.token_hex(11),
            1,
            secrets.token_bytes(32),
            None,
            secrets.token_bytes(32),
            now_ms,
            now_ms,
        )
    )
    claims = claims_of(ANN, name, issued_ms=now_ms, token_s=900, administrator=True)
    return backends.signing_key.sign(claims)


@st.composite
def bodies_of(draw, call: Endpoint) -> bytes:
    """From right to nonsense."""
    good = GOOD.get(call, {})
    changed = draw(
        st.dictionaries(st.sampled_from(sorted(good) or ["x"]) | TEXT, VALUES, max_size=2)
    )
    missing = draw(st.sets(st.sampled_from(sorted(good) or ["x"]), max_size=1))
    fields = {name: value for name, value in (good | changed).items() if name not in missing}
    text = json.dumps(draw(st.just(fields) | VALUES)).encode()
    cut = draw(st.integers(0, len(text)) | st.just(len(text)))
    return draw(st.just(text[:cut]) | st.just(text) | st.binary(max_size=30))


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


@st.composite
def queries_of(draw, call: Endpoint) -> bytes:
    """Fields of the call and others, once or twice, quoted or not."""
    names = [given["name"] for given in openapi.parameters(call) if given["in"] == "query"] or ["x"]
    fields = list(GOOD_QUERIES.get(call, {}).items()) if draw(st.booleans()) else []
    fields += draw(
        st.lists(
            st.tuples(st.sampled_from(names) | TEXT, TEXT | st.integers().map(str)), max_size=3
        )
    )
    return draw(
        st.just("&".join(f"{quoted(name)}={quoted(value)}" for name, value in fields).encode())
        | st.binary(max_size=20)
    )


@st.composite
def requests(draw):
    """A call, and what is sent for it."""
    call = draw(st.sampled_from(openapi.described_endpoints()))
    method = draw(
        st.just(call.method)
        | st.sampled_from(
            ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"]
        )
    )
    path = "/".join(draw(IDS) if part.startswith("{") else part for part in call.path.split("/"))
    path = draw(st.just(path) | st.builds(lambda tail: f"{path}{tail}", TEXT))
    headers = {
        "content-type": draw(
            st.just("application/json")
            | st.sampled_from(
                ["", "text/plain", "application/json;charset=x", "multipart/form-data"]
            )
        ),
        "origin": draw(st.sampled_from(["https://chat.test", "https://evil.test", "null"])),
        **draw(
            st.dictionaries(
                st.sampled_from(
                    [
                        "accept",
                        "range",
                        "if-none-match",
                        "content-length",
                        "x-forwarded-for",
                        "cookie",
                    ]
                ),
                st.sampled_from(["", "-1", "*/*", "bytes=0-9,5-", "\xff"]),
                max_size=2,
            )
        ),
    }
    authorization = draw(
        st.sampled_from(["good", "good", "good", "", "Bearer x", "Bearer é", "Basic eDp5"])
    )
    return call, method, path, draw(queries_of(call)), headers, authorization, draw(bodies_of(call))


async def ask(app, method, path, query, headers, body):
    """What a server would do, without its own checks: status, headers, body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("192.0.2.1", 4_000),
        "server": ("chat.test", 80),
    }
    sent, parts = (
        [],
        [
            {"type": "http.request", "body": body[:7], "more_body": True},
            {"type": "http.request", "body": body[7:]},
        ],
    )

    async def receive():
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return (
        sent[0]["status"],
        {name.decode(): value.decode() for name, value in sent[0]["headers"]},
        b"".join(part["body"] for part in sent[1:]),
    )


@given(request=requests())
@hypothesis_settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_request_is_a_crash(backends, app, request):
    """Every answer is one that the document promises for the call."""
    call, method, path, query, headers, authorization, body = request
    if authorization:
        headers["authorization"] = (
            f"Bearer {await token_of_a_new_device(backends)}"
            if authorization == "good"
            else authorization
        )

    status, answered, content = await ask(app, method, path, query, headers, body)

    assert status < 500, content
    if status >= 400:
        problem = json.loads(content)
        assert set(problem) == {"code", "message", "details"}
        assert status == 405 or STATUS_OF_CODE[problem["code"]] == status
        assert answered["content-type"] == "application/json"
        if (
            method == call.method
            and path.count("/") == call.path.count("/")
            and problem["code"] != "not_found"
        ):
            assert problem["code"] in call.all_errors, problem
    elif content and method == call.method and answered["content-type"] == "application/json":
        check_answer(content)


def check_answer(content: bytes) -> None:
    """It is one of the objects that are promised."""
    fields = json.loads(content)
    for answer in {
        call.answer for call in openapi.described_endpoints() if call.answer is not None
    }:
        try:
            if issubclass(answer, endpoints.Body):
                answer.model_validate_json(content)
            else:
                msgspec.convert({"type": answer.__struct_config__.tag, **fields}, answer)
        except (ValueError, msgspec.ValidationError):
            continue
        return
    pytest.fail(f"no promised answer looks like {content!r}")
