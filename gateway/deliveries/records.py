"""What a gateway keeps of a record out of the log, and how it reads it: cheaply where it is ours,
with care where it is not.

`reader` and `resume` use it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from backends.log import ConsumerRecord
from backends.telemetry import tracing
from backends.telemetry.metrics import count
from schemas import cloudevents
from schemas.errors import Malformed
from schemas.signatures import is_signed
from schemas.topics import EventType

if TYPE_CHECKING:
    from google.protobuf.message import Message

log = logging.getLogger(__name__)

_NO_SPAN: Final = nullcontext()

Payload = TypeVar("Payload", bound="Message")


class ReceivedRecord(NamedTuple):
    """What is kept of a record while it waits.

    `data` is empty where it is nothing of ours; `trace` is None where it is not recorded.
    """

    partition: int
    offset: int
    at_ms: int
    data: bytes
    trace: str | None

    @classmethod
    def of(
        cls,
        stored: ConsumerRecord,
        event_type: EventType,
        *,
        keys: Sequence[bytes] = (),
        now_ms: int = 0,
        traced: bool = False,
    ) -> ReceivedRecord:
        """The part of it that is kept; `traced` when its trace is of interest.

        With event keys nothing is kept of what is not signed.
        """
        data = stored.value or b""
        if keys and not is_signed(stored.headers, data, stored.topic, keys, now_ms=now_ms):
            _skipped(stored, "not-signed")
            return cls(stored.partition, stored.offset, stored.at_ms, b"", None)
        # Reading the attributes costs 7 us, and all but one are for others.
        if ("ce_type", event_type.type.encode()) not in stored.headers or not data.startswith(
            cloudevents.MARK
        ):
            data = _data_of(stored, event_type)
        return cls(
            stored.partition,
            stored.offset,
            stored.at_ms,
            data,
            tracing.recorded_parent(stored.headers) if traced else None,
        )

    def span(self, topic: str) -> AbstractContextManager[object]:
        """The span in which it is pushed, where its trace is recorded; else nothing."""
        if self.trace is None:
            return _NO_SPAN
        span = tracing.span(f"deliver {topic}", "consumer", parent=self.trace)
        span.note(
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": topic,
            }
        )
        return span


def _data_of(stored: ConsumerRecord, event_type: EventType) -> bytes:
    """The data of a record in another form than ours; empty, and counted, when it is something
    else.
    """
    reason = "type"
    try:
        event = cloudevents.from_kafka(stored.headers, stored.value)
        if event.type == event_type.type and event.data.startswith(cloudevents.MARK):
            return event.data
    except Malformed as error:
        reason = error.field or "event"
    _skipped(stored, reason)
    return b""


def _skipped(stored: ConsumerRecord, reason: str) -> None:
    count("knchat_records_skipped_total", topic=stored.topic)
    log.warning(
        "record skipped",
        extra={
            "topic": stored.topic,
            "partition": stored.partition,
            "offset": stored.offset,
            "reason": reason,
        },
    )


def parse(data: bytes, message: type[Payload]) -> Payload:
    """The message; an empty one, counted, when the data are damaged."""
    try:
        return message.FromString(data)
    except DecodeError:
        count("knchat_records_skipped_total", topic=message.DESCRIPTOR.name)
        return message()
