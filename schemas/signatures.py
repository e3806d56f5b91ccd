"""Signatures of events: without an event key one can neither make an event that functions accept,
nor post an old one to another inbox or later.

The log's adapters sign what they append, for its inbox; functions and gateways check. Pure.
Source: design.md D23.

    knchatsig = "2." base64url(HMAC-SHA256(key, signed))
    signed = "2" LF inbox LF type LF source LF id LF time LF partitionkey LF data

`inbox` is the topic that the event is written to, `time` milliseconds since 1970, since Knative's
parts write it in a form of their own. Attributes hold no line feeds, so two different
events never give the same text. What the dispatcher adds (`knative...`), the trace and the schema's
name are not covered: they change on the way, or no rule reads them.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.cloudevents import Event
from schemas.errors import Malformed
from schemas.topics import TOPICS

SIGNATURE: Final = "knchatsig"
"""The attribute that holds the signature."""
VERSION_1_UNTIL_MS: Final = 1_801_440_000_000
"""2027-02-01.

Until then signatures of version 1 (of type, id and data alone) are accepted too: topics keep them
for 14 days.
"""

_VERSION: Final = "2."
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def sign(event: Event, inbox: str, keys: Sequence[bytes]) -> Event:
    """The event with its signature under the first key, for this topic; as it is when there are no
    keys.

    An event that a dispatcher took out of the log and dead-letters keeps the signature it came
    with, or none: else the dead letter of a forged event would be validly signed.
    """
    if not keys or "knativekafkaoffset" in event.extensions:
        return event
    return replace(
        event, extensions={**event.extensions, SIGNATURE: signature(event, inbox, keys[0])}
    )


def signature(event: Event, inbox: str, key: bytes) -> str:
    """The value of `knchatsig` for this topic under this key."""
    time = "" if event.time is None else _ms_of(event.time)
    key_of_partition = event.partitionkey or ""
    attributes = (
        f"2\n{inbox}\n{event.type}\n{event.source}\n{event.id}\n{time}\n{key_of_partition}\n"
    )
    return _VERSION + _mac(attributes.encode(), event.data, key)


def check_signature(
    event: Event, inboxes: Collection[str], keys: Sequence[bytes], *, now_ms: int
) -> None:
    """Refuses an event that is not signed for one of these topics under one of the keys (two are
    valid during a rotation).

    No keys: nothing is checked. Raises Malformed.
    """
    if not keys:
        return
    given = event.extensions.get(SIGNATURE, "")
    right: Iterable[str] = ()
    if given.startswith(_VERSION):
        right = (signature(event, inbox, key) for key in keys for inbox in inboxes)
    elif now_ms < VERSION_1_UNTIL_MS:
        right = (_mac(f"{event.type}\n{event.id}\n".encode(), event.data, key) for key in keys)
    if not any(hmac.compare_digest(given.encode(), one.encode()) for one in right):
        raise Malformed(
            "the event is not signed with a key of ours, for this inbox", field=SIGNATURE
        )


def is_signed(
    headers: Sequence[tuple[str, bytes]],
    value: bytes,
    inbox: str,
    keys: Sequence[bytes],
    *,
    now_ms: int,
) -> bool:
    """Whether the record, as the log gives it, is signed for its topic: `check_signature` at a
    fifth of the cost.
    """
    named = dict(headers)
    given = named.get(f"ce_{SIGNATURE}", b"")
    kind, identity = named.get("ce_type", b""), named.get("ce_id", b"")
    if not given.startswith(_VERSION.encode()):
        text = b"%b\n%b\n" % (kind, identity)
        lines, right = 2, (_mac(text, value, key) for key in keys if now_ms < VERSION_1_UNTIL_MS)
    else:
        try:
            time = str(_ms_of(named["ce_time"].decode())).encode() if "ce_time" in named else b""
        except (ValueError, TypeError):  # no time, or one without an offset: none of ours
            return False
        source, partition_key = named.get("ce_source", b""), named.get("ce_partitionkey", b"")
        text = b"2\n%b\n%b\n%b\n%b\n%b\n%b\n" % (
            inbox.encode(),
            kind,
            source,
            identity,
            time,
            partition_key,
        )
        lines, right = 7, (_VERSION + _mac(text, value, key) for key in keys)
    # A line feed in an attribute could make its end read as another attribute or as data.
    return text.count(b"\n") == lines and any(
        hmac.compare_digest(given, one.encode()) for one in right
    )


def check_age(event: Event, inboxes: Collection[str], *, now_ms: int) -> None:
    """Refuses an event that is older than these inboxes can hold: it was kept outside.

    An event that is re-driven on purpose is signed again. Raises Malformed.
    """
    oldest_s = max(TOPICS[inbox].oldest_s for inbox in inboxes)
    if event.time is None or _ms_of(event.time) < now_ms - oldest_s * 1_000:
        raise Malformed(
            f"the event is older than {oldest_s // 3_600} h, which no record of this inbox can be",
            field="time",
        )


def _mac(attributes: bytes, data: bytes, key: bytes) -> str:
    digest = hmac.digest(key, attributes + data, "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _ms_of(time: str) -> int:
    return (datetime.fromisoformat(time.upper()) - _EPOCH) // _MS
