"""What lies before the doors of the HTTP functions: finds the call, checks who asks and what comes in, answers in one shape.

`accounts` and `chats` hand it their requests with a table of calls and doors. A door takes an `Asked` and returns the answer or raises a
ChatError; statuses, headers and error bodies are made here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from backends import tracing
from backends.fair import work_for
from backends.telemetry import count, observe
from functions import door
from functions.addresses import NOBODYS, address_of
from functions.budgets import budgets_of
from functions.guard import authenticate
from schemas import bodies, frames
from schemas.calls import Call
from schemas.errors import ChatError, Malformed, Refused, Unavailable
from schemas.tokens import Twins, without_twins

if TYPE_CHECKING:
    from starlette.requests import Request

    from backends.wiring import Backends
    from schemas.tokens import Claims

log = logging.getLogger(__name__)

BODY_BYTES: Final = 65_536
BODY_S: Final = 2.0
"""From the head of a request to the end of its body. Who sends more slowly keeps nothing busy but a connection."""
_PATTERNS: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call, checked: what its door needs. `body` and `query` are of the models that the call declares."""

    backends: Backends
    now_ms: int
    address: str
    path: Mapping[str, str]
    body: Any
    query: Any
    caller: Claims | None

    @property
    def claims(self) -> Claims:
        """Who asks; there is nobody in a call that is open."""
        assert self.caller is not None  # noqa: S101 - `answer` has asked for a token
        return self.caller


Door = Callable[[Asked], Awaitable[bodies.Body | frames.ServerFrame | Response | None]]


async def answer(request: Request, doors: Mapping[Call, Door]) -> Response:
    """The answer to a request, whatever it is."""
    with tracing.span(request.method, "server", parent=request.headers.get("traceparent"), stranger=True) as span:
        name, response = await _answer(request, doors)
        if span.recorded:
            span.note({"http.request.method": request.method, "http.response.status_code": response.status_code}, name=name)
        if response.status_code >= 500:
            span.fail(str(response.status_code))
    return response


async def _answer(request: Request, doors: Mapping[Call, Door]) -> tuple[str, Response]:
    """The name of the call, and its answer."""
    started = time.perf_counter()
    name = "none"
    try:
        call, path = _find(request, doors)
        name = f"{call.method} {call.path}"
        async with asyncio.timeout(door.HANDLER_S):
            response = await _call(request, call, path, doors[call])
    except ChatError as error:
        response = door.problem(error)
        if isinstance(error, _LateBody):
            response.headers["connection"] = "close"
    except TimeoutError:
        response = door.problem(Unavailable(f"not done within {door.HANDLER_S:.0f} s"))
    except ClientDisconnect:
        response = door.problem(Malformed("the body ended early", field="body"))
    except _NoSuchMethod as error:
        refusal = Refused("not_found", "there is no such method here")
        response = JSONResponse(refusal.problem, 405, {"allow": ", ".join(error.allowed)})
    except Exception:
        log.exception("bug: call failed", extra={"call": name})
        response = JSONResponse(Unavailable("a bug in this function").problem, 500)
    if response.status_code == 401:
        response.headers["www-authenticate"] = "Bearer"
    response.headers["x-content-type-options"] = "nosniff"
    response.headers.setdefault("cache-control", "no-store")
    count("knchat_http_requests_total", call=name, status=str(response.status_code))
    observe("knchat_http_seconds", time.perf_counter() - started, call=name)
    return name, response


class _LateBody(Unavailable):
    """Nothing was done; the connection ends, since the rest of it would be taken for the next request's."""


class _NoSuchMethod(Exception):
    def __init__(self, allowed: list[str]) -> None:
        super().__init__(allowed)
        self.allowed = allowed


def _find(request: Request, doors: Mapping[Call, Door]) -> tuple[Call, Mapping[str, str]]:
    method = "GET" if request.method == "HEAD" else request.method
    allowed = []
    for call in doors:
        if (match := _pattern(call.path).match(request.scope["path"])) is not None:
            if call.method == method:
                return call, match.groupdict()
            allowed += ["GET", "HEAD"] if call.method == "GET" else [call.method]
    if allowed:
        raise _NoSuchMethod(allowed)
    raise Refused("not_found", "there is nothing here")


def _pattern(path: str) -> Any:
    if path not in _PATTERNS:
        _PATTERNS[path] = compile_path(path)[0]
    return _PATTERNS[path]


async def _call(request: Request, call: Call, path: Mapping[str, str], handle: Door) -> Response:
    backends = door.current()
    now_ms = backends.clock.now_ms()
    peer, forwarded = request.client.host if request.client else "", request.headers.getlist("x-forwarded-for")
    address = address_of(peer, forwarded, backends.settings.trusted_proxies)
    work_for(address)
    authorization = request.headers.get("authorization", "")
    try:
        caller = None if call.open else await authenticate(authorization, backends, now_ms=now_ms, ended=call.repeated)
    except Refused:
        await budgets_of(backends).denied(address)
        raise
    if caller is not None:
        work_for(str(caller.user))
    asked = Asked(
        backends=backends,
        now_ms=now_ms,
        address=address,
        path=path,
        query=None if call.query is None else _checked(call.query.model_validate, _query(request), place="query"),
        body=None if call.body is None else _checked(call.body.model_validate_json, await _body(request), place="body"),
        caller=caller,
    )
    async with budgets_of(backends).spend(call.cost.of(getattr(asked.query, "limit", 0)), **_whose(asked)):
        given = await handle(asked)
    match given:
        case None:
            return Response(status_code=call.status)
        case Response():
            return given
        case frames.ServerFrame():
            # The same object as the frame, less what belongs to a frame.
            fields = msgspec.to_builtins(given)
            del fields["type"]
            content = msgspec.json.encode(fields)
        case _:
            content = given.model_dump_json(exclude_none=True).encode()
    return Response(content, status_code=call.status, media_type="application/json")


def _whose(asked: Asked) -> dict[str, str]:
    """Whose budget a call is drawn from."""
    if asked.caller is not None:
        return {"device": f"{asked.caller.user}:{asked.caller.device}", "user": str(asked.caller.user)}
    renewed = {"log_in": asked.body.log_in} if isinstance(asked.body, bodies.Renewal) else {}
    return renewed if asked.address == NOBODYS else renewed | {"address": asked.address}


async def _body(request: Request) -> bytes:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Malformed("the content type must be application/json", field="content-type")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES:
                    raise Malformed(f"a body holds at most {BODY_BYTES} bytes", field="body", code="too_large")
    except TimeoutError:
        raise _LateBody(f"the body did not come within {BODY_S:.0f} s: send it again") from None
    try:
        json.loads(body, object_pairs_hook=without_twins)
    except Twins as error:
        raise Malformed(f"the body cannot be understood: {error}", field="body") from None
    except (ValueError, RecursionError):
        pass  # said better by what validates
    return bytes(body)


def _query(request: Request) -> dict[str, str]:
    items = request.query_params.multi_items()
    query = dict(items)
    if len(query) != len(items):
        raise Malformed("a query field occurs twice", field="query")
    return query


def _checked(validate: Callable[[Any], BaseModel], given: bytes | dict[str, str], *, place: str) -> BaseModel:
    try:
        return validate(given)
    except ValidationError as error:
        # Never the input itself: it may be a password.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or place
        raise Malformed(f"{field}: {first['msg'].removeprefix('Value error, ')}", field=field) from None
