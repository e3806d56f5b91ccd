"""The log's writing side on Knative: each record is a binary CloudEvent, posted to a KafkaSink:
commands to one, questions to the other.

Gateways append this way and read from Kafka. What a sink answers was measured at the real receiver:
202 after the broker has acknowledged; 503 or no answer mean that the record may have been stored,
even twice; its probes say nothing of the broker. Source: design.md D1, D6, D13.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from backends.http_post import HttpPost
from backends.log import ProducerRecord
from backends.requests import Headers
from schemas.cloudevents import Event, to_http
from schemas.errors import Malformed, Unavailable, Unfit
from schemas.signatures import SIGNATURE, sign
from schemas.topics import COMMANDS, MAX_RECORD_BYTES, QUERIES

PING_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long an adapter waits."""

    timeout_s: float = 10.0
    """For all records of an append. So long, too, the last failure makes the adapter unready."""
    refusal_window_s: float = 5.0
    """A sink that has taken nothing between refusals of so long refuses everything: no single event
    is to blame any more.
    """


TIMING: Final = Timing()

_REFUSALS: Final = frozenset({400, 413, 422})
"""What says that this very event is never taken: it is malformed or too large for the sink, or for
a proxy before it.
"""

_VARIABLES: Final = {COMMANDS: "K_SINK", QUERIES: "KNCHAT_SINK_QUERIES"}
_EXTENSION: Final = re.compile(r"[a-z0-9]+", re.ASCII)
_NOT_TO_OVERRIDE: Final = frozenset(
    {
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "subject",
        "datacontenttype",
        "dataschema",
        "data",
        SIGNATURE,
    }
)


class KnativeLogProducer:
    """Implements `LogProducer` for the topics that a gateway writes. Belongs to one event loop.

    `sinks`: topic -> URL, empty where a SinkBinding has not said it yet: then nothing is ready.
    `overrides`: the JSON of K_CE_OVERRIDES. `ca`: authorities (PEM) of https sinks; empty: the
    system's. Records of one call go one after the other, each when the one before is durable. Where
    the record goes is the sink's to choose, by the partitionkey.
    """

    def __init__(
        self,
        sinks: Mapping[str, str],
        *,
        overrides: str = "",
        ca: str = "",
        event_keys: Sequence[bytes] = (),
        timing: Timing = TIMING,
    ) -> None:
        self._timing = timing
        self._overrides = _extensions(overrides)
        self._event_keys = event_keys
        self._tls = _tls(ca) if any(url.startswith("https:") for url in sinks.values()) else None
        self._urls = sinks
        self._posts = {topic: _post(topic, url, self._tls) for topic, url in sinks.items() if url}
        self._under_way: set[asyncio.Future[None]] = set()
        self._failed_at_s = float("-inf")
        self._refused: dict[str, tuple[float, float, int]] = {}
        """Topics whose sink has taken nothing since it refused: since when, last when, with what
        status.
        """
        self._closed = False

    async def append(
        self, records: Sequence[ProducerRecord], *, then: Sequence[ProducerRecord] = ()
    ) -> None:
        """See `LogProducer`.

        A sink that is not there (404, 405) is as unavailable as one that is silent: no event is to
        blame for it. Malformed (of 413: too_large) when a sink says that it never takes this event:
        those before it in the call are in the log. And for what a sink would take and spoil:
        attributes beyond printable ASCII, an empty partitionkey, a chosen partition; nothing is
        sent.
        """
        requests = [(record.topic, *self._request(record)) for record in (*records, *then)]
        if self._closed:
            raise Unavailable("the log is closed")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            async with asyncio.timeout(self._timing.timeout_s):
                for topic, headers, body in requests:
                    await self._send(topic, headers, body)
        except TimeoutError as error:
            self._failed_at_s = _now_s()
            raise Unavailable(
                f"the sink did not confirm within {self._timing.timeout_s:.0f} s"
            ) from error
        finally:
            self._under_way.discard(done)
            done.set_result(None)

    async def ping(self) -> None:
        """See `LogProducer`.

        Ready is: both sinks are named and take connections, and no append has failed within the
        last 10 s. Unfit when a sink refuses everything: a limit there is set wrong. Malformed when
        its certificate is of no authority that we know.
        """
        if self._closed:
            raise Unavailable("the log is closed")
        if missing := [
            variable for topic, variable in _VARIABLES.items() if topic not in self._posts
        ]:
            raise Unavailable(f"{' and '.join(missing)} not set: is there a SinkBinding?")
        await asyncio.gather(*(self._connect(topic) for topic in self._posts))
        if _now_s() - self._failed_at_s < self._timing.timeout_s:
            raise Unavailable("the last append failed")
        for topic, (since_s, last_s, status) in self._refused.items():
            if (
                last_s - since_s >= self._timing.refusal_window_s
                and _now_s() - last_s < self._timing.timeout_s
            ):
                raise Unfit(
                    f"the sink of {topic} refuses everything ({status}): look at its limits, and "
                    "at those of what is before it"
                )

    async def close(self) -> None:
        """See `LogProducer`."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way)
        for post in self._posts.values():
            await post.close()

    async def _send(self, topic: str, headers: Headers, body: bytes) -> None:
        post = self._posts.get(topic)
        if post is None:
            raise Unavailable(f"{_VARIABLES[topic]} is not set: is there a SinkBinding?")
        try:
            status = (await post(headers, body)).status
        except OSError as error:
            self._failed_at_s = _now_s()
            raise Unavailable(
                f"the sink of {topic} gave no answer: {type(error).__name__}"
            ) from error
        if status in _REFUSALS:
            since_s = self._refused.get(topic, (_now_s(),))[0]
            self._refused[topic] = (since_s, _now_s(), status)
            code = "too_large" if status == 413 else "malformed"
            raise Malformed(
                f"the sink of {topic} refuses an event of {len(body)} bytes ({status})", code=code
            )
        if status >= 300:
            self._failed_at_s = _now_s()
            raise Unavailable(f"the sink of {topic} answered {status}")
        self._failed_at_s = float("-inf")
        self._refused.pop(topic, None)

    async def _connect(self, topic: str) -> None:
        place = urlsplit(self._urls[topic])
        tls = self._tls if place.scheme == "https" else None
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                _, writer = await asyncio.open_connection(
                    place.hostname, place.port or (443 if tls else 80), ssl=tls
                )
        except ssl.SSLCertVerificationError as error:
            raise Malformed(
                f"the certificate of the sink of {topic} cannot be verified: "
                f"{error.verify_message}",
                field="K_CA_CERTS",
            ) from error
        except OSError as error:  # TimeoutError is one
            raise Unavailable(
                f"the sink of {topic} cannot be reached: {type(error).__name__}"
            ) from error
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def _request(self, record: ProducerRecord) -> tuple[Headers, bytes]:
        """Headers and body. Raises Malformed for what must not be sent."""
        if record.topic not in _VARIABLES:
            raise Malformed(f"there is no sink for {record.topic}", field="topic")
        if record.partition is not None:
            raise Malformed("a sink chooses the partition itself", field="partition")
        if len(record.event.data) > MAX_RECORD_BYTES:  # a sink answers 503 to 1 MiB, always
            raise Malformed(
                f"a record holds at most {MAX_RECORD_BYTES} bytes of data, not "
                f"{len(record.event.data)}",
                field="data",
            )
        fields, body = to_http(sign(self._overridden(record.event), record.topic, self._event_keys))
        for name, value in fields:
            if not (value.isascii() and value.isprintable() and value == value.strip()):
                raise Malformed(
                    f"{name} is more than printable ASCII", field=name.removeprefix("ce-")
                )
            # It would be an empty key: one partition for all.
            if name == "ce-partitionkey" and not value:
                raise Malformed("the partitionkey is empty", field="partitionkey")
        # Said also of an empty body: proxies on the way may refuse a POST of no known length.
        return [
            *((name.encode(), value.encode()) for name, value in fields),
            (b"content-length", b"%d" % len(body)),
        ], body

    def _overridden(self, event: Event) -> Event:
        return (
            replace(event, extensions={**event.extensions, **self._overrides})
            if self._overrides
            else event
        )


def _post(topic: str, url: str, tls: ssl.SSLContext | None) -> HttpPost:
    try:
        return HttpPost(url, tls=tls)
    except Malformed as error:
        raise Malformed(
            f"{_VARIABLES[topic]} is no http or https URL", field=_VARIABLES[topic]
        ) from error


def _tls(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca or None)
    except (ssl.SSLError, ValueError) as error:
        raise Malformed(
            "K_CA_CERTS holds no certificates in PEM form", field="K_CA_CERTS"
        ) from error


def _extensions(overrides: str) -> Mapping[str, str]:
    """The extensions that K_CE_OVERRIDES asks for.

    Raises Malformed: an event must not lose its own attributes or its signature to them.
    """
    wrong = Malformed(
        'K_CE_OVERRIDES is not {"extensions": {name: text}} of extensions of its own',
        field="K_CE_OVERRIDES",
    )
    if not overrides:
        return {}
    try:
        extensions = json.loads(overrides).get("extensions") or {}
        pairs = list(extensions.items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise wrong from error
    for name, value in pairs:
        if (
            not (
                _EXTENSION.fullmatch(name)
                and isinstance(value, str)
                and value.isascii()
                and value.isprintable()
            )
            or name in _NOT_TO_OVERRIDE
        ):
            raise wrong
    return dict(pairs)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
