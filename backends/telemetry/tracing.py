"""Traces: W3C trace context carried from the gateway through the log and the functions, and spans
of what happens on the way.

What handles an event, or answers a call, opens a `span` around it; what it writes carries the
span's `traceparent`, and its log lines the trace. A span is recorded when `set_up` named an
endpoint and its trace is sampled; else it is a few random numbers, and nothing of OpenTelemetry is
loaded (design.md D21). Source: W3C Trace Context; OpenTelemetry's conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sized
from contextvars import ContextVar, Token
from functools import wraps
from inspect import iscoroutinefunction
from random import getrandbits, random
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeVar, cast

from schemas.cloudevents import trace_of
from schemas.errors import ChatError, Malformed

if TYPE_CHECKING:
    from types import TracebackType

    from backends.telemetry.otlp import Exporting
    from schemas.cloudevents import Event

CLOSE_TIMEOUT_S: Final = 2.0
"""What the spans that are left at the end get to be sent."""

Kind = Literal["producer", "consumer", "client", "server"]
Value = str | int | float
Port = TypeVar("Port")
Owner = TypeVar("Owner")

_SAMPLED: Final = frozenset("13579bdf")  # the last letter of a traceparent whose lowest flag is set

_exporting: Exporting | None = None
_ratio = 0.0
_entered: ContextVar[Span | None] = ContextVar("span", default=None)


def set_up(endpoint: str, *, ratio: float, service: str) -> None:
    """Sends spans to this OTLP endpoint from now on, of so many of the traces that begin in this
    process (0 to 1).

    Empty: nowhere. Call it before the ports are opened. Loads OpenTelemetry, which takes about 0.15
    s (measured). Raises Malformed when that fails: its packages are not installed, or an OTEL_
    variable is wrong.
    """
    # Like the metrics, spans of a process go to one place.
    global _exporting, _ratio  # noqa: PLW0603
    if not endpoint:
        return
    try:
        # Not loaded where spans are not sent.
        from backends.telemetry.otlp import Exporting  # noqa: PLC0415

        _exporting = Exporting(endpoint, service=service)
    except (ImportError, ValueError, OSError) as error:
        raise Malformed(
            f"spans cannot be exported: {error}", field="KNCHAT_OTLP_ENDPOINT"
        ) from error
    _ratio = ratio


def set_ratio(ratio: float) -> None:
    """Sends so many of the traces that begin in this process from now on, where it sends any."""
    global _ratio  # noqa: PLW0603 - see set_up
    if _exporting is not None:
        _ratio = ratio


async def close() -> None:
    """Sends what is left, for at most CLOSE_TIMEOUT_S, and records no more."""
    global _exporting, _ratio
    exporting, _exporting, _ratio = _exporting, None, 0.0
    if exporting is not None:
        await exporting.close(CLOSE_TIMEOUT_S)


class Span:
    """One thing that is done, from `with` to its end.

    An exception that leaves it makes it failed.
    """

    __slots__ = ("_token", "event", "over", "traceparent")

    recorded: ClassVar[bool] = False
    """Whether it will be exported; if not, there is no use in making what would be noted."""

    def __init__(self, traceparent: str, event: str) -> None:
        self.traceparent = traceparent
        """Of what is written because of it."""
        self.event = event
        """Id of the event that it is about, for log lines; empty: none, or not known yet."""
        self.over = False
        """It has ended; a task that was started inside it may live on."""
        self._token: Token[Span | None]

    @property
    def trace(self) -> str:
        """The id of the trace, 32 hex digits."""
        return self.traceparent[3:35]

    def note(self, attributes: Mapping[str, Value], *, name: str | None = None) -> None:
        """Says more of it, and its name where that was not known before.

        Never texts of messages, passwords or tokens.
        """

    def fail(self, why: str) -> None:
        """It failed, without an exception. `why` is a code or the name of a class, not a text."""

    def end(self) -> None:
        """Called at the end of `with`."""

    def __enter__(self) -> Self:
        self._token = _entered.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        _entered.reset(self._token)
        self.over = True
        if error is not None:
            self.fail(error.code if isinstance(error, ChatError) else type(error).__name__)
        self.end()


def span(
    name: str, kind: Kind, *, parent: str | None = None, event: str = "", stranger: bool = False
) -> Span:
    """A span inside the trace of `parent`, a traceparent as it came, or of a new trace where that
    is None or malformed.

    The parent says whether it is recorded. Not that of a stranger, who would make us record all
    that he does: there the trace goes on, and is sampled like one that begins here.
    """
    trace = None if parent is None else trace_of(parent)
    # A sample.
    sampled = random() < _ratio if trace is None or stranger else trace[-1] in _SAMPLED  # noqa: S311
    if sampled and _exporting is not None:
        return _exporting.start(name, kind, trace, event)
    if trace is None:
        made = f"{getrandbits(192):048x}"
        return Span(f"00-{made[:32]}-{made[32:]}-00", event)
    return Span(f"{trace[:36]}{getrandbits(64):016x}-0{'1' if sampled else '0'}", event)


def current() -> Span | None:
    """The span that this is done in; None outside of any."""
    entered = _entered.get()
    return None if entered is None or entered.over else entered


def traceparent() -> str | None:
    """The traceparent of the current span, for what is written in it."""
    entered = current()
    return None if entered is None else entered.traceparent


def recorded_parent(headers: Iterable[tuple[str, bytes]]) -> str | None:
    """The traceparent among the headers of a record, if a span inside it would be recorded here."""
    if _exporting is not None:
        for name, value in headers:
            if name == "traceparent":
                trace = trace_of(value.decode("latin-1"))
                return trace if trace is not None and trace[-1] in _SAMPLED else None
    return None


def note_published(span: Span, topic: str, event: Event, items: int) -> None:
    """Says of a producer's span what it appends: one event of so many commands or questions."""
    span.event = event.id
    if span.recorded:
        said = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        span.note(
            {
                **said,
                "messaging.message.body.size": len(event.data),
                "cloudevents.event_id": event.id,
                "knchat.items": items,
            }
        )


def in_spans(opened: Callable[[Owner], Port]) -> Callable[[Owner], Port]:
    """For what opens a port: puts a client span around each call of the port that is made inside a
    recorded span.

    Where nothing is recorded it is the port itself, at no cost.
    """

    @wraps(opened)
    def open_it(owner: Owner) -> Port:
        port = opened(owner)
        return port if _exporting is None else cast("Port", _Traced(port, opened.__name__))

    return open_it


class _Traced:
    """Stands before a port."""

    def __init__(self, port: object, name: str) -> None:
        self._port, self._name = port, name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if name in {"ping", "close"} or not iscoroutinefunction(found):
            return found
        traced = self._in_span(found, name)
        setattr(self, name, traced)  # found without __getattr__ the next time
        return traced

    def _in_span(
        self, call: Callable[..., Awaitable[Any]], name: str
    ) -> Callable[..., Awaitable[Any]]:
        adapter = type(self._port).__name__

        @wraps(call)
        async def traced(*args: Any, **kwargs: Any) -> Any:
            around = current()
            if around is None or not around.recorded:
                return await call(*args, **kwargs)
            with span(
                f"{self._name}.{name}", "client", parent=around.traceparent, event=around.event
            ) as inner:
                counted = args and isinstance(args[0], Sized) and not isinstance(args[0], str)
                inner.note(
                    {
                        "knchat.adapter": adapter,
                        **({"knchat.items": len(args[0])} if counted else {}),
                    }
                )
                return await call(*args, **kwargs)

        return traced
