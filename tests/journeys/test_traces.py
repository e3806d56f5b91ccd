"""One send from the socket to the store as one trace: in the records of the log, and in the spans
that reach a collector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from backends.log import Bounds, LogReader
from backends.log.embedded.log import EmbeddedLog
from backends.settings import Settings
from backends.wiring import Backends
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.topics import COMMANDS, DELIVERIES, MESSAGES
from servers.services import Services
from tests.journeys.conftest import TIMEOUT_S, Dev, new_user, real_dev
from tests.support.collector import Collector, Span

TOPICS = {COMMANDS: pb.Commands, MESSAGES: pb.Outcomes, DELIVERIES: pb.Deliveries}
ROAD = ("publish chat-commands", "process send", "process persist", "deliver chat-deliveries")
STORES = ("appends.append", "cache.reserve", "relations.between", "chats.put")


@pytest.fixture
def collector():
    listening = Collector()
    yield listening
    listening.close()


@pytest.fixture
def serve(tmp_path):
    """Starts a `dev` that sends its spans to a URL."""
    started = []

    def start(endpoint: str, **environ: str) -> Dev:
        sampled = {
            "KNCHAT_OTLP_ENDPOINT": endpoint,
            "KNCHAT_TRACE_RATIO": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            **environ,
        }
        server = Dev(tmp_path / "data", "--no-demo", environ=sampled).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


async def bounds_of(reads: LogReader, topic: str) -> Mapping[int, Bounds]:
    """What all partitions of a topic hold."""
    return await reads.bounds(topic, range(await reads.partitions(topic)))


async def traces_of(
    reads: LogReader, topic: str, message_id: int, *, since: Mapping[int, Bounds] | None = None
) -> set[str]:
    """The traceparents of the records of a topic that this message stands in; of those that came
    after `since`.
    """
    found = set()
    for partition, held in (await bounds_of(reads, topic)).items():
        offset = held.begin if since is None else since[partition].end
        while offset < held.end and (
            records := await reads.read(topic, partition, offset, max_records=500)
        ):
            for record in records:
                event = cloudevents.from_kafka(record.headers, record.value)
                if message_id in _ids(cloudevents.parse(event, TOPICS[topic])):
                    found.add(event.traceparent)
            offset = records[-1].offset + 1
    return found


def _ids(payload: pb.Commands | pb.Outcomes | pb.Deliveries) -> set[int]:
    match payload:
        case pb.Commands():
            return {command.id for command in payload.commands}
        case pb.Outcomes():
            return {outcome.command.id for outcome in payload.outcomes}
        case _:
            return {delivery.message.id for delivery in payload.deliveries}


def above(span: Span, spans: dict[str, list[Span]]) -> list[str]:
    """The names of the spans around this one, the nearest first.

    "?" is a span that was not exported.
    """
    by_id = {each.span: each for found in spans.values() for each in found}
    names = []
    while span.parent:
        if span.parent not in by_id:
            return [*names, "?"]
        span = by_id[span.parent]
        names.append(span.name)
    return names


async def send_and_follow(
    http: str, open_device: Callable, reads: LogReader, collector: Collector, *also: str
) -> dict[str, list[Span]]:
    """Sends a message to a server whose parts all trace everything; its spans, when the trace has
    been found in all records of it.

    Needs a server's URL, a way to read its log, and the collector that it reports to: whatever the
    server's parts are. `also`: spans that these parts make beyond those of ROAD.
    """
    ann, ben = new_user(http, "ann"), new_user(http, "ben")
    phone, other = await open_device(ann, "phone"), await open_device(ben, "phone")
    since = {topic: await bounds_of(reads, topic) for topic in TOPICS}
    message_id = int((await phone.send(ben, "traced"))["message"])
    await other.hear("message", message=str(message_id))
    async with asyncio.timeout(TIMEOUT_S):
        # People are told before the outcome is written.
        while not await traces_of(reads, MESSAGES, message_id, since=since[MESSAGES]):
            await asyncio.sleep(0.05)
    written = {
        topic: await traces_of(reads, topic, message_id, since=since[topic]) for topic in TOPICS
    }

    assert all(written.values())
    (trace,) = {traceparent[3:35] for traces in written.values() for traceparent in traces}
    assert {traceparent[53:] for traces in written.values() for traceparent in traces} <= {
        "01",
        "03",
    }, "all say that it is sampled"
    assert not written[COMMANDS] & (written[MESSAGES] | written[DELIVERIES]), (
        "what `send` writes stands in a span of its own"
    )
    return await asyncio.to_thread(collector.wait, trace, (*ROAD, *also))


async def test_one_send_is_one_trace(serve, collector, open_device):
    """Its trace id stands in its command, outcome and delivery records, and its spans are each
    where they belong.
    """
    server = serve(collector.url, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    reads = EmbeddedLog(Path(server.folder) / "log.db")
    try:
        spans = await send_and_follow(
            server.http, open_device, reads, collector, "post send", "post persist", *STORES
        )
    finally:
        await reads.close()

    (published,) = spans["publish chat-commands"]
    assert not published.parent
    (sent,) = spans["process send"]
    assert above(sent, spans) == ["post send", "publish chat-commands"]
    (persisted,) = spans["process persist"]
    assert above(persisted, spans) == [
        "post persist",
        "process send",
        "post send",
        "publish chat-commands",
    ]
    for delivered in spans["deliver chat-deliveries"]:
        assert above(delivered, spans) == ["process send", "post send", "publish chat-commands"]
    assert {name: {span.kind for span in spans[name]} for name in ROAD} == {
        "publish chat-commands": {"producer"},
        "process send": {"consumer"},
        "process persist": {"consumer"},
        "deliver chat-deliveries": {"consumer"},
    }
    assert {span.service for found in spans.values() for span in found} == {"dev"}
    assert published.attributes["knchat.items"] == 1
    assert sent.attributes["cloudevents.event_id"] == published.attributes["cloudevents.event_id"]
    assert sent.attributes["knchat.verdict"] == 200
    assert {(span.name, above(span, spans)[0]) for name in STORES for span in spans[name]} == {
        ("cache.reserve", "publish chat-commands"),
        ("appends.append", "publish chat-commands"),
        ("appends.append", "process send"),
        ("relations.between", "process send"),
        ("chats.put", "process persist"),
    }
    assert "traced" not in repr(collector.spans), "no text of a message"


@pytest.mark.slow
@pytest.mark.real
async def test_one_send_is_one_trace_on_the_real_parts(tmp_path, collector, open_device):
    """The same over Kafka and between processes, each of which says who it is."""
    sampled = {
        "KNCHAT_OTLP_ENDPOINT": collector.url,
        "KNCHAT_TRACE_RATIO": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    server = real_dev(tmp_path / "data", sink=False, environ=sampled).start()
    backends = Backends(Settings.from_env({**Services().settings(), "KNCHAT_LOG": "kafka"}))
    try:
        spans = await send_and_follow(
            server.http,
            open_device,
            backends.reads,
            collector,
            "post send",
            "post persist",
            *STORES,
        )
    finally:
        await backends.close()
        assert server.stop() == 0

    (sent,) = spans["process send"]
    assert above(sent, spans) == ["post send", "publish chat-commands"]
    (persisted,) = spans["process persist"]
    assert above(persisted, spans) == [
        "post persist",
        "process send",
        "post send",
        "publish chat-commands",
    ]
    services = {name: {span.service for span in spans[name]} for name in (*ROAD, "post send")}
    assert services["process send"] == {"send"}
    assert services["process persist"] == {"persist"}
    assert services["publish chat-commands"] == {"gateway"}
    assert services["post send"] == {"pump-send"}
    assert "traced" not in repr(collector.spans), "no text of a message"


async def test_one_question_is_one_trace(serve, collector, open_device):
    """From the socket to the answer on it."""
    server = serve(collector.url)
    ann, ben = new_user(server.http, "ann"), new_user(server.http, "ben")
    phone = await open_device(ann, "phone")
    sent = await phone.send(ben, "hello")
    assert (await phone.ask({"type": "chats"}))["type"] == "chats", sent

    (asked,) = await asyncio.to_thread(collector.wait_for, "publish chat-queries")
    spans = await asyncio.to_thread(
        collector.wait,
        asked.trace,
        ["post history", "process history", "deliver session-deliveries"],
    )
    (told,) = spans["deliver session-deliveries"]
    assert above(told, spans) == ["process history", "post history", "publish chat-queries"]


async def test_a_call_over_http_goes_on_in_the_trace_of_its_request(serve, collector):
    """Its span lies inside the caller's; stores are asked inside it."""
    import httpx  # noqa: PLC0415 - one call with a header of its own

    server = serve(collector.url)
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-00"}
    body = {"user_name": "unregistered", "password": "hunter2hunter2", "device": "phone"}
    answer = httpx.post(f"{server.http}/v1/sessions", json=body, headers=headers)
    assert answer.status_code == 401

    spans = await asyncio.to_thread(collector.wait, trace, ["POST /v1/sessions"])
    (call,) = spans["POST /v1/sessions"]
    assert (call.kind, call.parent, call.failed) == ("server", "b7ad6b7169203331", None)
    assert call.attributes["http.response.status_code"] == 401
    assert "hunter2" not in repr(collector.spans)


@pytest.mark.parametrize("collector_is", ["absent", "hanging"])
async def test_an_unavailable_collector_disturbs_no_call(collector_is, serve, open_device):
    """Messages go their way, the log says it in one line, and the server stops in time."""
    collector = Collector(*["hang"] * 9)
    if collector_is == "absent":
        collector.close()
    try:
        server = serve(collector.url, KNCHAT_DRAIN_S="0")
        ann, ben = new_user(server.http, "ann"), new_user(server.http, "ben")
        phone, other = await open_device(ann, "phone"), await open_device(ben, "phone")
        for number in range(20):
            await phone.send(ben, f"message {number}")
            await other.hear("message", text=f"message {number}")
        if collector_is != "absent":
            await asyncio.to_thread(collector.wait_for_requests, 1)
        began_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began_s < TIMEOUT_S / 2
    finally:
        if collector_is != "absent":
            collector.close()

    lines = Path(server.log.name).read_text().splitlines()
    assert (
        sum("opentelemetry" in line for line in lines) == {"absent": 1, "hanging": 0}[collector_is]
    ), lines


async def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded(serve, open_device):
    """Nor for a message from end to end, whose trace is carried all the same."""
    server = serve("", PYTHONPROFILEIMPORTTIME="1")
    ann, ben = new_user(server.http, "ann"), new_user(server.http, "ben")
    phone, other = await open_device(ann, "phone"), await open_device(ben, "phone")
    message_id = int((await phone.send(ben, "hello"))["message"])
    await other.hear("message", message=str(message_id))
    reads = EmbeddedLog(Path(server.folder) / "log.db")
    try:
        traces = await traces_of(reads, COMMANDS, message_id) | await traces_of(
            reads, DELIVERIES, message_id
        )
    finally:
        await reads.close()
    assert server.stop() == 0

    assert len({trace[:35] for trace in traces}) == 1
    assert {trace[53:] for trace in traces} == {"00"}
    imported = Path(server.log.name).read_text()
    assert "backends.telemetry.tracing" in imported
    assert "opentelemetry" not in imported
