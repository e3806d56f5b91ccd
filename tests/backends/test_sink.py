"""The stand-in for the receiver of KafkaSinks, beside the recorded bytes of the real one.

Of the captures, `NAME.http` is a request, `NAME.response.http` what was answered,
`NAME.record.json` the record that was written.
"""

import asyncio

import pytest

from backends.dispatcher.sink import MAX_BYTES, Faults, Receiver
from knchat.develop.sink import serving
from schemas.topics import COMMANDS, DEAD_LETTERS
from tests.support.captured import (
    CAPTURES,
    TO_SINKS,
    bytes_of,
    captured,
    meaning_of_record,
    message,
    recorded,
    stored,
)
from tests.support.dispatched import TIMEOUT_S

NOT_KEPT = {"tracestate", "baggage"}
HEAD = b"host: x\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-source: /s\r\nce-type: t\r\n"


@pytest.fixture
async def receiver(embedded):
    return Receiver(embedded)


@pytest.fixture
async def post(receiver):
    """Sends the bytes of a request; the status line of the answer and its headers."""
    async with serving(receiver) as url:

        async def send(request):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(request)
            async with asyncio.timeout(TIMEOUT_S):
                start, headers, _ = message(await reader.readuntil(b"\r\n\r\n"))
            writer.close()
            return start, headers

        yield send


async def records(embedded, topic=COMMANDS):
    partitions = range(await embedded.partitions(topic))
    return [
        record
        for partition in partitions
        for record in await embedded.read(topic, partition, 0, max_records=99)
    ]


def request(path="/chat/chat-commands", method="POST", extra=b"", body=b"\x08\x01"):
    return b"%b %b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n%b" % (
        method.encode(),
        path.encode(),
        HEAD,
        extra,
        len(body),
        body,
    )


@pytest.mark.parametrize("file", TO_SINKS)
async def test_it_answers_and_stores_as_recorded(file, post, embedded):
    """Status, key, headers and value are the real one's, for good requests and bad ones, a
    dispatcher's dead letters among them.
    """
    name = file.removesuffix(".http")
    topic = DEAD_LETTERS if file.startswith("dead-letter-") else COMMANDS
    answer = captured(f"{name}.response.http")
    start, headers = await post(bytes_of(file))

    assert (start, headers["content-length"]) == (answer.start, answer.headers["content-length"])
    if not (CAPTURES / f"{name}.record.json").exists():
        assert await records(embedded, topic) == []
        return
    record = stored(recorded(name))
    (found,) = await records(embedded, topic)
    assert (found.key, found.value) == (record.key, record.value)
    assert meaning_of_record(found) == {
        name: value for name, value in meaning_of_record(record).items() if name not in NOT_KEPT
    }
    assert record.key is None or found.partition == record.partition


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request(path="/chat/chat-commands/"), 202),
        (request(path="/chat/chat-commands?x=1"), 202),
        (request(extra=b"CE-LongName1234567890123456789: x\r\n"), 202),
        (request(extra=b"ce-time: yesterday\r\n"), 400),
        (request(extra=b"ce-bad_ext: x\r\n"), 400),
        (request().replace(b"/s\r\n", b"not a uri\r\n"), 400),
        (request().replace(b"ce-", b"no-"), 400),
        (request(extra=b"content-type: application/cloudevents-batch+json\r\n", body=b"[]"), 400),
        (request(extra=b"content-type: application/cloudevents+json\r\n", body=b"{broken"), 400),
        (request(path="/"), 404),
        (request(path="/chat/other"), 404),
        (request(method="PUT"), 405),
        (request(method="OPTIONS"), 405),
        (request(path="/healthz", method="GET"), 200),
        (request(path="/readyz", method="GET"), 200),
        (request(body=b"x" * MAX_BYTES), 503),
    ],
)
async def test_statuses_are_those_of_the_measured_table(raw, status, post):
    """Row by row; what is over 1 MiB is 503, though it never passes."""
    start, _ = await post(raw)

    assert int(start.split()[1]) == status


@pytest.mark.parametrize(
    ("extra", "key"),
    [
        (b"ce-partitionkey: %41b\r\n", b"%41b"),
        (b"ce-partitionkey:\r\n", b""),
        ("ce-partitionkey: é\r\n".encode(), "Ã©".encode()),
        (b"", None),
    ],
    ids=["not decoded", "empty", "read as Latin-1", "none"],
)
async def test_the_key_is_the_partitionkey_as_it_came(extra, key, post, embedded):
    """Nothing is percent-decoded, bytes are read as Latin-1, empty is a key of its own."""
    await post(request(extra=extra))

    assert [record.key for record in await records(embedded)] == [key]


async def test_a_mood_meets_every_nth_event(post, receiver):
    """So a test can have one bad answer among good ones."""
    receiver.faults = Faults(every=3, status=503)
    answers = [int((await post(request()))[0].split()[1]) for _ in range(6)]

    assert answers == [202, 202, 503, 202, 202, 503]


async def test_copies_are_stored_twice(post, receiver, embedded):
    """As a producer that is not idempotent does around a broker's pause; the answer is 202 all the
    same.
    """
    receiver.faults.copies = True
    start, _ = await post(request())

    assert start == "HTTP/1.1 202 Accepted"
    assert len(await records(embedded)) == 2
