"""The whole gateway over TCP: what a client gets that comes back, or is slow."""

import asyncio
import secrets
import time

from backends.telemetry.metrics import value_of
from schemas.ids import first_id_at, unix_ms_of
from tests.gateway.people import (
    ANN,
    BEN,
    Person,
    deliver,
    id_now,
    message,
)


async def test_resume_brings_exactly_what_was_missed(person, backends):
    """From the last cursor on, at the same gateway."""
    ann = await person(ANN)
    first = id_now()
    numbers = [first + number for number in range(5)]
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[:2]))
    seen = [await ann.hear("message") for _ in range(2)]
    await ann.leave()
    await deliver(backends, *(message(number, BEN, ANN) for number in numbers[2:]))

    again = await person(ANN, resume=seen[-1]["cursor"])
    missed = await again.until_live()

    assert again.welcome["result"] == "resumed"
    assert [(push["n"], push["message"]) for push in missed] == [
        (number - 1, str(numbers[number])) for number in (2, 3, 4)
    ]


async def test_resume_at_a_gateway_that_started_later(person, start, backends, settings):
    """It has read its replay buffer back; keys hold as well."""
    first = await start()
    ann = await person(ANN, at=first)
    await ann.until_live()
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
    await first.drain_and_stop()
    assert await ann.ended() == 1012
    number = id_now()
    await deliver(backends, message(number, BEN, ANN))

    later = await start()
    again = await person(ANN, at=later, resume=ann.cursor, seen=ok["message"])
    missed = await again.until_live()

    assert again.welcome["result"] == "resumed"
    assert [push["message"] for push in missed] == [str(number)]
    repeat = await again.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})
    assert (repeat["message"], repeat["duplicate"]) == (ok["message"], True)
    fresh = await again.ask({"type": "send", "id": 2, "key": "k2", "to": "22", "text": "hi"})
    assert int(fresh["message"]) > int(ok["message"])


async def test_a_new_device_gets_the_last_minutes(person, backends):
    """Pushed before `live`, so that nothing falls between history and the first push."""
    number = id_now()
    await person(BEN)
    await deliver(backends, message(number, BEN, ANN))

    ann = await person(ANN)
    missed = await ann.until_live()
    lost = await person(ANN, "tablet", resume="some.thing")

    assert [push["message"] for push in missed] == [str(number)]
    assert lost.welcome["result"] == "reset"
    assert [push["message"] for push in await lost.until_live()] == [str(number)]


async def test_what_is_written_sorts_after_what_was_seen(person):
    """The next id of this client is greater than any it knows; no other client's moves, and no
    other waits.
    """
    ben = await person(BEN)
    seen = first_id_at(int(time.time() * 1_000) + 800)
    coming = asyncio.create_task(person(ANN, seen=str(seen)))
    while not coming.done():
        began_ms = time.time() * 1_000
        ok = await ben.ask(
            {"type": "send", "id": 1, "key": secrets.token_hex(4), "to": "11", "text": "hi"}
        )
        assert unix_ms_of(int(ok["message"])) <= time.time() * 1_000 + 20
        assert int(ok["message"]) < seen or began_ms >= unix_ms_of(seen)
    ann = await coming
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})

    assert int(ok["message"]) > seen


async def test_a_seen_far_ahead_is_not_followed(person):
    """Of a gateway whose clock was wrong, or made up: it is counted, and the client is let in and
    writes with the true time.
    """
    counted = value_of("knchat_ids_ahead_total", where="hello")
    ann = await person(ANN, seen=str(first_id_at(int(time.time() * 1_000) + 300_000)))
    ok = await ann.ask({"type": "send", "id": 1, "key": "k", "to": "22", "text": "hi"})

    assert abs(unix_ms_of(int(ok["message"])) - time.time() * 1_000) < 5_000
    assert value_of("knchat_ids_ahead_total", where="hello") == counted + 1


async def test_a_slow_reader_misses_nothing(start, backends, token):
    """It is paused while it does not read, others are not; then it gets everything, in order."""
    gateway = await start(outbox_bytes=131_072)
    pauses = value_of("knchat_pauses_total")
    slow = Person(ANN, "slow", gateway, backends)
    await slow.open()
    slow.socket.transport.pause_reading()
    await slow.say({"type": "hello", "token": token(ANN, "slow"), "device": "slow"})
    fast = Person(ANN, "fast", gateway, backends)
    await fast.connect()
    first = id_now()
    numbers = [first + number for number in range(600)]
    for begin in range(0, 600, 30):
        await deliver(
            backends,
            *(message(number, BEN, ANN, "x" * 4_000) for number in numbers[begin : begin + 30]),
        )
    quick = [await fast.hear("message") for _ in numbers]
    assert [push["message"] for push in quick] == [str(number) for number in numbers]
    assert value_of("knchat_pauses_total") > pauses

    slow.socket.transport.resume_reading()
    pushes = [await slow.hear("message") for _ in numbers]

    assert [(push["n"], push["message"]) for push in pushes] == [
        (n, str(number)) for n, number in enumerate(numbers, start=1)
    ]
    await slow.leave()
    await fast.leave()
