"""A Cassandra that is unavailable, hangs or comes back, and calls that are under way meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from backends.chats import cassandra_session
from backends.chats.cassandra_nodes import Timing
from schemas.errors import Unavailable
from tests.backends.chat_pairs import NOW, ids_of, newest
from tests.backends.chats_cassandra.answered import TIMEOUT_S, until_answered


async def test_a_store_that_starts_late_is_unavailable_until_then(chats, proxy, pair):
    """Nothing has to be restarted."""
    proxy.refusing = True
    for call in (chats.ping(), chats.put([pair.message(NOW)]), chats.migrate()):
        with pytest.raises(Unavailable):
            await call
    proxy.refusing = False
    await until_answered(lambda: chats.put([pair.message(NOW)]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW]


async def test_many_vain_tries_leave_no_threads(behind, proxy):
    """An outage may last for days."""
    chats = behind(timing=Timing(retry_delay_s=0.0))
    proxy.refusing = True
    counts = []
    for _ in range(8):
        with pytest.raises(Unavailable):
            await chats.ping()
        counts.append(threading.active_count())

    assert proxy.accepted >= 8
    assert max(counts[4:]) < max(counts[:4]) + 4  # a session has six threads


async def test_connecting_does_not_hold_up_the_event_loop(chats, proxy):
    """A node that accepts and says nothing costs its callers a timeout, and no others anything."""
    proxy.hold()
    ping = asyncio.create_task(chats.ping())
    turns = 0
    while not ping.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 50
    with pytest.raises(Unavailable):
        await ping
    proxy.release()
    await until_answered(chats.ping)


async def test_a_dead_connection_is_unavailable_within_the_timeout(chats, proxy, pair):
    """And when it lives again, so do we."""
    await chats.put([pair.message(NOW)])
    proxy.hold()
    began = time.monotonic()
    calls = (
        chats.put([pair.message(NOW + 1)]),
        newest(chats, pair.chat),
        chats.unread(pair.ben, [pair.chat]),
        chats.ping(),
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Unavailable] * 4
    assert time.monotonic() - began < 2 * TIMEOUT_S
    proxy.release()
    await until_answered(lambda: chats.put([pair.message(NOW + 2)]))
    assert ids_of(await newest(chats, pair.chat))[0] == NOW + 2


async def test_connections_that_break_are_made_again(chats, proxy, pair):
    """A node that restarts."""
    for number in range(3):
        await until_answered(lambda number=number: chats.put([pair.message(NOW + number)]))
        await proxy.cut()
    page = await until_answered(lambda: newest(chats, pair.chat))

    assert ids_of(page) == [NOW + 2, NOW + 1, NOW]


async def test_after_a_long_silence_the_session_is_recreated(behind, proxy, pair):
    """The driver gives up for good in some cases, such as a log-in refused by a node that is
    starting.
    """
    chats = behind(timing=Timing(silence_timeout_s=0.1, reconnect_s=(600.0, 600.0)))
    await chats.put([pair.message(NOW)])
    proxy.refusing = True
    await proxy.cut()
    # From outside, a new session looks like one that has recovered.
    while chats._session._live is not None:
        with pytest.raises(Unavailable):
            await chats.ping()
    proxy.refusing = False

    assert ids_of(await until_answered(lambda: newest(chats, pair.chat))) == [NOW]


async def test_close_waits_for_what_is_under_way(connect, pair):
    """And then takes no more; closing twice, or what was never opened, is nothing."""
    chats, unused = connect(), connect()
    await chats.ping()
    put = asyncio.create_task(chats.put(pair.messages(range(NOW, NOW + 256))))
    await asyncio.sleep(0)
    await chats.close()
    await chats.close()
    await unused.close()

    assert await put is None
    with pytest.raises(Unavailable):
        await chats.put([pair.message(NOW)])
    assert len(ids_of(await newest(connect(), pair.chat))) == 256


async def test_close_has_a_timeout(chats, proxy, pair):
    """A node that is silent when the process ends."""
    await chats.ping()
    proxy.hold()
    put = asyncio.create_task(chats.put([pair.message(NOW)]))
    await asyncio.sleep(0)
    began = time.monotonic()
    await chats.close()

    assert time.monotonic() - began < 4 * TIMEOUT_S
    with pytest.raises(Unavailable):
        await put


async def test_a_cancelled_call_leaves_nothing_behind(chats, proxy, pair):
    """Its answer, when it comes, is dropped."""
    await chats.ping()
    proxy.hold()
    put = asyncio.create_task(chats.put([pair.message(NOW)]))
    await asyncio.sleep(0.05)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    proxy.release()

    await until_answered(chats.ping)


async def test_too_many_callers_are_unavailable_at_once(chats, proxy, monkeypatch):
    """The queue has an end."""
    await chats.ping()
    proxy.hold()
    monkeypatch.setattr(cassandra_session, "MAX_WAITING", 20)
    calls = [asyncio.create_task(chats.ping()) for _ in range(25)]
    done, waiting = await asyncio.wait(calls, timeout=TIMEOUT_S / 2)

    assert (len(done), len(waiting)) == (5, 20)
    assert {str(call.exception()) for call in done} == {"too much waits for Cassandra"}
    await asyncio.gather(*waiting, return_exceptions=True)
