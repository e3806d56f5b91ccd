"""Endpoints: what a handler may take, and what is made of its parameters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from pydantic import BaseModel
from starlette.responses import Response

from functions.endpoints import accounts, chats, files
from functions.runtime.context import Context
from functions.runtime.http_endpoint import GIVEN, endpoint
from schemas import chat_queries, costs, endpoints, frames, groups
from schemas.tokens import Claims

ROOT = Path(__file__).parents[2]
ENDPOINTS = pytest.mark.parametrize(
    "call",
    [*accounts.ENDPOINTS, *chats.ENDPOINTS, *files.ENDPOINTS],
    ids=lambda call: call.name,
)


def test_a_handler_declares_what_a_call_takes_and_gives():
    """The parameters are the only place where it is said."""

    @endpoint("PUT", "/v1/things/{thing}", cost=costs.WRITE, errors=("stale",))
    async def put_thing(
        thing: str,
        body: endpoints.NewUser,
        query: endpoints.GatewayQuery,
        caller: Claims,
        context: Context,
    ) -> endpoints.Users:
        """Puts a thing."""

    assert (put_thing.name, put_thing.summary, put_thing.status) == (
        "PUT /v1/things/{thing}",
        "Puts a thing.",
        200,
    )
    assert (put_thing.body, put_thing.query, put_thing.answer) == (
        endpoints.NewUser,
        endpoints.GatewayQuery,
        endpoints.Users,
    )
    assert put_thing.parameters == ("thing", "body", "query", "caller", "context")
    assert put_thing.all_errors == (
        "malformed",
        "too_large",
        "not_found",
        "unauthorized",
        "suspended",
        "rate_limited",
        "unavailable",
        "stale",
    )
    assert put_thing.is_described


def test_no_answer_is_a_204_and_a_page_is_not_described():
    """By what the handler returns."""

    @endpoint("DELETE", "/v1/things", cost=costs.WRITE)
    async def delete_things(caller: Claims) -> None:
        """Deletes things."""

    @endpoint("GET", "/v1/things", cost=costs.ONE, is_open=True)
    async def get_things() -> Response:
        """A page."""

    assert (delete_things.status, delete_things.answer, delete_things.is_described) == (
        204,
        None,
        True,
    )
    assert (get_things.status, get_things.answer, get_things.is_described) == (200, None, False)


async def unknown(user: str) -> None: ...
async def mistyped(now_ms: str) -> None: ...
async def takes_nothing() -> None: ...
async def has_caller(caller: Claims) -> None: ...
async def takes_an_address(address: str) -> None: ...
async def has_no_model(body: int) -> None: ...
async def says_nothing(caller: Claims): ...


@pytest.mark.parametrize(
    ("handler", "path", "declared", "match"),
    [
        (unknown, "/v1/users", {}, "brings no user"),
        (mistyped, "/v1/users", {}, "brings no now_ms"),
        (takes_nothing, "/v1/users/{user}", {}, "does not take user"),
        (has_caller, "/v1/users", {"is_open": True}, "no caller"),
        (takes_an_address, "/v1/users/{address}", {}, "names address"),
        (has_no_model, "/v1/users", {}, "brings no body"),
        (says_nothing, "/v1/users", {}, "what it returns"),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_a_handler_that_no_request_fits_cannot_be_declared(handler, path, declared, match):
    """It fails when the module is loaded."""
    with pytest.raises(TypeError, match=match):
        endpoint("GET", path, cost=costs.ONE, **declared)(handler)


def test_a_call_without_a_cost_cannot_be_declared():
    """It fails when the module is loaded."""
    with pytest.raises(TypeError, match="cost"):
        endpoint("GET", "/v1/new")

    declared = (*accounts.ENDPOINTS, *chats.ENDPOINTS, *files.ENDPOINTS)
    assert all(call.cost.units >= 1 for call in declared)


@ENDPOINTS
def test_a_handler_is_typed(call):
    """Models and plain values, nothing that could be anything; and one library reads and writes all
    of a call.
    """
    hints = get_type_hints(call.handler)
    models = [model for model in (call.body, call.query, call.answer) if model is not None]

    assert Any not in hints.values()
    assert hints.get("body") is None or issubclass(hints["body"], endpoints.Body | groups.Body)
    assert hints.get("query") is None or issubclass(
        hints["query"], endpoints.Query | chat_queries.Query
    )
    assert {*hints} - {*GIVEN} <= {"return", "body", "query", *call.path_parameters}
    assert all(issubclass(model, BaseModel) for model in models) or all(
        issubclass(model, msgspec.Struct) for model in models
    )
    assert all(
        issubclass(call.answer, endpoints.Body | groups.Body | frames.ServerFrame)
        for _ in models
        if call.answer is not None
    )


@pytest.mark.parametrize("target", ["chats", "files"])
def test_a_target_is_served_without_pydantic(target):
    """Its models take 0.1 s of CPU, which a cold start would wait for; so do the drivers of stores
    that are not asked.
    """
    program = (
        f"import sys, functions.endpoints.{target}, functions.runtime.asgi; "
        "print(sorted({'pydantic', 'schemas.endpoints', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
