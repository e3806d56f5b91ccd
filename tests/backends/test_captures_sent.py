"""The dispatcher and the log on Knative over real sockets, beside the requests that the real
dispatcher sent and the real sink received.

Records go into the log as they were recorded, functions answer with the recorded bytes;
`captures/comparing.md` says what is compared how.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from collections import defaultdict

import msgspec
import pytest
from kafka import KafkaProducer

from backends.dispatcher.dispatcher import Dispatcher, Source
from backends.http_post import HttpPost
from backends.log import ConsumerRecord, ProducerRecord
from backends.log.embedded.log import EmbeddedLog
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.log import KafkaLog
from backends.log.kafka.topics import KafkaTopics
from backends.log.knative import KnativeLogProducer
from backends.retry_policy import RetryPolicy
from schemas.cloudevents import from_kafka
from schemas.signatures import SIGNATURE, signature
from schemas.topics import COMMANDS, DEAD_LETTERS, QUERIES
from tests.support.captured import (
    DEAD,
    DISPATCHED,
    EVENT_KEY,
    FOR_EVENT_HANDLERS,
    TO_SINKS,
    Message,
    captured,
    meaning,
    meaning_of_record,
    message,
    recorded,
    stored,
)
from tests.support.dispatched import Naps, end
from tests.support.events import event as any_event
from tests.support.real import NEEDS, topic_prefix

TIMEOUT_S = 60  # Kafka's groups form in seconds
DISPATCHED_HERE = [name for name in DISPATCHED if name not in FOR_EVENT_HANDLERS]
TOO = "dead-letter-that-fails-too"
POSTED = [file for file in TO_SINKS if file.startswith("receive-binary-")]
RETRY_POLICY = RetryPolicy(retry=3, backoff_delay_s=0.2, timeout_s=1)
"""That of the captures; half its timeout."""
TAKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK"
REFUSED = (
    b"HTTP/1.1 422 Unprocessable Entity\r\nkne-reason: bad-dead-letter\r\ncontent-length: "
    b"13\r\n\r\nno such event"
)
NOT_OURS = {"tracestate", "baggage", "x-request-id"}
"""Headers that were posted to see what becomes of them; no event of ours carries them."""


class Recorder:
    """A server that keeps what it is sent and answers as it is told: bytes, none for silence, None
    for a closed connection.
    """

    def __init__(self, answer):
        self._answer = answer
        self.requests = defaultdict(list)
        """Event id -> its tries, each the number of its connection and the message."""
        self.connections = 0

    async def __call__(self, reader, writer):
        self.connections += 1
        connection = self.connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(message(head).headers.get("content-length", 0)))
                request = message(head + body)
                tries = self.requests[request.headers["ce-id"]]
                tries.append((connection, request))
                answer = self._answer(request.headers["ce-id"], len(tries))
                if answer is None:
                    break
                if answer:
                    writer.write(answer)
                else:
                    await reader.read()  # until the other side closes
                    break
        writer.close()


@contextlib.asynccontextmanager
async def recording(answer):
    """The recorder and its URL."""
    recorder = Recorder(answer)
    async with await asyncio.start_server(recorder, "127.0.0.1", 0) as server:
        yield recorder, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        server.close()


async def embedded(folder, _settings, records):
    """A log that holds these records as they are: nothing of ours would write all of them."""
    log = EmbeddedLog(folder / "log.db")
    await log.append(
        [
            ProducerRecord(COMMANDS, any_event(number), record.partition)
            for number, record in enumerate(records)
        ]
    )
    await log.close()
    with contextlib.closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as raw:
        for row, headers in raw.execute("SELECT id, headers FROM records").fetchall():
            record = records[int(dict(msgspec.msgpack.decode(headers))["ce_id"])]
            parts = record.key, msgspec.msgpack.encode(record.headers), record.value, row
            raw.execute("UPDATE records SET key = ?, headers = ?, value = ? WHERE id = ?", parts)
    return EmbeddedLog(folder / "log.db")


async def kafka(_folder, settings, records):
    """The same."""
    prefix = topic_prefix()
    brokers = Brokers(settings["kafka"], prefix=prefix)
    await KafkaTopics(brokers, replication=1, delivery_partitions=12).create()

    def fill():
        with contextlib.closing(KafkaProducer(bootstrap_servers=settings["kafka"])) as producer:
            for record in records:
                producer.send(
                    prefix + COMMANDS, record.value, record.key, record.headers, record.partition
                )
            producer.flush(TIMEOUT_S)

    await asyncio.to_thread(fill)
    return KafkaLog(brokers)


ADAPTERS = {"embedded": embedded, "kafka": kafka}


def id_of(record: ConsumerRecord) -> str:
    return dict(record.headers)["ce_id"].decode()


def answers(records):
    """What the function answers to the n-th try of an event, as recorded; 200 to all else."""
    said = {id_of(stored(record)): record["answers"] for record in records.values()}

    def answer(event, tried):
        text = said[event][tried - 1]
        if text.startswith("no answer"):
            return b""
        return (
            None if text.startswith("connection closed") else base64.b64decode(text, validate=True)
        )

    return answer


@pytest.fixture(params=ADAPTERS)
async def log(request, tmp_path):
    """The log with all records that are dispatched, each in its partition."""
    settings = request.getfixturevalue(NEEDS[request.param]) if request.param in NEEDS else None
    records = [stored(recorded(f"dispatch-{name}")) for name in DISPATCHED_HERE]
    made = await ADAPTERS[request.param](tmp_path, settings, records)
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def dispatching(log, topic, group, url):
    """A dispatcher from the topic to the URL."""
    post = HttpPost(url)
    dispatcher = Dispatcher(
        Source(topic=topic, group=group, url=url, retry_policy=RETRY_POLICY),
        reads=log,
        appends=log,
        post=post,
        sleep=Naps(),
    )
    dispatcher.task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        await end(dispatcher)
        await post.close()


async def read(log, topic):
    """All records of a topic, by event id, oldest first."""
    found = defaultdict(list)
    for partition in range(await log.partitions(topic)):
        for record in await log.read(topic, partition, 0, max_records=1_000, max_bytes=1 << 24):
            found[id_of(record)].append(record)
    return found


async def everything_is_done(log, group, topic, count):
    """Until so many records of the topic are committed by the group."""
    async with asyncio.timeout(TIMEOUT_S):
        while sum((await log.committed(group, topic)).values()) < count:
            await asyncio.sleep(0.02)


def as_sent(wanted: Message, url: str, record: ConsumerRecord | None = None, **more):
    """What is compared of a captured request, had it been sent to this URL, of this record."""
    ours = {"host": url.partition("://")[2], **more}
    if record is not None:
        ours |= {
            "ce-knativekafkapartition": str(record.partition),
            "ce-knativekafkaoffset": str(record.offset),
        }
    return (
        wanted.start,
        {
            **meaning(wanted.headers),
            **{name: value for name, value in ours.items() if name in wanted.headers},
        },
        wanted.body,
    )


def sent(request: Message):
    """The same of one that was sent."""
    return request.start, meaning(request.headers), request.body


def span(headers):
    return headers["traceparent"].split("-")[2] if "traceparent" in headers else None


async def test_what_is_sent_is_what_the_dispatcher_sent(log):
    """Each try of each record, header by header; the dead letters as records; and their requests,
    of those that fail too as well.
    """
    records = {name: recorded(f"dispatch-{name}") for name in DISPATCHED_HERE}
    ids = {name: id_of(stored(record)) for name, record in records.items()}

    def at_report_failed(event, tried):
        return REFUSED if event == ids[TOO] and tried == 1 else TAKEN

    async with (
        recording(answers(records)) as (send, send_url),
        recording(at_report_failed) as (report_failed, report_failed_url),
    ):
        async with (
            dispatching(log, COMMANDS, "send", send_url),
            dispatching(log, DEAD_LETTERS, "report-lost", report_failed_url),
        ):
            await everything_is_done(log, "send", COMMANDS, len(DISPATCHED_HERE))
            await everything_is_done(log, "report-lost", DEAD_LETTERS, len(DEAD) + 2)
        commands, letters = await read(log, COMMANDS), await read(log, DEAD_LETTERS)

    assert set(letters) == {ids[name] for name in (*DEAD, TOO)}
    for name, record in records.items():
        tries, (own,) = send.requests[ids[name]], commands[ids[name]]
        assert [sent(request) for _, request in tries] == [
            as_sent(captured(tried["file"]), send_url, own) for tried in record["delivered_as"]
        ], name
        if record["answers"][0].startswith(("no answer", "connection closed")):
            assert len({connection for connection, _ in tries}) == len(tries), name
        spans = [
            span({header: value.decode() for header, value in own.headers}),
            *(span(request.headers) for _, request in tries),
        ]
        assert len(set(spans)) == (1 if spans[0] is None else len(spans)), name
    for name in DEAD:
        (letter,), wanted, own = (
            letters[ids[name]],
            stored(recorded(f"dead-letter-{name}")),
            commands[ids[name]][0],
        )
        place = {
            "ce_knativekafkapartition": str(own.partition),
            "ce_knativekafkaoffset": str(own.offset),
            "ce_knativeerrordest": send_url,
        }
        assert (letter.key, letter.value) == (wanted.key, wanted.value), name
        assert meaning_of_record(letter) == {**meaning_of_record(wanted), **place}, name
        ((_, request),) = report_failed.requests[ids[name]]
        wanted_request = captured(f"dispatch-from-dead-letters-{name}.http")
        assert sent(request) == as_sent(
            wanted_request, report_failed_url, letter, **{"ce-knativeerrordest": send_url}
        ), name
    hops = zip(
        report_failed.requests[ids[TOO]],
        letters[ids[TOO]],
        (1, 2),
        (send_url, report_failed_url),
        strict=True,
    )
    for (_, request), letter, hop, failed_at in hops:
        wanted_request = captured(f"dispatch-from-dead-letters-that-fails-too.{hop}.http")
        assert sent(request) == as_sent(
            wanted_request, report_failed_url, letter, **{"ce-knativeerrordest": failed_at}
        )


@pytest.mark.parametrize("file", POSTED)
async def test_what_a_gateway_posts_is_what_was_posted_to_the_sink(file):
    """Header by header, the time and the trace as they were given, with a new signature."""
    wanted = captured(file)
    given = [
        (name.replace("ce-", "ce_"), value.encode())
        for name, value in wanted.headers.items()
        if name != f"ce-{SIGNATURE}"
    ]
    event = from_kafka(given, wanted.body)
    async with recording(lambda *_: b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n") as (
        recorder,
        url,
    ):
        appends = KnativeLogProducer(
            {COMMANDS: f"{url}/chat/chat-commands", QUERIES: ""}, event_keys=(EVENT_KEY,)
        )
        await appends.append([ProducerRecord(COMMANDS, event)])
        await appends.close()
    ((_, request),) = recorder.requests[event.id]

    # Recorded before signatures named their inbox.
    signed = {f"ce-{SIGNATURE}": signature(event, COMMANDS, EVENT_KEY)}
    kept = {name: value for name, value in wanted.headers.items() if name not in NOT_OURS} | signed
    assert request == wanted._replace(headers={**kept, "host": url.partition("://")[2]})
