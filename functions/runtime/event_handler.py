"""Event handlers: a CloudEvent from functions-framework goes in, a rule is called, one of three
verdicts comes out.

    200  done, a refused command included (its sender is told)
    422  never again: the dispatcher makes it a dead letter, `kne-reason` says why
    503  try again: something outside does not answer

Verdicts are raised here and nowhere else (design.md D11, D15). A target is `@on_event(...)` above a
rule of its own name.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import TYPE_CHECKING, Final, TypeVar

import functions_framework.aio
from starlette.exceptions import HTTPException

from backends.telemetry import tracing
from backends.telemetry.metrics import count, observe
from functions.runtime.context import Context, current_context, current_timing
from schemas import cloudevents
from schemas.cloudevents import Event
from schemas.errors import ChatError, Malformed, Unavailable
from schemas.signatures import check_age, check_signature
from schemas.topics import EVENT_TYPES, INBOXES

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent
    from functions_framework.aio import CloudEventFunction
    from google.protobuf.message import Message

    from backends.wiring import Backends

log = logging.getLogger(__name__)

REASON: Final = "kne-reason"
"""The only `kne-` header there is: a name outside a-z0-9 after `kne-` wedges the partition for good
(measured).
"""

Payload = TypeVar("Payload", bound="Message")

_NOT_A_REASON: Final = re.compile(r"[^a-z0-9]+")


def on_event(
    payload: type[Payload], *inboxes: str
) -> Callable[[Callable[[Payload, Event, Context], Awaitable[None]]], CloudEventFunction]:
    """Makes a rule the target for events whose data are `payload`, signed for one of the topics
    `inboxes`; others are 422.

    The name must be one of its own in the whole project: functions-framework keeps its targets by
    `__name__`.
    """
    accepted = EVENT_TYPES[payload.DESCRIPTOR.name].type

    def decorate(rule: Callable[[Payload, Event, Context], Awaitable[None]]) -> CloudEventFunction:
        @functions_framework.aio.cloud_event
        @wraps(rule)
        async def target(received: CloudEvent) -> None:
            async def work() -> None:
                context = current_context()
                event = read(received, context.backends, inboxes)
                if event.type != accepted:
                    raise Malformed(f"this inbox takes {accepted} only", code="unknown_type")
                await rule(cloudevents.parse(event, payload), event, context)

            await _handle(rule.__name__, received, work)

        return target

    return decorate


def on_dead_letter(rule: Callable[[Event, Context], Awaitable[None]]) -> CloudEventFunction:
    """Makes a rule the target for events of any type.

    It never answers 422, which would make dead letters of dead letters without end.
    """

    @functions_framework.aio.cloud_event
    @wraps(rule)
    async def target(received: CloudEvent) -> None:
        async def work() -> None:
            context = current_context()
            try:
                await rule(read(received, context.backends, INBOXES), context)
            except Malformed as error:
                count("knchat_dead_letters_total", became="unreadable")
                log.warning("dead letter is not readable", extra={"reason": reason_of(error)})

        await _handle(rule.__name__, received, work, never_refused=True)

    return target


def read(received: cloudevents.SdkEvent, backends: Backends, inboxes: Collection[str]) -> Event:
    """The event, checked: form, plain attributes, and where there are keys its signature and its
    age (design.md D23).

    Raises Malformed.
    """
    event = cloudevents.from_sdk(received)
    for name, value in (("id", event.id), ("source", event.source)):
        if not (value.isascii() and value.isprintable()):
            raise Malformed(
                f"{name} must be printable ASCII: ids of further events are made from it",
                field=name,
            )
    keys, now_ms = backends.settings.event_keys, backends.clock.now_ms()
    check_signature(event, inboxes, keys, now_ms=now_ms)
    # Nothing is refused by a clock that was never set: its machine's may be a day ahead, and the
    # event would be a dead letter. The embedded log keeps what was not processed for as long as
    # that takes, and is reached over no network.
    if keys and backends.settings.log != "embedded" and backends.clock.is_trusted:
        check_age(event, inboxes, now_ms=now_ms)
    return event


def reason_of(error: ChatError) -> str:
    """A short code for `kne-reason` and logs: a-z, 0-9 and dashes."""
    return _NOT_A_REASON.sub("-", f"{error.code} {error.field or ''}".lower()).strip("-")


async def _handle(
    target: str,
    received: CloudEvent,
    work: Callable[[], Awaitable[None]],
    *,
    never_refused: bool = False,
) -> None:
    started = time.perf_counter()
    attributes = received.get_attributes()
    place = {"target": target, "event": ascii(attributes.get("id"))}
    with tracing.span(
        f"process {target}", "consumer", parent=attributes.get("traceparent"), event=place["event"]
    ) as span:
        verdict = await _verdict_of(work, place)
        if never_refused and verdict is not None and verdict.status_code == 422:
            count("knchat_dead_letters_total", became="bug")
            verdict = None
        status = 200 if verdict is None else verdict.status_code
        if span.recorded:
            named = {
                f"cloudevents.event_{name}": ascii(attributes.get(name))[1:-1]
                for name in ("id", "source", "type")
            }
            span.note(
                {
                    **named,
                    "messaging.system": "kafka",
                    "messaging.operation.type": "process",
                    "knchat.verdict": status,
                }
            )
        if verdict is not None:
            span.fail((verdict.headers or {}).get(REASON, "unavailable"))
    observe("knchat_event_seconds", time.perf_counter() - started, target=target)
    count("knchat_events_total", target=target, verdict=str(status))
    if verdict is not None:
        raise verdict


async def _verdict_of(
    work: Callable[[], Awaitable[None]], place: dict[str, str]
) -> HTTPException | None:
    """Does the work. None: it is done."""
    timeout_s = current_timing().handler_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            await work()
    except (Unavailable, TimeoutError) as error:
        log.info(
            "event not done, to be tried again", extra={**place, "cause": str(error) or "timeout"}
        )
        return HTTPException(503, detail=str(error) or f"not done within {timeout_s:.0f} s")
    except ChatError as error:
        log.warning("event refused for good", extra={**place, "reason": reason_of(error)})
        return HTTPException(422, detail=error.message, headers={REASON: reason_of(error)})
    except Exception as error:
        log.exception("bug: event dead-lettered", extra=place)
        return HTTPException(
            422,
            detail="a bug in this function",
            headers={REASON: f"bug-{type(error).__name__.lower()}"},
        )
    return None
