"""The published documents are made from what validates, and lead nowhere outside."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urljoin

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backends.wiring import Backends
from functions.endpoints import (
    accounts,
    chats,
    configuration,
    devices,
    files,
    groups,
    relations,
    search,
)
from functions.runtime import openapi
from functions.runtime.budgets import RATE_LIMIT_HEADERS
from functions.runtime.context import use_backends
from schemas import endpoints
from schemas.errors import STATUS_OF_CODE
from schemas.tokens import jwk_of, keys_of
from tests.functions.callers import Caller, problem

CALLS = openapi.described_endpoints()
QUERIES = {
    accounts.list_users: ("search", "ids", "limit"),
    devices.get_gateway: ("user",),
    relations.list_contacts: ("after", "limit"),
    relations.list_blocks: ("after", "limit"),
    chats.list_chats: ("after", "limit", "archived"),
    groups.list_members: ("after", "limit"),
    chats.get_receipts: ("after", "limit"),
    chats.get_messages: ("before", "after", "around", "limit"),
    chats.get_digest: ("from", "to"),
    files.get_file: ("size",),
    configuration.list_revisions: ("before", "limit"),
    files.list_files: ("after", "limit"),
    search.find_messages: ("q", "chat", "before", "limit"),
}
"""What stands behind the question mark of which call."""


@pytest.fixture
def anonymous(backends):
    return Caller(backends)


def nodes(value):
    """Every object in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from nodes(item)


async def test_the_document_is_open_and_names_every_call(anonymous):
    """What is served is what is published, call by call."""
    answer = await anonymous.get("/v1/openapi.json")

    paths = answer.json()["paths"]
    published = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert published == {(call.method, call.path) for call in CALLS}
    served = {*accounts.ENDPOINTS, *chats.ENDPOINTS, *files.ENDPOINTS}
    assert set(CALLS) <= served
    assert {call.path for call in served - set(CALLS)} == {
        "/v1/openapi.json",
        "/v1/docs",
        "/v1/docs/{file}",
        "/v1/blobs/{area}/{name}",
    }
    assert answer.headers["content-type"] == "application/json"


async def test_the_document_holds_together():
    """Every reference leads somewhere, every schema is used, operation ids are unique, and words of
    newer versions are not in it.
    """
    document = openapi.document()
    text = json.dumps(document)

    used = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    operations = [
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    ]

    assert used == set(document["components"]["schemas"])
    assert len(operations) == len(set(operations)) == len(CALLS)
    assert {
        tag
        for methods in document["paths"].values()
        for operation in methods.values()
        for tag in operation["tags"]
    } == {
        *("users", "sessions", "tokens", "devices", "me", "contacts", "blocks", "gateways"),
        *("chats", "config", "files", "keys", "search"),
    }
    assert document["openapi"] == "3.0.3"
    for node in nodes(document):
        assert node.get("type") != "null"
        assert not isinstance(node.get("type"), list)
        assert not {"$defs", "examples", "const", "prefixItems"} & set(node)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_call_is_described_whole(call):
    """Its success, each of its errors with their status, its body, its parameters, and whether a
    token is wanted.
    """
    operation = openapi.document()["paths"][call.path][call.method.lower()]

    success = {call.status, call.repeat_status} - {None}
    statuses = {*map(str, success)} | {str(STATUS_OF_CODE[code]) for code in call.all_errors}
    assert set(operation["responses"]) == statuses
    assert all(
        f"`{code}`" in operation["responses"][str(STATUS_OF_CODE[code])]["description"]
        for code in call.all_errors
    )
    assert ("requestBody" in operation) == (call.body is not None)
    assert operation["security"] == ([] if call.is_open else [{"token": []}])
    names = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", ())}
    assert names == {("path", name) for name in re.findall(r"{(\w+)}", call.path)} | {
        ("query", name) for name in QUERIES.get(call, ())
    }
    assert operation["summary"].endswith(".")
    assert operation["x-cost"] == {"units": call.cost.units, "per_item": call.cost.per_item}
    for status, response in operation["responses"].items():
        beside = {"retry-after"} if status in {"429", "503"} else set()
        assert {*RATE_LIMIT_HEADERS, *beside} - {*response["headers"]} == set()


def test_models_that_validate_are_the_ones_published():
    """A limit in the model is the limit in the document."""
    schema = openapi.document()["components"]["schemas"]

    new_user = schema["NewUser"]
    assert new_user["required"] == ["user_name", "password"]
    assert (
        new_user["properties"]["password"]["minLength"],
        new_user["properties"]["password"]["maxLength"],
    ) == (8, 256)
    assert new_user["properties"]["phone"]["nullable"] is True
    assert schema["ProfileChange"]["properties"]["display_name"].get("nullable") is None
    assert set(schema["Problem"]["properties"]) == set(endpoints.Problem.model_fields)
    assert "type" not in schema["Page"]["properties"]
    assert "re" not in schema["Page"]["properties"]


async def test_the_page_loads_from_here_only(anonymous):
    """Each reference of the page is served, and the browser is told to load
    nothing from elsewhere.
    """
    page = await anonymous.get("/v1/docs")

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 4
    for file in files:
        answer = await anonymous.get(f"/v1/{file}")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert answer.content
    start = (await anonymous.get("/v1/docs/start.js")).text
    assert "validatorUrl: null" in start
    assert "http" not in start


@pytest.mark.parametrize(
    "file",
    [
        "index.html",
        "swagger-ui.js",
        "../__init__.py",
        "%2e%2e%2f__init__.py",
        "swagger-ui.css%00",
        "",
    ],
)
async def test_other_files_of_the_bundle_are_not_served(anonymous, file):
    """A list, not a folder."""
    assert problem(await anonymous.get(f"/v1/docs/{file}"))[:2] == (404, "not_found")


async def test_the_public_keys_are_a_jwks(anonymous, backends):
    """A gateway elsewhere reads them by URL."""
    answer = await anonymous.get("/.well-known/jwks.json")

    assert answer.json() == {"keys": [dict(backends.signing_key.jwk)]}
    assert list(keys_of(answer.content)) == [backends.signing_key.jwk["kid"]]
    assert "d" not in answer.json()["keys"][0]


async def test_all_keys_that_count_are_in_the_jwks(backends, settings, tmp_path):
    """Also the one before a rotation: what it has signed is good until it expires, and a program
    that reads the keys by URL must know it.
    """
    before = Ed25519PrivateKey.generate().public_key()
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk_of(before), dict(backends.signing_key.jwk)]}))
    rotating = Backends(replace(settings, jwks=str(file)))
    use_backends(rotating)

    answer = await Caller(rotating).get("/.well-known/jwks.json")

    assert [key["kid"] for key in answer.json()["keys"]] == [
        backends.signing_key.jwk["kid"],
        jwk_of(before)["kid"],
    ]
    assert set(keys_of(answer.content)) == {backends.signing_key.jwk["kid"], jwk_of(before)["kid"]}
    await rotating.close()


async def test_calls_are_made_where_the_document_lies(anonymous):
    """Behind a proxy that serves us below a prefix, too: the server is told relative to the
    document (OpenAPI 3, server object).
    """
    (server,) = (await anonymous.get("/v1/openapi.json")).json()["servers"]
    base = urljoin("https://example.org/chat/v1/openapi.json", server["url"]).rstrip("/")

    assert {base + call.path for call in CALLS} == {
        f"https://example.org/chat{call.path}" for call in CALLS
    }
