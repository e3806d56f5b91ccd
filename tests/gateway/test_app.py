"""The gateway as a whole: its start, its URL, bugs in it, and records that were dropped."""

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from backends.log import ProducerRecord
from backends.log.embedded.file import OFFSET_BITS
from backends.signing import PublicKeys
from backends.wiring import Backends
from gateway.app import Gateway
from gateway.deliveries.reader import DeliveryReader
from schemas import chat_pb2 as pb
from schemas.errors import Malformed, Unavailable
from schemas.topics import DELIVERIES, user_partition
from tests.gateway.people import (
    ANN,
    BEN,
    Person,
    deliver,
    http,
    id_now,
    message,
)
from tests.support.events import event_of


async def test_a_port_in_use(start, settings):
    """Said in one line."""
    first = await start()
    with pytest.raises(Unavailable) as error:
        await start(gateway_port=first.port)

    assert f"port {first.port}" in error.value.message


async def test_wrong_topics_stop_the_start(start):
    """Before any client is let in: deliveries would be lost without a word. What to do is said."""
    with pytest.raises(
        Malformed, match="has 12 partitions and KNCHAT_DELIVERY_PARTITIONS is 24: set it to 12"
    ) as error:
        await start(delivery_partitions=24)

    assert error.value.field == "KNCHAT_DELIVERY_PARTITIONS"


async def test_as_many_partitions_as_the_setting_says(settings):
    """A new log has them, and users are found in them."""
    settings = replace(settings, delivery_partitions=5)
    backends = Backends(settings)
    gateway = Gateway(backends, settings)
    await gateway.start()
    ann = Person(ANN, "phone", gateway, backends)
    await ann.connect()
    data = pb.Deliveries(schema=1, deliveries=[message(id_now(), BEN, ANN)])
    await backends.appends.append(
        [ProducerRecord(DELIVERIES, event_of(data), user_partition(ANN, 5))]
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


async def test_a_hello_waits_for_the_replay_buffer(make, backends, timing, monkeypatch):
    """While the gateway starts it listens, is not ready, and keeps what comes; too long, and it is
    close 4006.
    """
    let_go = asyncio.Event()
    open_ = DeliveryReader.open

    async def slow(*arguments):
        await let_go.wait()
        return await open_(*arguments)

    monkeypatch.setattr(DeliveryReader, "open", slow)
    gateway = make(timing=replace(timing, start_timeout_s=0.3))
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


async def test_an_unavailable_database_at_the_start(make, settings, backends, timing):
    """The gateway waits for it, and serves when it is there."""
    await backends.generators.claim("opens and migrates the database")
    gateway = make(timing=replace(timing, retry_delay_s=0.05))
    with closing(sqlite3.connect(settings.data / "data.db", isolation_level=None)) as connection:
        connection.execute("ALTER TABLE generators RENAME TO away")
        starting = asyncio.create_task(gateway.start())
        await listens(gateway)
        assert {"ring", "generator"} <= set(await not_ready(gateway))
        assert not starting.done()
        connection.execute("ALTER TABLE away RENAME TO generators")
    await asyncio.wait_for(starting, 5)

    assert (await http(gateway, "/readyz"))[0] == 200


async def test_keys_that_cannot_be_read_at_the_start(settings, backends, timing, caplog):
    """A gateway that could let no client in is not ready and says why, and serves when the JWKS is
    there.
    """
    jwks = settings.data / "jwks.json"
    missing = Backends(replace(settings, jwks=str(jwks)))
    missing.public_keys = PublicKeys(missing.settings, retry_delay_s=0.05)
    gateway = Gateway(missing, missing.settings, replace(timing, retry_delay_s=0.05))
    starting = asyncio.create_task(gateway.start())
    await listens(gateway)
    assert await not_ready(gateway) == ["keys", "ring", "generator"]
    assert str(jwks) in [getattr(record, "source", "") for record in caplog.records]

    jwks.write_text(json.dumps({"keys": [dict(backends.signing_key.jwk)]}))
    await asyncio.wait_for(starting, 5)

    assert (await http(gateway, "/readyz"))[0] == 200
    await gateway.drain_and_stop()
    await missing.close()


async def test_old_things_are_forgotten_now_and_then(start, timing):
    """The tick does it."""
    gateway = await start(timing=replace(timing, cleanup_interval_s=0.0))
    gateway._context.revocations._revoked[1, "phone"] = (1, 1)
    async with asyncio.timeout(5):
        while gateway._context.revocations._revoked:
            await asyncio.sleep(0.05)


async def test_a_bug_of_one_connection_is_its_own(person, gateway, caplog):
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
    """Close 4003, and a resume from before leads to `reset`: no client goes on as if nothing were
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
