"""`history`: pages, lists and digests for the session that asks; mistakes are answers; nothing is
larger than a frame.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from schemas import chat_pb2 as pb
from schemas.ids import direct_chat
from schemas.topics import SESSION_DELIVERIES
from tests.functions.history.asked import history, ids


async def test_the_newest_page(ask, said, event_targets):
    """Newest first; more lies before it, nothing after."""
    page = (await ask(**history(event_targets.CHAT))).page

    assert ids(page) == said[:19:-1]
    assert (page.more_before, page.more_after) == (True, False)
    item = page.messages[0]
    assert (item.message.sender, item.message.body.text, item.version) == (
        event_targets.ALICE,
        "number 29",
        said[29],
    )


async def test_pages_before_after_and_around_a_message(ask, said, event_targets):
    """before and after leave out their id, around holds it."""
    before, after, around = [
        (await ask(**history(event_targets.CHAT, 4, **{direction: said[15]}))).page
        for direction in ("before", "after", "around")
    ]

    assert ids(before) == said[14:10:-1]
    assert ids(after) == said[19:15:-1]
    assert said[15] in ids(around)
    assert len(ids(around)) == 4
    assert ids(around) == sorted(ids(around), reverse=True)
    assert all(page.more_before and page.more_after for page in (before, after, around))


async def test_the_ends_of_a_chat_have_no_more(ask, said, event_targets):
    """A page that reaches an end says so; the whole chat says so twice."""
    oldest = (await ask(**history(event_targets.CHAT, 10, before=said[5]))).page
    whole = (await ask(**history(event_targets.CHAT, 256, around=said[15]))).page

    assert ids(oldest) == said[4::-1]
    assert (oldest.more_before, oldest.more_after) == (False, True)
    assert ids(whole) == said[::-1]
    assert (whole.more_before, whole.more_after) == (False, False)


async def test_an_id_beyond_all_is_the_newest_page(ask, said, event_targets):
    """A number that no id can be reads as the greatest there is."""
    assert ids((await ask(**history(event_targets.CHAT, 3, before=2**64 - 1))).page) == said[:26:-1]


async def test_a_chat_without_messages_is_an_empty_page(ask, event_targets, backends):
    """Nothing was said yet: that is no mistake."""
    page = (await ask(**history(direct_chat(event_targets.ALICE, event_targets.ALICE)))).page

    assert (ids(page), page.more_before, page.more_after) == ([], False, False)


async def test_the_list_of_chats(ask, said, event_targets):
    """Newest first, with the newest message and what is unread."""
    to_carol = event_targets.text(
        "hi Carol", chat=direct_chat(event_targets.ALICE, event_targets.CAROL)
    )
    await event_targets.post("persist", [pb.Outcome(command=to_carol)])
    states = (await ask(chats=pb.ChatsQuery(limit=50))).chats

    carol, bob = states.chats
    assert (carol.chat, list(carol.others), carol.newest, carol.unread) == (
        "d-1001-1003",
        [event_targets.CAROL],
        to_carol.id,
        0,
    )
    assert carol.newest_message.message.body.text == "hi Carol"
    assert (bob.chat, list(bob.others), bob.newest, bob.unread) == (
        event_targets.CHAT,
        [event_targets.BOB],
        said[-1],
        10,
    )
    assert states.after == ""


async def test_a_digest_is_as_the_protocol_says(ask, said, event_targets):
    """XOR of the first 8 bytes of SHA-256("message:version"), both ends included."""
    query = pb.DigestQuery(chat=event_targets.CHAT, to=said[9])
    setattr(query, "from", said[3])
    digest = (await ask(digest=query)).digest

    expected = 0
    for number in said[3:10]:
        expected ^= int.from_bytes(sha256(f"{number}:{number}".encode()).digest()[:8])
    assert (digest.count, digest.hash) == (7, expected)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (history("d-1002-1003"), "unknown_chat", "chat"),
        (history("g-5"), "unknown_chat", "chat"),
        (history("nonsense"), "malformed", "chat"),
        (history("d-1001-1002", limit=0), "malformed", "limit"),
        (history("d-1001-1002", limit=257), "malformed", "limit"),
        ({"chats": pb.ChatsQuery(limit=0)}, "malformed", "limit"),
        ({"chats": pb.ChatsQuery(limit=5, after="nonsense")}, "malformed", "after"),
        ({"digest": pb.DigestQuery(chat="d-1002-1003", to=1)}, "unknown_chat", "chat"),
        (
            {"digest": pb.DigestQuery(chat="d-1001-1002", **{"from": 2, "to": 1})},
            "malformed",
            "from",
        ),
        ({}, "unknown_type", ""),
    ],
)
async def test_a_mistake_is_answered(body, code, field, ask, backends):
    """The user hears what is wrong; the event is done."""
    refused = (await ask(**body)).refused

    assert (refused.code, refused.field) == (code, field)
    assert refused.message


async def test_a_query_past_its_deadline_is_not_answered(event_targets, backends, topics):
    """Its deadline has passed: no store is asked, nothing is appended."""
    answer = await event_targets.post(
        "history",
        [
            pb.Query(
                user=event_targets.ALICE,
                session="s",
                re=1,
                deadline_ms=1,
                chats=pb.ChatsQuery(limit=5),
            )
        ],
    )

    assert answer.status == 200
    assert not await topics.events(SESSION_DELIVERIES)
