"""What the app is shown: cursors, holes, copies, counts, frames of later versions."""

from __future__ import annotations

import asyncio

import pytest

from knchat_client import Connected, Disconnected, Reload, Replaced, frames
from knchat_client.position import Shown
from schemas.ids import first_id_at
from tests.clients.python.heard import events, ids, news
from tests.clients.python.scripted import ALICE, CHAT


# ---- hello and resume ----------------------------------------------------------------------------
async def test_the_first_hello(connect):
    """Token, device and client; nothing to resume."""
    client, session = await connect(device="laptop")

    assert session.hello == {
        "type": "hello",
        "token": "access-1",
        "device": "laptop",
        "client": {"name": "kn-chat-python", "version": session.hello["client"]["version"]},
    }
    assert await news(client, Connected) == Connected("new", "s1")


async def test_after_a_cut_the_client_resumes_from_the_newest_cursor(server, connect):
    """Nothing is lost and nothing asked for twice: the cursor of the last push, and the highest id
    known.
    """
    client, session = await connect(encoding="msgpack")
    await session.push(20)
    await session.push(10)
    assert await ids(client, 2) == ["20", "10"]
    session.cut()

    again = await server.session()
    await again.welcome("resumed", live="c30")
    await again.push(30)

    assert (again.hello["resume"], again.hello["seen"]) == ("c10", "20")
    assert await ids(client, 1) == ["30"]


async def test_cursors_of_a_quiet_session_count(server, connect):
    """`live` and `cursor` move the position, though nothing was pushed; what the welcome says is
    not one's own position yet.
    """
    client, session = await connect(welcome={"live": "c5"})
    await news(client, frames.Live)
    session.cut()
    again = await server.session()
    await again.welcome("resumed", live="c5")
    await again.say({"type": "cursor", "cursor": "c6"})
    await again.push(7)
    await ids(client, 1)
    again.cut()

    assert again.hello["resume"] == "c5"
    assert (await server.session()).hello["resume"] == "c7"


async def test_an_earlier_run_can_be_gone_on_from(connect):
    """An app that kept the cursor of its last push gives it to its next run."""
    _, session = await connect(resume="kept")

    assert session.hello["resume"] == "kept"


async def test_a_hole_is_noticed(server, connect):
    """A jump in `n` means that something is missing: come back with the cursor before the hole, and
    show what follows only then.
    """
    client, session = await connect()
    await session.push(1)
    await session.push(3, n=3)

    again = await server.session()
    await again.welcome("resumed")
    await again.push(2)
    await again.push(3)

    assert again.hello["resume"] == "c1"
    assert await ids(client, 3) == ["1", "2", "3"]


async def test_reset_tells_the_app_to_reload(server, connect):
    """More was missed than the server holds: the app reads history again, and the dead cursor is
    not offered again.
    """
    client, session = await connect()
    await session.push(1)
    await ids(client, 1)
    session.cut()
    again = await server.session()
    await again.welcome("reset", history_lag_s=2.5, live="")
    assert await events(client, 1) == [Reload(2.5)]
    again.cut()

    assert "resume" not in (await server.session()).hello


async def test_only_what_is_asked_for(connect):
    """A sender does not want pushes: `background` says so to the server, and `listen=False` keeps
    none.
    """
    client, session = await connect(listen=False, background=True)
    for message in range(1, 50):
        await session.push(message)
    pinging = asyncio.create_task(client.ping())
    await session.answer(await session.hear(), "pong", time="now")

    assert session.hello["background"] is True
    assert await pinging == "now"


# ---- copies --------------------------------------------------------------------------------------
async def test_copies_are_shown_once(connect):
    """By (chat, message), then by (sender, key): a later copy with a higher id is not shown."""
    client, session = await connect()
    await session.push(5, key="same")
    await session.push(5, key="same")
    await session.push(6, key="same")
    await session.push(7)

    assert await ids(client, 2) == ["5", "7"]


async def test_the_lowest_copy_stays(connect):
    """A copy with a lower id comes late: the app takes the other one away and shows this one."""
    client, session = await connect()
    await session.push(6, key="same")
    await session.push(5, key="same")

    shown, replaced, stays = await events(client, 3)
    assert (shown.message, stays.message) == ("6", "5")
    assert replaced == Replaced(CHAT, "6")


async def test_other_pushes_pass_as_they_are(connect):
    """Receipts, unread counts, refusals and losses."""
    client, session = await connect()
    pushes = [
        {"type": "receipt", "chat": CHAT, "user": ALICE, "read": "5"},
        {"type": "unread", "chat": CHAT, "unread": 3, "read": "5", "upto": "8"},
        {"type": "refused", "chat": CHAT, "message": "5", "key": "k", "code": "forbidden"},
        {"type": "failed", "message": "5", "key": "k"},
    ]
    await session.say(*({**push, "n": n, "cursor": "c"} for n, push in enumerate(pushes, 1)))

    assert [type(event) for event in await events(client, 4)] == [
        frames.Receipt,
        frames.Unread,
        frames.Refused,
        frames.Failed,
    ]


async def test_a_count_is_right_when_it_comes(connect):
    """What came above `upto` before the push is added; one that says less than the last is not
    shown; mine are not counted.
    """
    client, session = await connect()

    async def count(unread, read, upto):
        session.n += 1
        await session.say(
            {
                "type": "unread",
                "n": session.n,
                "cursor": "c",
                "chat": CHAT,
                "unread": unread,
                "read": read,
                "upto": upto,
            }
        )

    for message in (5, 6, 9, 8):
        await session.push(message)
    await session.push(10, sender=ALICE)
    await count(2, "5", "8")  # 6 and 8 were counted
    await count(1, "4", "8")
    await count(1, "5", "6")
    await count(2, "6", "9")
    await session.push(11)
    await count(0, "9", "9")
    await count(998, "10", "10")
    await session.push(12)
    await count(998, "10", "10")

    counts = [
        event.unread for event in await events(client, 7 + 5) if isinstance(event, frames.Unread)
    ]
    assert counts == [3, 2, 1, 999, 999]


async def test_a_count_of_mentions_is_right_when_it_comes(connect):
    """As that of unread messages is."""
    client, session = await connect()
    for message, named in ((5, [ALICE]), (6, [ALICE, "9"]), (7, ["9"])):
        await session.push(message, mentions=named)
    session.n += 1
    count = {"type": "unread", "n": session.n, "cursor": "c", "chat": CHAT}
    await session.say({**count, "unread": 1, "mentions": 1, "read": "3", "upto": "5"})

    *_, told = await events(client, 4)
    assert (told.unread, told.mentions) == (3, 2)


async def test_frames_of_later_versions_are_passed_over(connect):
    """A server may be newer than its client."""
    client, session = await connect()
    await session.say({"type": "someday", "chat": CHAT, "user": ALICE})
    await session.say(
        {
            "type": "error",
            "code": "malformed",
            "message": "of a frame without number",
            "temporary": False,
        }
    )
    await session.push(1)

    assert await ids(client, 1) == ["1"]


@pytest.mark.parametrize("text", ["{", '{"type":"message"}', "5"])
async def test_what_is_no_frame_ends_the_session(server, connect, text):
    """The client cannot know what it has missed, so it comes back and resumes."""
    client, session = await connect()
    await session.say_text(text)

    assert "no frame" in (await news(client, Disconnected)).reason
    assert (await server.session()).hello["resume"] == "c0"


def test_only_the_last_copies_are_remembered(monkeypatch):
    """Memory stays bounded: what was shown long ago is forgotten first."""
    monkeypatch.setattr("knchat_client.position.MAX_ENTRIES", 2)
    shown = Shown()
    pushed = [
        frames.Message(chat=CHAT, message=str(n), sender=ALICE, time="", key=f"k{n}")
        for n in range(3)
    ]
    for message in pushed:
        shown.keep(message)

    assert [shown.decide(message) for message in pushed] == [
        (True, None),
        (False, None),
        (False, None),
    ]


def test_a_key_may_come_again_after_a_day():
    """It is unique for 24 h: a message that comes later under the same key is another one, and is
    shown.
    """
    shown = Shown()
    first, later = (first_id_at(1_800_000_000_000 + hours * 3_600_000) for hours in (0, 24))
    pushed = [
        frames.Message(chat=CHAT, message=str(n), sender=ALICE, time="", key="k")
        for n in (first, later - 1, later)
    ]
    shown.keep(pushed[0])

    assert [shown.decide(message) for message in pushed] == [
        (False, None),
        (False, None),
        (True, None),
    ]
