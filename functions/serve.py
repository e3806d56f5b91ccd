"""The functions as ASGI apps: `uvicorn functions.serve:app --timeout-keep-alive 75` in production, the others for `dev` and tests.

functions-framework makes each app; what is added here is what it lacks: `/livez` and `/readyz`, CORS, the trace of the request, and the
promise that `report_lost` never makes a dead letter of a dead letter. The rules are not known here.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

import functions_framework.aio
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse

from backends import tracing
from backends.telemetry import count
from functions import door, main
from functions.main import TRIGGERS, OnHttp
from schemas.errors import ChatError, Malformed, Refused, Unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from backends.wiring import Backends

READY_S: Final = 2.0
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The target that FUNCTION_TARGET names, behind its probes; of HTTP targets several, with commas. A wrong setting stops the start."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await _own_app(os.environ.get("FUNCTION_TARGET", ""))(scope, receive, send)


def event_app(target: str) -> ASGIApp:
    """The app of one event target."""
    inner = _framework_app(target)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [*scope["headers"], *_trace(scope["headers"])]
        await inner(scope, receive, _never_refusing(send) if target == "report_lost" else send)

    return handle


def http_app(allowed_origins: Iterable[str], *targets: str) -> ASGIApp:
    """The app of these HTTP targets, by the paths of their triggers; of all when none is named. Origins: see settings.allowed_origins."""
    places = [
        (path, _framework_app(trigger.target))
        for trigger in TRIGGERS
        if isinstance(trigger, OnHttp) and (not targets or trigger.target in targets)
        for path in trigger.paths
    ]

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        found = next((inner for place, inner in places if path == place or path.startswith(f"{place}/")), None)
        # functions-framework would answer these two itself, in plain text: a line break in the path, and methods that it does not route.
        if found is None or "\n" in path:
            await door.problem(Refused("not_found", "there is nothing here"))(scope, receive, send)
        else:
            method = scope["method"] if scope["method"] in _METHODS else "OPTIONS"  # which no call has: 405 with Allow
            await found({**scope, "method": method}, receive, send)

    return CORSMiddleware(
        route,
        allow_origins=list(allowed_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["retry-after"],
    )


async def missing(backends: Backends, ports: Iterable[str]) -> list[str]:
    """Which of these ports do not answer a ping within READY_S."""

    async def answers(port: str) -> bool:
        try:
            async with asyncio.timeout(READY_S):
                await getattr(backends, port).ping()
        except (ChatError, TimeoutError):
            return False
        return True

    ports = list(ports)
    return [port for port, good in zip(ports, await asyncio.gather(*map(answers, ports)), strict=True) if not good]


def probed(inner: ASGIApp, ports: Iterable[str]) -> ASGIApp:
    """The app with `/livez`, and `/readyz`, which names those of the ports that do not answer."""
    ports = list(ports)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/livez":
            await PlainTextResponse("ok")(scope, receive, send)
        elif scope["path"] == "/readyz":
            try:
                silent = await missing(door.current(), ports)
            except Unavailable as error:
                await door.problem(error)(scope, receive, send)
                return
            answer = door.problem(Unavailable(f"no answer from {', '.join(silent)}")) if silent else PlainTextResponse("ok")
            await answer(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return handle


def needs(target: str) -> list[str]:
    """The ports without which this target can do nothing."""
    return sorted({port for trigger in TRIGGERS if trigger.target == target for port in trigger.needs})


@cache
def _own_app(named: str) -> ASGIApp:
    # Imports make many objects and hardly any garbage: with the default thresholds looking for it takes a tenth of a cold start.
    gc.set_threshold(50_000, 20, 100)
    of_http = {trigger.target: isinstance(trigger, OnHttp) for trigger in TRIGGERS}
    targets = named.split(",")
    if unknown := [target for target in targets if target not in of_http]:
        raise Malformed(f"FUNCTION_TARGET must be one of {', '.join(sorted(of_http))}, not {unknown[0]!r}", field="FUNCTION_TARGET")
    if all(of_http[target] for target in targets):
        ports = sorted({port for target in targets for port in needs(target)})
        return probed(http_app(door.current().settings.allowed_origins, *targets), ports)
    if len(targets) > 1:
        raise Malformed(f"FUNCTION_TARGET names one event target, not {named!r}", field="FUNCTION_TARGET")
    return probed(event_app(named), needs(named))


@cache
def _framework_app(target: str) -> ASGIApp:
    """Made of the module itself and not of its path: the path would be run again, and its folder would be put on sys.path."""
    made: ASGIApp = functions_framework.aio.create_asgi_app_from_module(  # type: ignore[no-untyped-call] # the framework has no types
        target, main.__file__, None, main, main.__spec__
    )
    return made


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        try:
            door.current()
            _own_app(os.environ.get("FUNCTION_TARGET", ""))
        except ChatError as error:
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
    await door.current().close()
    door.use(None)
    await tracing.close()
    await send({"type": "lifespan.shutdown.complete"})


def _trace(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The trace as an attribute of the event: functions-framework shows its targets the event alone, and Knative sends a plain header."""
    named = dict(headers)
    return [(b"ce-traceparent", named[b"traceparent"])] if b"traceparent" in named and b"ce-traceparent" not in named else []


def _never_refusing(send: Send) -> Send:
    """Turns the framework's 400 for what is no CloudEvent into a 200: a dead letter that was refused would come back for ever."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 400:
            count("knchat_dead_letters_total", became="unreadable")
            message = {**message, "status": 200}
        await send(message)

    return answer
