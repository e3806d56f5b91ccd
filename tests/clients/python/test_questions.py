"""Sending and asking: over lost connections, temporary errors, deadlines, and a reader that is too
slow.

Against a scripted server.
"""

from __future__ import annotations

import asyncio

import pytest

from knchat_client import (
    Connected,
    Disconnected,
    Malformed,
    Refused,
    Reload,
    Replaced,
    Sent,
    Unavailable,
    frames,
)
from knchat_client.connection import Timing
from knchat_client.events import Inbox
from schemas.ids import time_text
from tests.clients.python.heard import ids
from tests.clients.python.scripted import ALICE, BOB, CHAT, TIMEOUT_S

TIME = time_text(1_795_560_000_000)
ITEM = {
    "chat": CHAT,
    "message": "9",
    "sender": BOB,
    "key": "k",
    "time": TIME,
    "version": "9",
    "reactions": [],
    "text": "hi",
}


async def arrived(client, count):
    """Waits until so many events are there to be read."""
    inbox = client._inbox
    async with asyncio.timeout(TIMEOUT_S), inbox._changed:
        await inbox._changed.wait_for(lambda: len(inbox._events) == count)


async def test_a_message_is_sent(connect):
    """To a user or into a chat; what comes back is the id under which it is safe."""
    client, session = await connect()
    to_bob = asyncio.create_task(client.send("hi", to=BOB, reply_to="3", mentions=[BOB]))
    first = await session.hear()
    await session.ok(first, 9)
    into_chat = asyncio.create_task(client.send("hi", chat=CHAT, key="mine"))
    second = await session.hear()
    await session.ok(second, 10, duplicate=True)

    assert await to_bob == Sent(CHAT, "9", TIME, first["key"], duplicate=False)
    assert await into_chat == Sent(CHAT, "10", TIME, "mine", duplicate=True)
    assert first == {
        "type": "send",
        "id": 1,
        "key": first["key"],
        "to": BOB,
        "text": "hi",
        "reply_to": "3",
        "mentions": [BOB],
    }
    assert second == {"type": "send", "id": 2, "key": "mine", "chat": CHAT, "text": "hi"}


async def test_what_was_sent_counts_as_seen(server, connect):
    """The next gateway mints greater ids than this client's last message."""
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    await session.ok(await session.hear(), 77)
    await sending
    session.cut()

    assert (await server.session()).hello["seen"] == "77"


async def test_a_send_survives_lost_connections(server, connect):
    """No answer before the cut: the same key again in the next session, until there is one."""
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    keys = [(await session.hear())["key"]]
    session.cut()
    session = await server.session()
    await session.close(4003, "too slow")
    session = await server.session()
    await session.welcome("resumed")
    again = await session.hear()
    await session.ok(again, 9, duplicate=True)

    assert (await sending).duplicate
    assert {again["key"], *keys} == {keys[0]}


async def test_a_temporary_error_is_met_by_repeating(connect):
    """`temporary: true` means that the outcome is unknown: the same key again, not before the
    server's pause.
    """
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    first = await session.hear()
    began_at = asyncio.get_running_loop().time()
    await session.answer(
        first, "error", code="rate_limited", message="slowly", temporary=True, retry_after_ms=300
    )
    second = await session.hear()
    waited_s = asyncio.get_running_loop().time() - began_at
    await session.answer(
        second, "error", code="unavailable", message="the log is unavailable", temporary=True
    )
    await session.ok(await session.hear(), 9)

    assert (await sending).message == "9"
    assert waited_s >= 0.29
    assert first["key"] == second["key"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("key_reused", Refused),
        ("malformed", Malformed),
        ("too_large", Malformed),
        ("of_a_later_version", Refused),
    ],
)
async def test_a_definite_error_is_raised(connect, code, kind):
    """`temporary: false`: nothing happened, and the app is told why and where."""
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    await session.answer(
        await session.hear(),
        "error",
        code=code,
        message="no",
        temporary=False,
        details={"field": "text"},
    )

    with pytest.raises(kind) as refused:
        await sending
    assert refused.value.code == code or code in refused.value.message
    assert not refused.value.temporary


async def test_a_deadline_says_how_to_find_out(connect):
    """After the deadline the outcome is unknown; the error names the key to repeat with."""
    client, session = await connect()
    with pytest.raises(Unavailable, match="repeat with the key mine"):
        await client.send("hi", to=BOB, key="mine", timeout_s=0.2)

    assert (await session.hear())["key"] == "mine"
    late = asyncio.create_task(client.ping())
    await session.ok({"id": 1}, 9)  # no call waits for it any more
    await session.answer(await session.hear(), "pong", time=TIME)
    assert await late == TIME


async def test_a_frame_that_is_too_large_is_not_sent(connect):
    """The server would close with 1009, for this and everything else under way."""
    client, session = await connect(welcome={"frame_bytes": 500})
    with pytest.raises(Malformed) as refused:
        await client.send("x" * 500, to=BOB)
    assert refused.value.code == "too_large"

    pinging = asyncio.create_task(client.ping())
    await session.answer(await session.hear(), "pong", time=TIME)
    assert await pinging == TIME


async def test_questions_are_asked(connect):
    """History, chats, digest, marks: each with its fields, and what was not given left out."""
    client, session = await connect()

    async def asked(call, kind, **answer):
        running = asyncio.create_task(call)
        frame = await session.hear()
        await session.answer(frame, kind, **answer)
        del frame["id"]
        return frame, await running

    page = {
        "chat": CHAT,
        "messages": [ITEM],
        "more_before": False,
        "more_after": True,
        "first": "9",
        "last": "9",
    }
    state = {
        "chat": CHAT,
        "kind": "direct",
        "newest": "9",
        "unread": 1,
        "read": "0",
        "received": "0",
        "others": [BOB],
    }

    frame, answer = await asked(client.history(CHAT), "page", **page)
    assert frame == {"type": "history", "chat": CHAT}
    assert answer.messages[0].text == "hi"
    for position in ("before", "after", "around"):
        frame, _ = await asked(client.history(CHAT, **{position: "5"}, limit=7), "page", **page)
        assert frame == {"type": "history", "chat": CHAT, position: "5", "limit": 7}
    frame, answer = await asked(client.chats(after="x", limit=3), "chats", chats=[state], after="y")
    assert frame == {"type": "chats", "after": "x", "limit": 3}
    assert (answer.chats[0].unread, answer.after) == (1, "y")
    assert (await asked(client.chats(), "chats", chats=[]))[0] == {"type": "chats"}
    frame, answer = await asked(
        client.digest(CHAT, first="1", last="9"), "digest", count=1, hash="00ff"
    )
    assert frame == {"type": "digest", "chat": CHAT, "from": "1", "to": "9"}
    assert (answer.count, answer.hash) == (1, "00ff")
    frame, _ = await asked(client.mark(CHAT, read="9"), "ok")
    assert frame == {"type": "mark", "chat": CHAT, "read": "9"}
    frame, _ = await asked(client.mark(CHAT, received="9"), "ok")
    assert frame == {"type": "mark", "chat": CHAT, "received": "9"}


CHANGES = {
    "edit": (("hello",), {"text": "hello"}),
    "react": (("❤️",), {"emoji": "❤️"}),
    "unreact": (("❤️",), {"emoji": "❤️"}),
    "pin": ((), {}),
    "unpin": ((), {}),
    "delete": ((), {"for": "me"}),
}


@pytest.mark.parametrize("op", CHANGES)
async def test_a_message_is_changed(op, server, connect):
    """Under a key of its own or the caller's; its version counts as seen."""
    given, fields = CHANGES[op]
    client, session = await connect()
    changing = asyncio.create_task(getattr(client, op)(CHAT, "9", *given, key="mine"))
    frame = await session.hear()
    await session.answer(frame, message="9", version="77")

    assert await changing == "77"
    assert frame == {
        "type": op,
        "id": 1,
        "chat": CHAT,
        "message": "9",
        "key": "mine",
        **fields,
    }
    session.cut()
    assert (await server.session()).hello["seen"] == "77"


async def test_a_message_is_deleted_for_all(connect):
    """Only where it is asked for."""
    client, session = await connect()
    deleting = asyncio.create_task(client.delete(CHAT, "9", for_all=True))
    frame = await session.hear()
    await session.answer(frame, message="9", version="77")

    assert (await deleting, frame["for"], len(frame["key"])) == ("77", "all", 32)


@pytest.mark.parametrize("answer", [{"kind": "pong", "time": TIME}, {"kind": "ok"}])
async def test_an_answer_of_another_kind(connect, answer):
    """A server that answers something else, or without the id, has not said that the message is
    safe.
    """
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    await session.answer(await session.hear(), **answer)

    with pytest.raises(Unavailable):
        await sending


async def test_a_connection_that_does_not_answer_is_checked(server, connect):
    """A ping finds a dead connection while a call waits, long before the heartbeat would."""
    client, session = await connect(_timing=Timing(ping_after_s=0.05, pong_timeout_s=0.2))
    sending = asyncio.create_task(client.send("hi", to=BOB))
    await session.hear()
    await asyncio.sleep(0.2)  # pings are answered meanwhile, so the connection is kept
    await server.no_session(0.1)
    session._connection.transport.pause_reading()

    again = await server.session()
    await again.welcome("resumed")
    await again.ok(await again.hear(), 9)
    assert (await sending).message == "9"
    session.cut()


async def test_asking_before_connecting(make_client):
    """A mistake in the program, not of the server."""
    client = await make_client()
    with pytest.raises(RuntimeError):
        await client.ping()


async def test_closing_ends_what_is_under_way(connect):
    """Questions raise Unavailable, events end."""
    client, session = await connect()
    sending = asyncio.create_task(client.send("hi", to=BOB))
    await session.hear()
    await session.push(1)
    await arrived(client, 3)  # connected, live, and the message
    await client.close()

    with pytest.raises(Unavailable, match="closed"):
        await sending
    assert [
        event.message async for event in client.events() if isinstance(event, frames.Message)
    ] == ["1"]


async def test_a_slow_reader_makes_the_server_wait(server, connect):
    """At most `queue` events wait; the rest stays in the socket, in order, and nothing is asked for
    twice.
    """
    client, session = await connect(queue=5)
    for message in range(1, 31):
        await session.push(message)

    await arrived(client, 5)
    assert await ids(client, 30) == [str(message) for message in range(1, 31)]
    await server.no_session(0.1)


async def test_a_slow_reader_can_still_ask(server, connect):
    """Pushes stand before the answer and there is no room for them: they are left out, and fetched
    when there is.
    """
    client, session = await connect(queue=5)
    for message in range(1, 21):
        await session.push(message)
    sending = asyncio.create_task(client.send("hi", to=ALICE))
    await session.ok(await session.hear(), 100)
    assert (await sending).message == "100"
    await session.push(21)
    await session.say({"type": "cursor", "cursor": "c21"})

    reading = asyncio.create_task(ids(client, 21))
    again = await server.session()
    kept = int(again.hello["resume"][1:])
    await again.welcome("resumed")
    for message in range(kept + 1, 22):
        await again.push(message)

    assert kept <= 5
    assert await reading == [str(message) for message in range(1, 22)]


async def test_a_bot_that_answers_each_message(server, connect):
    """Asking inside the loop over events, with more events coming than there is room for: no
    standstill, no loss, no copy.
    """
    client, session = await connect(queue=4)
    count, answered = 60, []

    async def gateway(session, first):
        kept = first
        await session.welcome("resumed", live=f"c{first}") if first else None
        unsent = iter(range(kept + 1, count + 1))
        while True:
            for _, message in zip(range(10), unsent, strict=False):
                await session.push(message)
            await session.ok(await session.hear(), 1_000)

    async def gateways(session):
        first = 0
        while True:
            serving = asyncio.create_task(gateway(session, first))
            session = await server.session()
            serving.cancel()
            first = int(session.hello["resume"][1:])

    serving = asyncio.create_task(gateways(session))
    async with asyncio.timeout(TIMEOUT_S):
        async for event in client.events():
            if isinstance(event, frames.Message):
                await client.send(f"re: {event.message}", to=BOB)
                answered.append(int(event.message))
            if len(answered) == count:
                break
    serving.cancel()

    assert answered == list(range(1, count + 1))


async def test_a_full_queue_leaves_news_of_the_connection_out():
    """Connected and Disconnected are told when there is room; what the app must act on always is,
    once.
    """
    inbox = Inbox(2)
    for event in (
        Connected("new", "s1"),
        frames.Live(cursor="c"),
        Disconnected(None, "cut", 0.0),
        Reload(None),
        Reload(None),
        Replaced(CHAT, "1"),
    ):
        await inbox.put_nowait(event)
    await inbox.end(None)

    found = []
    while (event := await inbox.get()) is not None:
        found.append(type(event))
    assert found == [Connected, frames.Live, Reload, Replaced]


async def test_a_mistake_in_the_client_is_not_an_end(connect, monkeypatch):
    """What ends the connection for good is raised where events are read."""
    client, session = await connect()
    monkeypatch.setattr(client._position, "follows", lambda push: 1 / 0)
    await session.push(1)

    with pytest.raises(ZeroDivisionError):
        await ids(client, 1)
