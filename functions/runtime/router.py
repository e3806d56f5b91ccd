"""What lies before the endpoints of the HTTP functions: finds the one asked for, checks who asks
and what comes in, answers in one shape.

`accounts` and `chats` answer with the router of their endpoints. An endpoint's handler returns its
answer or raises a ChatError; statuses, headers and error bodies are made here and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from backends.fair import work_for
from backends.telemetry import tracing
from backends.telemetry.metrics import count, observe
from functions.runtime.auth import authenticate, check_administrator
from functions.runtime.client_address import UNKNOWN_ADDRESS, client_address
from functions.runtime.context import current_context, current_timing
from functions.runtime.http_endpoint import Redirect
from functions.runtime.problems import problem_response
from schemas import frames
from schemas.errors import ChatError, Malformed, Refused, Unavailable
from schemas.tokens import Twins, without_twins

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from functions.runtime.http_endpoint import Endpoint
    from schemas import endpoints, groups
    from schemas.tokens import Claims

log = logging.getLogger(__name__)

MAX_BODY_BYTES: Final = 65_536


def router_of(endpoints: Iterable[Endpoint]) -> Router:
    """Starlette's router to these. functions-framework calls what a target returns with the
    request, as it does with a response.
    """
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    # One route a path: Starlette's own 405 names the methods of one route, and has not the shape
    # that errors have.
    routes = [Route(path, _Resource(methods)) for path, methods in by_path.items()]
    return Router(routes, redirect_slashes=False, default=_Resource({}))


class _Resource:
    """What lies at one path: an endpoint a method, or nothing at all. An ASGI app."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with tracing.span(
            request.method, "server", parent=request.headers.get("traceparent"), stranger=True
        ) as span:
            name, response = await _answer(request, self._endpoints)
            if span.recorded:
                span.note(
                    {
                        "http.request.method": request.method,
                        "http.response.status_code": response.status_code,
                    },
                    name=name,
                )
            if response.status_code >= 500:
                span.fail(str(response.status_code))
        await response(scope, receive, send)


async def _answer(request: Request, endpoints: Mapping[str, Endpoint]) -> tuple[str, Response]:
    """The name of the call, and its answer."""
    started, timeout_s = time.perf_counter(), current_timing().handler_timeout_s
    name, limits = "none", dict[str, str]()
    try:
        endpoint = _chosen(request.method, endpoints)
        name = endpoint.name
        async with asyncio.timeout(timeout_s):
            response = await _call(request, endpoint, limits)
    except ChatError as error:
        response = problem_response(error)
        if isinstance(error, _LateBody):
            response.headers["connection"] = "close"
    except TimeoutError:
        response = problem_response(Unavailable(f"not done within {timeout_s:.0f} s"))
    except ClientDisconnect:
        response = problem_response(Malformed("the body ended early", field="body"))
    except _NoSuchMethod as error:
        refusal = Refused("not_found", "there is no such method here")
        response = JSONResponse(refusal.problem, 405, {"allow": ", ".join(error.allowed)})
    except Exception:
        log.exception("bug: call failed", extra={"call": name})
        response = JSONResponse(Unavailable("a bug in this function").problem, 500)
    if response.status_code == 401:
        response.headers["www-authenticate"] = "Bearer"
    response.headers.update(limits)
    response.headers["x-content-type-options"] = "nosniff"
    response.headers.setdefault("cache-control", "no-store")
    count("knchat_http_requests_total", call=name, status=str(response.status_code))
    observe("knchat_http_seconds", time.perf_counter() - started, call=name)
    return name, response


class _LateBody(Unavailable):
    """Nothing was done; the connection ends, since the rest of it would be taken for the next
    request's.
    """


class _NoSuchMethod(Exception):
    def __init__(self, allowed: list[str]) -> None:
        super().__init__(allowed)
        self.allowed = allowed


def _chosen(method: str, endpoints: Mapping[str, Endpoint]) -> Endpoint:
    if not endpoints:
        raise Refused("not_found", "there is nothing here")
    if (endpoint := endpoints.get("GET" if method == "HEAD" else method)) is None:
        raise _NoSuchMethod([*endpoints, *(["HEAD"] if "GET" in endpoints else [])])
    return endpoint


async def _call(request: Request, endpoint: Endpoint, limits: dict[str, str]) -> Response:
    """Its answer; `limits` gets the headers that say what the caller may still spend."""
    context = current_context()
    backends = context.backends
    await backends.configuration.known()
    now_ms = backends.clock.now_ms()
    peer, forwarded = (
        request.client.host if request.client else "",
        request.headers.getlist("x-forwarded-for"),
    )
    address = client_address(peer, forwarded, backends.settings.trusted_proxies)
    work_for(address)
    authorization = request.headers.get("authorization", "")
    try:
        caller = (
            None
            if endpoint.is_open
            else await authenticate(
                authorization, backends, now_ms=now_ms, ended=endpoint.accepts_ended_token
            )
        )
    except Refused:
        await context.budgets.on_unauthorized(address)
        raise
    if caller is not None:
        work_for(str(caller.user))
    query = None if endpoint.query is None else endpoint.query.read(_query(request))
    body = (
        None
        if endpoint.body is None
        else endpoint.body.read(await _body(request, context.timing.body_timeout_s))
    )
    given = {
        **request.path_params,
        "body": body,
        "query": query,
        "caller": caller,
        "context": context,
        "now_ms": now_ms,
        "address": address,
        "request": request,
    }
    if "base" in endpoint.parameters:
        given["base"] = str(request.base_url).rstrip("/")
    async with context.budgets.spend(
        endpoint.cost.of(getattr(query, "limit", 0)), limits, **_whose(caller, body, address)
    ):
        if caller is not None and endpoint.for_administrators:
            await check_administrator(caller, backends)
        answer = await endpoint.handler(**{name: given[name] for name in endpoint.parameters})
    match answer:
        case None:
            return Response(status_code=endpoint.status)
        case Redirect():
            return Response(status_code=answer.status, headers={"location": answer.location})
        case Response():
            return answer
        case frames.ServerFrame():
            # The same object as the frame, less what belongs to a frame.
            fields = msgspec.to_builtins(answer)
            del fields["type"]
            content = msgspec.json.encode(fields)
        case _:
            content = answer.to_json()
    status: int = getattr(answer, "status", endpoint.status)
    return Response(content, status_code=status, media_type="application/json")


def _whose(
    caller: Claims | None, body: endpoints.Body | groups.Body | None, address: str
) -> dict[str, str]:
    """Whose budget a call is drawn from."""
    if caller is not None:
        return {"device": f"{caller.user}:{caller.device}", "user": str(caller.user)}
    log_in = None if body is None else body.log_in
    return {
        **({} if log_in is None else {"log_in": log_in}),
        **({} if address == UNKNOWN_ADDRESS else {"address": address}),
    }


async def _body(request: Request, timeout_s: float) -> bytes:
    if (
        request.headers.get("content-type", "").partition(";")[0].strip().lower()
        != "application/json"
    ):
        raise Malformed("the content type must be application/json", field="content-type")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise Malformed(
                        f"a body holds at most {MAX_BODY_BYTES} bytes",
                        field="body",
                        code="too_large",
                    )
    except TimeoutError:
        raise _LateBody(f"the body did not come within {timeout_s:.0f} s: send it again") from None
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
