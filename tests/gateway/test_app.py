"""The gateway's own life: how it starts, what its probes say, and how it ends."""

import asyncio
import json
import sqlite3
import time
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from unittest.mock import ANY

import pytest
import websockets

from backends.log import ProducerRecord
from backends.log.embedded.file import OFFSET_BITS
from backends.wiring import Backends
from gateway.app import Gateway
from gateway.deliveries.reader import DeliveryReader
from gateway.sessions.timers import TICK_S
from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Unavailable
from schemas.topics import COMMANDS, DELIVERIES, DELIVERIES_MADE, user_partition
from tests.gateway.faults import broken
from tests.gateway.people import (
    ANN,
    BEN,
    CHAT,
    SEND,
    Person,
    appended,
    deliver,
    event,
    http,
    id_now,
    message,
)


async def test_probes_and_metrics(gateway, person, settings):
    """200 while all is well; what is missing is named; unknown paths are 404."""
    await person(ANN)

    assert (await http(gateway, "/livez"))[0] == 200
    assert (await http(gateway, "/readyz"))[0] == 200
    status, headers, body = await http(gateway, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    assert b"knchat_hellos_total" in body
    status, _, body = await http(gateway, "/nothing")
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    with broken(settings.data, "records"):
        status, headers, body = await http(gateway, "/readyz")
    assert (status, json.loads(body)["code"], json.loads(body)["message"]) == (
        503,
        "starting",
        "not ready: log (embedded)",
    )
    assert headers["Retry-After"] == "1"


async def test_a_wrong_clock_of_the_machine_is_told(gateway, backends, person):
    """Nothing depends on it, so it is ready: people are let in and write."""
    backends.clock._wall = lambda: time.time() - 3_600

    assert await http(gateway, "/readyz") == (
        200,
        ANY,
        b"ok\nclock: this machine's is 3600 s behind what has passed since the start\n",
    )
    ann = await person(ANN)
    assert (await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"}))[
        "type"
    ] == "ok"


async def test_metrics_can_be_left_out(start):
    """404 then."""
    assert (await http(await start(metrics=False), "/metrics"))[0] == 404


async def test_a_part_that_fails_is_seen(start):
    """`watch` raises what it was, and /livez says so."""
    gateway = await start()
    watching = asyncio.create_task(gateway.watch())

    async def fail():
        raise RuntimeError("bug")

    gateway._part(fail())
    await asyncio.sleep(0.01)
    status, _, body = await http(gateway, "/livez")

    assert (status, json.loads(body)["code"]) == (503, "unavailable")
    watching.cancel()
    again = asyncio.create_task(gateway.watch())
    with pytest.raises(RuntimeError):
        await again


async def test_a_port_in_use(start, settings):
    """Said in one line."""
    first = await start()
    with pytest.raises(Unavailable) as error:
        await start(gateway_port=first.port)

    assert f"port {first.port}" in error.value.message


async def test_wrong_topics_stop_the_start(start):
    """Before anybody is let in: deliveries would be lost without a word. What to do is said."""
    with pytest.raises(
        Malformed, match="has 12 partitions and KNCHAT_DELIVERY_PARTITIONS is 24: set it to 12"
    ) as error:
        await start(delivery_partitions=24)

    assert error.value.field == "KNCHAT_DELIVERY_PARTITIONS"


async def test_as_many_partitions_as_the_setting_says(settings):
    """A log that is made anew has them, and users are found in them."""
    settings = replace(settings, delivery_partitions=5)
    backends = Backends(settings)
    gateway = Gateway(backends, settings)
    await gateway.start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    data = pb.Deliveries(schema=1, deliveries=[message(id_now(), BEN, ANN)])
    await backends.appends.append(
        [ProducerRecord(DELIVERIES, event(DELIVERIES_MADE, data), user_partition(ANN, 5))]
    )

    assert await backends.reads.partitions(DELIVERIES) == 5
    assert (await ann.hear("message"))["sender"] == str(BEN)
    await ann.leave()
    await gateway.drain_and_stop()
    await backends.close()


async def listens(gateway):
    """Until the port is there."""
    async with asyncio.timeout(5):
        while not gateway.port:
            await asyncio.sleep(0.01)


async def not_ready(gateway):
    """What /readyz says is missing."""
    status, _, body = await http(gateway, "/readyz")
    problem = json.loads(body)
    assert (status, problem["code"]) == (503, "starting")
    return problem["message"].removeprefix("not ready: ").split(", ")


async def test_a_hello_waits_for_the_ring(make, backends, monkeypatch):
    """While the gateway starts it listens, is not ready, and keeps who comes; too long, and it is
    close 4006.
    """
    let_go = asyncio.Event()
    open_ = DeliveryReader.open

    async def slow(*arguments):
        await let_go.wait()
        return await open_(*arguments)

    monkeypatch.setattr(DeliveryReader, "open", slow)
    monkeypatch.setattr("gateway.sessions.connection.START_TIMEOUT_S", 0.3)
    gateway = make()
    starting = asyncio.create_task(gateway.start())
    await listens(gateway)
    assert "ring" in await not_ready(gateway)
    early, waiting = (Person(ANN, device, gateway, backends) for device in ("early", "waiting"))
    await early.connect()
    assert (early.welcome, early.socket.close_code) == (None, 4006)

    connecting = asyncio.create_task(waiting.connect())
    await asyncio.sleep(0.05)
    let_go.set()
    await starting
    await connecting

    assert waiting.welcome["result"] == "new"
    await waiting.leave()


async def test_a_database_that_is_away_at_the_start(make, settings, backends, monkeypatch):
    """The gateway waits for it, and serves when it is there."""
    monkeypatch.setattr("gateway.app.RETRY_DELAY_S", 0.05)
    await backends.generators.claim("opens and migrates the database")
    gateway = make()
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE generators RENAME TO away")
        starting = asyncio.create_task(gateway.start())
        await listens(gateway)
        assert {"ring", "generator"} <= set(await not_ready(gateway))
        assert not starting.done()
        connection.execute("ALTER TABLE away RENAME TO generators")
    await asyncio.wait_for(starting, 5)

    assert (await http(gateway, "/readyz"))[0] == 200


async def test_keys_that_cannot_be_read_at_the_start(settings, backends, monkeypatch, caplog):
    """A gateway that could let nobody in is not ready and says why, and serves when the JWKS is
    there.
    """
    monkeypatch.setattr("gateway.app.RETRY_DELAY_S", 0.05)
    monkeypatch.setattr("backends.signing.RETRY_DELAY_S", 0.05)
    jwks = settings.data / "jwks.json"
    missing = Backends(replace(settings, jwks=str(jwks)))
    gateway = Gateway(missing, missing.settings)
    starting = asyncio.create_task(gateway.start())
    await listens(gateway)
    assert await not_ready(gateway) == ["keys", "ring", "generator"]
    assert str(jwks) in [getattr(record, "source", "") for record in caplog.records]

    jwks.write_text(json.dumps({"keys": [dict(backends.signing_key.jwk)]}))
    await asyncio.wait_for(starting, 5)

    assert (await http(gateway, "/readyz"))[0] == 200
    await gateway.drain_and_stop()
    await missing.close()


async def test_drain(start, backends, token):
    """`drain`, then the socket stays usable; what is sent is acknowledged; then 1012, which
    arrives.

    Nobody new is let in.
    """
    gateway = await start(drain_s=1)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    waiting = Person(BEN, "phone", gateway, backends)
    await waiting.open()

    stopping = asyncio.create_task(gateway.drain_and_stop())
    drain = await ann.hear("drain")
    ok = await ann.ask(SEND)
    await waiting.say({"type": "hello", "token": token(BEN), "device": "phone"})

    assert 0 <= drain["reconnect_after_ms"] <= 1_000
    assert ok["type"] == "ok"
    assert await waiting.ended() == 4006
    late = Person(BEN, "phone", gateway, backends)
    await late.connect()
    assert (late.welcome, late.socket.close_code) == (None, 4006)
    assert await ann.ended() == 1012
    await stopping
    with pytest.raises(OSError, match="refused"):
        await websockets.connect(gateway.url)
    assert await appended(backends, COMMANDS) == 1


async def test_a_stop_waits_until_the_group_is_left(start, backends, monkeypatch):
    """Also when the last client leaves at once, and so the stop comes in the middle of it: the
    others take over without a pause.
    """
    left = asyncio.Event()
    share = backends.reads.join

    @asynccontextmanager
    async def slowly(*args, **kwargs):
        """Leaving a group of Kafka takes a poll and a request."""
        async with share(*args, **kwargs) as sharing:
            try:
                yield sharing
            finally:
                await asyncio.sleep(3 * TICK_S)
                left.set()

    monkeypatch.setattr(backends.reads, "join", slowly)
    gateway = await start(drain_s=10)
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()

    stopping = asyncio.create_task(gateway.drain_and_stop())
    await ann.hear("drain")
    await ann.leave()
    await stopping

    assert left.is_set()


async def test_a_mark_on_hold_is_published_before_the_end(start, backends):
    """Its `ok` comes before the close."""
    gateway = await start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.say({"type": "mark", "id": 1, "chat": CHAT, "read": "5"}, {"type": "ping", "id": 2})
    await ann.hear("pong")

    await gateway.drain_and_stop()

    assert (await ann.hear("ok"))["re"] == 1
    assert await appended(backends, COMMANDS) == 1


async def test_a_log_that_is_away_does_not_hold_up_the_end(start, backends, settings, monkeypatch):
    """After a while the gateway stops anyway, and nothing that was not
    confirmed is acknowledged.
    """
    monkeypatch.setattr("gateway.app.FLUSH_TIMEOUT_S", 0.2)
    gateway = await start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    await ann.ask(SEND)
    with broken(settings.data, "records"):
        await ann.say(
            {**SEND, "id": 2, "key": "k2"},
            {"type": "mark", "id": 3, "chat": CHAT, "read": "5"},
            {"type": "ping", "id": 4},
        )
        await ann.hear("pong")
        await gateway.drain_and_stop()

    assert await ann.hear("ok") is None
    assert ann.socket.close_code == 1012


async def test_old_things_are_forgotten_now_and_then(start, monkeypatch):
    """The tick does it."""
    monkeypatch.setattr("gateway.app.CLEANUP_INTERVAL_S", 0.0)
    gateway = await start()
    gateway._context.hub._revoked[1, "phone"] = (1, 1)
    async with asyncio.timeout(5):
        while gateway._context.hub._revoked:
            await asyncio.sleep(0.05)


async def test_a_bug_in_a_conversation_is_its_own(person, gateway, caplog):
    """It is logged; the gateway and the session go on."""
    ann = await person(ANN)

    async def fail():
        raise RuntimeError("bug")

    gateway._context.spawn(fail())
    assert (await ann.ask({"type": "ping", "id": 1}))["type"] == "pong"
    await asyncio.sleep(0)

    assert "a task of a connection failed" in [record.message for record in caplog.records]


async def test_a_bug_behind_a_hello_ends_its_socket(person, gateway, caplog):
    """With 1011, instead of a socket that stays until cancelled; others go on."""
    ben = await person(BEN)

    async def fail(*_):
        raise RuntimeError("bug")

    verify, gateway._context.public_keys.verify = gateway._context.public_keys.verify, fail
    ann = await person(ANN)
    gateway._context.public_keys.verify = verify

    assert (ann.welcome, ann.socket.close_code) == (None, 1011)
    assert (await ben.ask({"type": "ping", "id": 1}))["type"] == "pong"
    assert "a task of a connection failed" in [record.message for record in caplog.records]


async def test_drain_does_not_wait_for_nobody(start):
    """Without sessions it is over at once."""
    gateway = await start(drain_s=60)
    began = time.monotonic()

    await gateway.drain_and_stop()

    assert time.monotonic() - began < 5


async def test_its_url(start):
    """The setting, else made from host and port, whole."""
    made = await start()
    named = await start(public_url="wss://chat.example/v1/socket")

    assert made.url == f"ws://127.0.0.1:{made.port}/v1/socket"
    assert named.url == "wss://chat.example/v1/socket"


async def test_a_url_with_the_number_of_the_gateway(make):
    """The number at the end of its name; a name without one is refused, naming the setting."""
    url = "wss://chat-{ordinal}.example/v1/socket"

    assert make(public_url=url, gateway_name="gateway-13").url == "wss://chat-13.example/v1/socket"
    with pytest.raises(Malformed, match="KNCHAT_GATEWAY_NAME must end with a number") as error:
        make(public_url=url, gateway_name="gateway")
    assert error.value.field == "KNCHAT_GATEWAY_NAME"


async def test_records_that_were_dropped_unread_end_the_sessions_they_were_for(
    start, backends, settings
):
    """Close 4003, and a resume from before leads to `reset`: nobody goes on as if nothing were
    missing.

    Other partitions stay.
    """
    gateway = await start()
    ann, ben = [Person(user, "phone", gateway, backends) for user in (ANN, BEN)]
    assert user_partition(ANN, 12) != user_partition(BEN, 12)
    for person in (ann, ben):
        await person.connect()
        await person.until_live()
    await deliver(backends, message(id_now(), BEN, ANN, "before"))
    await ann.hear("message")
    with closing(sqlite3.connect(settings.data / "log.db")) as connection, connection:
        (slot,) = connection.execute(
            "SELECT first_slot + ? FROM topics WHERE topic = ?",
            (user_partition(ANN, 12), DELIVERIES),
        ).fetchone()
        connection.execute(
            "UPDATE records SET id = id + 5 WHERE id >= ? AND id < ?",
            (slot << OFFSET_BITS, (slot + 1) << OFFSET_BITS),
        )
        connection.execute("UPDATE slots SET begin = 5 WHERE slot = ?", (slot,))

    assert await ann.ended() == 4003
    again = Person(ANN, "phone", gateway, backends)
    await again.connect(resume=ann.last_cursor)
    assert again.welcome["result"] == "reset"
    await again.until_live()
    await deliver(backends, message(id_now(), BEN, ANN, "after"))
    await deliver(backends, message(id_now(), ANN, BEN, "to ben"))
    while (heard := await again.hear("message"))["text"] != "after":
        assert heard["text"] == "before"
    assert [(await ben.hear("message"))["text"] for _ in range(3)] == ["before", "after", "to ben"]
