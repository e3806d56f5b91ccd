"""The only codec of our events: CloudEvents in code, in HTTP requests and in Kafka records.

Binary mode goes out; binary and structured come in. HTTP requests to functions are parsed by
functions-framework with the cloudevents SDK, and `from_sdk` takes over from there; the rest is
written here, because the SDK 1.12 drops `ce_partitionkey`, guesses JSON from any body and gives
structured records a wrong content type (measured). Golden files pin the bytes. Source: design.md
D13, CloudEvents 1.0 HTTP and Kafka bindings.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from schemas.errors import Malformed

if TYPE_CHECKING:
    from google.protobuf.message import Message

PROTOBUF: Final = "application/protobuf"
STRUCTURED: Final = "application/cloudevents+json"
_CONTEXT: Final = ("specversion", "id", "source", "type")
_NAME: Final = re.compile(r"[a-z0-9]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_TRACE: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})", re.ASCII
)
MARK: Final = b"\x08\x01"  # field 1, varint 1: `schema = 1` of every event message


@dataclass(frozen=True, slots=True)
class Event:
    """One CloudEvent 1.0. Attributes are ASCII; `data` are bytes, empty when there are none.

    `extensions` holds what is not named here (`partitionkey`, `knchatsig`, `knativeerrorcode`,
    ...), names in small letters. `traceparent` travels as a plain header, not as an attribute, the
    way Knative carries it. After reading it is well-formed or None: no event fails because of its
    trace.
    """

    id: str
    source: str
    type: str
    data: bytes
    time: str | None = None
    datacontenttype: str | None = PROTOBUF
    dataschema: str | None = None
    subject: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None

    @property
    def partitionkey(self) -> str | None:
        """The key of the record; None: it has none."""
        return self.extensions.get("partitionkey")


def _attributes(event: Event) -> Iterable[tuple[str, str]]:
    yield "specversion", "1.0"
    yield "id", event.id
    yield "source", event.source
    yield "type", event.type
    for name in ("dataschema", "subject", "time"):
        if (value := getattr(event, name)) is not None:
            yield name, value
    yield from event.extensions.items()


def to_http(event: Event) -> tuple[list[tuple[str, str]], bytes]:
    """Headers (small letters) and body of a binary-mode request."""
    headers = [(f"ce-{name}", value) for name, value in _attributes(event)]
    if event.datacontenttype is not None:
        headers.append(("content-type", event.datacontenttype))
    if event.traceparent is not None:
        headers.append(("traceparent", event.traceparent))
    return headers, event.data


def to_kafka(event: Event) -> tuple[bytes | None, list[tuple[str, bytes]], bytes | None]:
    """Key, headers and value of a binary-mode record.

    The key is the partitionkey, also kept as an attribute; no data is a null value.
    """
    headers = [(f"ce_{name}", value.encode()) for name, value in _attributes(event)]
    if event.datacontenttype is not None:
        headers.append(("content-type", event.datacontenttype.encode()))
    if event.traceparent is not None:
        headers.append(("traceparent", event.traceparent.encode()))
    key = event.partitionkey
    return None if key is None else key.encode(), headers, event.data or None


def from_kafka(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> Event:
    """The event in a record, binary or structured JSON.

    The record's key is ignored: a partitionkey is an attribute. Raises Malformed when it is
    no CloudEvent 1.0.
    """
    named = [(name.lower(), raw) for name, raw in headers]
    try:
        # Headers that are not ours may hold anything.
        texts = {
            name: raw.decode()
            for name, raw in named
            if name.startswith("ce_") or name == "content-type"
        }
    except UnicodeDecodeError as error:
        raise Malformed("a header is not UTF-8") from error
    content_type = texts.get("content-type")
    trace = next((raw.decode("latin-1") for name, raw in named if name == "traceparent"), None)
    if content_type is not None and (media_type := _media_type(content_type)).startswith(
        "application/cloudevents"
    ):
        if media_type != STRUCTURED:
            raise Malformed(f"event format {content_type} is not understood", field="content-type")
        return _from_structured(value or b"", trace)
    attributes = {name[3:]: text for name, text in texts.items() if name.startswith("ce_")}
    return _event(attributes, value or b"", content_type, trace)


class SdkEvent(Protocol):
    """The part that is used of the SDK's event, which functions-framework passes to targets."""

    data: Any

    def get_attributes(self) -> Mapping[str, Any]:
        """All attributes but the data."""
        ...


def from_sdk(event: SdkEvent) -> Event:
    """The event that functions-framework parsed.

    Raises Malformed when its data are not bytes: the SDK takes any body that looks like JSON for
    JSON.
    """
    data = event.data
    if data is None:
        data = b""
    if not isinstance(data, bytes):
        raise Malformed("the data must be binary protobuf that starts with 08 01", field="data")
    attributes = {
        name: value if isinstance(value, str) else str(value)
        for name, value in event.get_attributes().items()
        if value is not None
    }
    if attributes.get("time") == "":  # so `asgi` keeps the SDK from inventing one
        del attributes["time"]
    trace = attributes.pop("traceparent", None)
    return _event(attributes, data, attributes.pop("datacontenttype", None), trace)


def _from_structured(body: bytes, trace: str | None) -> Event:
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        data, value = fields.pop("data_base64", None), fields.pop("data", None)
        if data is not None:
            raw = base64.b64decode(data, validate=True)
        elif value is not None:
            raw = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
        else:
            raw = b""
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise Malformed("the structured event is not JSON as CloudEvents wants it") from error
    attributes = {}
    for name, given in fields.items():
        if isinstance(given, str | int):  # bool too
            attributes[name] = str(given).lower() if isinstance(given, bool) else str(given)
        elif given is not None:
            raise Malformed(f"the attribute {name} is neither text, number nor boolean", field=name)
    return _event(attributes, raw, attributes.pop("datacontenttype", None), trace)


def _event(
    attributes: dict[str, str], data: bytes, content_type: str | None, trace: str | None
) -> Event:
    for name in attributes:
        if not _NAME.fullmatch(name):
            raise Malformed("the name of an attribute is not of a-z 0-9", field=name[:64])
    for name, text in (*attributes.items(), ("content-type", content_type)):
        # A line break would become a header of its own in the next hop's request, or a second text
        # of the same signature.
        if text is not None and _CONTROL.search(text):
            raise Malformed(f"{name} holds control characters", field=name)
    for name in _CONTEXT:
        if not attributes.get(name):
            raise Malformed(f"the event has no attribute {name}", field=name)
    if attributes.pop("specversion") != "1.0":
        raise Malformed("only CloudEvents 1.0 is understood", field="specversion")
    if (time := attributes.pop("time", None)) is not None:
        check_time(time)
    return Event(
        id=attributes.pop("id"),
        source=attributes.pop("source"),
        type=attributes.pop("type"),
        time=time,
        dataschema=attributes.pop("dataschema", None),
        subject=attributes.pop("subject", None),
        extensions=attributes,
        data=data,
        datacontenttype=content_type,
        traceparent=None if trace is None else trace_of(trace),
    )


def trace_of(text: str) -> str | None:
    """A `traceparent` in the form that we pass on: 55 characters, version 00.

    None when it is malformed: then a new trace begins.
    """
    # Later versions may append fields to those of version 00.
    if len(text) != 55 and (text[55:56] != "-" or text.startswith("00")):
        return None
    found = _TRACE.match(text)
    return None if found is None else f"00{found[1]}"


def check_time(text: str) -> None:
    """Refuses a `time` that is no RFC 3339 time with an offset: the dispatcher would wrap such an
    event, not deliver it.
    """
    if not _TIME.fullmatch(text):
        raise Malformed("time is not RFC 3339 with an offset", field="time")
    try:
        datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise Malformed("time is none that exists", field="time") from error


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


Payload = TypeVar("Payload", bound="Message")


def parse(event: Event, payload: type[Payload]) -> Payload:
    """The protobuf message in the event.

    Raises Malformed unless it is one of ours: binary protobuf whose first bytes are 08 01.
    """
    # Keeps this module light for those who only pass events on.
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if _media_type(event.datacontenttype or "") != PROTOBUF:
        raise Malformed(f"the content type must be {PROTOBUF}", field="content-type")
    if not event.data.startswith(MARK):
        raise Malformed("the data does not start with 08 01 (schema = 1)", field="data")
    message = payload()
    try:
        message.ParseFromString(event.data)
    except DecodeError as error:
        raise Malformed(f"the data is no {payload.DESCRIPTOR.name}", field="data") from error
    return message
