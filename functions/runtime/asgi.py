"""The functions as ASGI apps: `uvicorn functions.runtime.asgi:app --timeout-keep-alive 75` in
production, the others for `dev` and tests.

functions-framework makes each app; what is added here is what it lacks: `/livez`, `/readyz` and
`/metrics`, CORS, the trace of the request, and the promise that `report_failed` never makes a dead
letter of a dead letter. The rules are not known here.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

import functions_framework.aio
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response

from backends.telemetry import tracing
from backends.telemetry.metrics import count
from functions import main
from functions.runtime import event_handler
from functions.runtime.context import current_context, use_backends
from functions.runtime.problems import problem_response
from functions.triggers import TRIGGERS, OnHttp
from schemas.errors import ChatError, Malformed, Refused, Unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from backends.wiring import Backends

MAX_EVENT_BYTES: Final = 2**20
"""No event that we write, or that a broker takes by default, is longer: more is not read."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The target that FUNCTION_TARGET names, behind its probes; of HTTP targets several, with
    commas.

    A wrong setting stops the start.
    """
    if scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await _own_app(os.environ.get("FUNCTION_TARGET", ""))(scope, receive, send)


def event_app(target: str) -> ASGIApp:
    """The app of one event target."""
    inner = _framework_app(target)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [
            *scope["headers"],
            *_trace(scope["headers"]),
            *_no_time(scope["headers"]),
        ]
        await inner(
            scope, _cut(receive), _never_refusing(send) if target == "report_failed" else send
        )

    return handle


def http_app(allowed_origins: Iterable[str], *targets: str) -> ASGIApp:
    """The app of these HTTP targets, by the paths of their triggers; of all when none is named.

    Origins: see settings.allowed_origins.
    """
    from functions.runtime.budgets import RATE_LIMIT_HEADERS  # noqa: PLC0415 - not for events

    places = [
        (path, _framework_app(trigger.target))
        for trigger in TRIGGERS
        if isinstance(trigger, OnHttp) and (not targets or trigger.target in targets)
        for path in trigger.paths
    ]

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        found = next(
            (inner for place, inner in places if path == place or path.startswith(f"{place}/")),
            None,
        )
        # functions-framework would answer these two itself, in plain text: a line break in the
        # path, and methods that it does not route.
        if found is None or "\n" in path:
            await problem_response(Refused("not_found", "there is nothing here"))(
                scope, receive, send
            )
        else:
            # No call has OPTIONS: 405 with Allow.
            method = scope["method"] if scope["method"] in _METHODS else "OPTIONS"
            await found({**scope, "method": method}, receive, send)

    return CORSMiddleware(
        route,
        allow_origins=list(allowed_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["retry-after", *RATE_LIMIT_HEADERS],
    )


def probed(inner: ASGIApp, ports: Iterable[str]) -> ASGIApp:
    """The app with `/livez`, `/readyz`, which names those of the ports that do not answer, and,
    unless the settings say no, `/metrics`.
    """
    ports = list(ports)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = inner
        try:
            match scope["path"]:
                case "/livez":
                    answer = PlainTextResponse("ok")
                case "/readyz":
                    backends = current_context().backends
                    missing = await backends.health.missing(ports)
                    ready = PlainTextResponse(
                        "\n".join(filter(None, ("ok", backends.clock.remark)))
                    )
                    answer = (
                        problem_response(Unavailable(f"not ready: {', '.join(missing)}"))
                        if missing
                        else ready
                    )
                case "/metrics" if current_context().backends.settings.metrics:
                    # Not at a start.
                    from backends.telemetry.prometheus import render  # noqa: PLC0415

                    text, kind = render()
                    answer = Response(text, headers={"content-type": kind})
                case _:
                    await current_context().backends.clock.settled()
        except Unavailable as error:
            answer = problem_response(error)
        await answer(scope, receive, send)

    return handle


def needs(*targets: str) -> list[str]:
    """The ports without which these targets can do nothing."""
    return sorted(
        {port for trigger in TRIGGERS if trigger.target in targets for port in trigger.needs}
    )


def uses(*targets: str) -> list[str]:
    """All ports that these targets ask, those that they can do without for a while too."""
    return sorted(
        {
            port
            for trigger in TRIGGERS
            if trigger.target in targets
            for port in (*trigger.needs, *trigger.uses)
        }
    )


def keep_current(backends: Backends, targets: Collection[str]) -> list[asyncio.Task[None]]:
    """Keeps what a process goes by as it is in the stores: its clock, and its configuration.

    Cancel these at the end.
    """
    time = keep_time(backends, targets)
    return [
        asyncio.create_task(backends.configuration.keep()),
        *([] if time is None else [time]),
    ]


def keep_time(backends: Backends, targets: Collection[str]) -> asyncio.Task[None] | None:
    """Sets the clock by a store that the targets ask anyway: its driver is loaded.

    None where they ask none.
    """
    asked = (*needs(*targets), *uses(*targets))
    store = next((port for port in asked if port in {"accounts", "chats"}), None)
    return (
        None
        if store is None
        else asyncio.create_task(backends.clock.keep(getattr(backends, store)))
    )


@cache
def _own_app(named: str) -> ASGIApp:
    # Imports make many objects and hardly any garbage: with the default thresholds looking for it
    # takes a tenth of a cold start.
    gc.set_threshold(50_000, 20, 100)
    of_http = {trigger.target: isinstance(trigger, OnHttp) for trigger in TRIGGERS}
    targets = named.split(",")
    if unknown := [target for target in targets if target not in of_http]:
        raise Malformed(
            f"FUNCTION_TARGET must be one of {', '.join(sorted(of_http))}, not {unknown[0]!r}",
            field="FUNCTION_TARGET",
        )
    if all(of_http[target] for target in targets):
        return probed(
            http_app(current_context().backends.settings.allowed_origins, *targets), needs(*targets)
        )
    if len(targets) > 1:
        raise Malformed(
            f"FUNCTION_TARGET names one event target, not {named!r}", field="FUNCTION_TARGET"
        )
    return probed(event_app(named), needs(named))


@cache
def _framework_app(target: str) -> ASGIApp:
    """Made of the module itself and not of its path: the path would be run again, and its folder
    would be put on sys.path.
    """
    # The framework has no types.
    made: ASGIApp = functions_framework.aio.create_asgi_app_from_module(  # type: ignore[no-untyped-call]
        target, main.__file__, None, main, main.__spec__
    )
    return made


async def _live(receive: Receive, send: Send) -> None:
    keeping: list[asyncio.Task[None]] = []
    while (await receive())["type"] == "lifespan.startup":
        try:
            named = os.environ.get("FUNCTION_TARGET", "")
            _own_app(named)
            backends = current_context().backends
            keeping = keep_current(backends, named.split(","))
            # But the clock, which is being set.
            await backends.health.check(
                [port for port in uses(*named.split(",")) if port != "clock"]
            )
        except ChatError as error:
            await _close(keeping)
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
    await _close(keeping)
    await send({"type": "lifespan.shutdown.complete"})


async def _close(keeping: Sequence[asyncio.Task[None]]) -> None:
    for task in keeping:
        task.cancel()
    if keeping:
        await asyncio.wait(keeping)
    with suppress(Unavailable):  # the environment is wrong, and nothing was opened
        await current_context().close()
        await current_context().backends.close()
    use_backends(None)
    await tracing.close()


def _trace(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The trace as an attribute of the event: functions-framework shows its targets the event
    alone, and Knative sends a plain header.
    """
    named = dict(headers)
    return (
        [(b"ce-traceparent", named[b"traceparent"])]
        if b"traceparent" in named and b"ce-traceparent" not in named
        else []
    )


def _no_time(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An empty time for an event without one: the SDK would invent one for each try, and what is
    made of the event would differ.
    """
    named = {name for name, _ in headers}
    return [(b"ce-time", b"")] if b"ce-specversion" in named and b"ce-time" not in named else []


def _cut(receive: Receive) -> Receive:
    """Ends a request whose body grows beyond an event's: never again.

    It is held in memory, and its signature is looked at when it is whole.
    """
    size = 0

    async def some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_EVENT_BYTES:
            error = Malformed(
                f"an event holds at most {MAX_EVENT_BYTES} bytes", field="data", code="too_large"
            )
            raise HTTPException(
                422,
                error.message,
                {event_handler.REASON: event_handler.reason_of(error), "connection": "close"},
            )
        return message

    return some


def _never_refusing(send: Send) -> Send:
    """Turns the refusal of what is no CloudEvent, or too long, into a 200: a dead letter that was
    refused would come back without end.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in {400, 422}:
            count("knchat_dead_letters_total", became="unreadable")
            message = {**message, "status": 200}
        await send(message)

    return answer
