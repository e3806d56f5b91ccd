"""Typing and presence: what the client says, and says again after a lost connection."""

import asyncio

from knchat_client import frames
from tests.clients.python.heard import events, ids
from tests.clients.python.scripted import BOB, CHAT


async def answered(session, call, **expected):
    """The call, whose frame gets `ok`."""
    running = asyncio.create_task(call)
    frame = await session.hear()
    assert {name: frame[name] for name in ("type", *expected)} == expected | {"type": frame["type"]}
    await session.answer(frame)
    await running
    return frame["type"]


async def test_typing_and_presence_are_events(connect):
    """As they come, between the others; they count nowhere."""
    client, session = await connect()
    await session.say({"type": "typing", "chat": CHAT, "user": BOB})
    await session.say({"type": "presence", "user": BOB, "state": "offline", "last_seen": "t"})
    await session.push(1)

    typing, presence, message = await events(client, 3)
    assert typing == frames.IsTyping(chat=CHAT, user=BOB)
    assert presence == frames.Presence(user=BOB, state="offline", last_seen="t")
    assert message.n == 1


async def test_a_client_says_what_it_watches(connect):
    """And how it wants to be shown; `typing` has no reply."""
    client, session = await connect()
    assert await answered(session, client.watch([BOB]), users=[BOB]) == "watch"
    assert await answered(session, client.unwatch([BOB]), users=[BOB]) == "unwatch"
    shown = client.presence("busy", text="in a meeting")
    assert await answered(session, shown, state="busy", text="in a meeting") == "presence"
    await client.typing(CHAT)

    assert await session.hear() == {"type": "typing", "chat": CHAT}


async def test_it_is_said_again_after_a_lost_connection(server, connect):
    """The server forgets it with the session. How to be shown comes first."""
    client, session = await connect()
    await answered(session, client.watch([BOB, "3003"]))
    await answered(session, client.unwatch(["3003"]))
    await answered(session, client.presence("invisible"))
    session.cut()
    again = await server.session()
    await again.welcome("resumed")

    assert await again.hear() == {"type": "presence", "state": "invisible"}
    assert await again.hear() == {"type": "watch", "users": [BOB]}


async def test_what_is_refused_is_not_said_again(server, connect):
    """The 101st."""
    client, session = await connect()
    running = asyncio.create_task(client.watch([BOB]))
    frame = await session.hear()
    await session.answer(frame, "error", code="too_many", message="no", temporary=False)
    (refused,) = await asyncio.gather(running, return_exceptions=True)
    assert refused.code == "too_many"
    session.cut()
    again = await server.session()
    await again.welcome("resumed")
    await again.push(1)
    assert await ids(client, 1) == ["1"]
    asked = asyncio.create_task(client.ping())

    assert (await again.hear())["type"] == "ping"
    asked.cancel()


async def test_typing_without_a_connection_is_dropped(server, connect):
    """It would be told too late."""
    client, session = await connect()
    session.cut()
    again = await server.session()
    await client.typing(CHAT)
    await again.welcome("resumed")
    asked = asyncio.create_task(client.ping())

    assert (await again.hear())["type"] == "ping"
    asked.cancel()
