"""The suite of the `Chats` port: groups, of which only the messages and the heads lie there."""

from __future__ import annotations

import pytest

from backends.chats import HistoryMessage, Watermark
from schemas.errors import Malformed
from schemas.ids import direct_chat, random_id
from tests.backends.chat_pairs import NOW, newest

ANNA, BEN = 1_001, 1_002
DAY = 86_400_000 << 22


@pytest.fixture
def group():
    return f"g-{random_id()}"


def message(group, id_, sender=ANNA, event=""):
    return HistoryMessage(
        id_, group, sender, "" if event else "k", "" if event else "hi", 0, id_, event
    )


async def state(chats, user, group, since=0):
    (found,) = await chats.group_states(user, {group: since})
    return found.newest, found.unread, found.upto, found.read


async def test_a_group_s_messages_come_back_with_its_events(chats, group):
    """In pages and digests, as those of a direct chat; in no list of direct chats."""
    messages = [message(group, NOW, event='{"kind":"created"}'), message(group, NOW + 1)]
    await chats.put(messages)
    await chats.put(messages)

    assert (await newest(chats, group)).messages == messages[::-1]
    assert (await chats.digest(group, first=NOW, last=NOW + 1)).count == 2
    assert await chats.states(ANNA, after=None, limit=9) == ([], None)


async def test_the_head_of_a_group_moves_forward_only(chats, group):
    """Messages may arrive in any order; a group without one has none."""
    await chats.put([message(group, NOW + 5), message(group, NOW + 2)])
    await chats.put([message(group, NOW + 1)])

    assert await chats.heads([group, f"g-{random_id()}"]) == {group: NOW + 5}
    assert await chats.heads([]) == {}


async def test_what_others_said_is_unread(chats, group):
    """From an id on, above the read watermark; neither one's own messages nor events count."""
    await chats.put(
        [
            message(group, NOW, event="{}"),
            *(message(group, NOW + n, sender=ANNA if n % 2 else BEN) for n in range(1, 9)),
            message(group, NOW + 9, event="{}"),
        ]
    )

    assert await state(chats, ANNA, group) == (NOW + 9, 4, NOW + 8, 0)
    assert await state(chats, BEN, group, since=NOW + 3) == (NOW + 9, 2, NOW + 7, 0)
    await chats.mark([Watermark(ANNA, group, received=0, read=NOW + 4)])
    assert await state(chats, ANNA, group) == (NOW + 9, 2, NOW + 8, NOW + 4)
    assert await state(chats, ANNA, group, since=NOW + 6) == (NOW + 9, 1, NOW + 8, NOW + 4)
    await chats.mark([Watermark(ANNA, group, received=0, read=NOW + 9)])
    assert await state(chats, ANNA, group) == (NOW + 9, 0, NOW + 9, NOW + 9)


async def test_unread_is_exact_up_to_999_over_months(chats, group):
    """Whatever lies between: one's own messages are passed over."""
    ids = [NOW + n * DAY // 40 for n in range(1_400)]
    await chats.put(
        [message(group, id_, sender=BEN if n % 4 else ANNA) for n, id_ in enumerate(ids)]
    )

    assert (await state(chats, ANNA, group))[1] == 999
    await chats.mark([Watermark(ANNA, group, received=0, read=ids[699])])
    assert await state(chats, ANNA, group) == (ids[-1], 525, ids[-1], ids[699])


async def test_states_come_in_the_order_asked_for(chats, group):
    """With the newest message of each; a group without one is there too."""
    other, empty = f"g-{random_id()}", f"g-{random_id()}"
    await chats.put([message(group, NOW), message(other, NOW + 1)])
    found = await chats.group_states(ANNA, {other: 0, empty: 0, group: 0})

    assert [(one.chat, one.newest) for one in found] == [(other, NOW + 1), (empty, 0), (group, NOW)]
    assert [one.newest_message for one in found] == [
        message(other, NOW + 1), None, message(group, NOW),
    ]  # fmt: skip
    assert await chats.group_states(ANNA, {}) == []


async def test_marks_of_groups_make_no_direct_chat(chats, group):
    """Watermarks lie where those of direct chats lie."""
    chat = direct_chat(ANNA, BEN)
    await chats.mark(
        [Watermark(ANNA, group, received=NOW, read=NOW), Watermark(ANNA, chat, 0, NOW)]
    )

    assert set(await chats.pointers([(ANNA, group), (ANNA, chat)])) == {(ANNA, group), (ANNA, chat)}
    assert await chats.states(ANNA, after=None, limit=9) == ([], None)


async def test_all_chats_are_told_part_by_part(chats):
    """Each once, direct ones and groups, however many messages are in them; none without one."""
    users = [random_id() for _ in range(4)]
    direct = [direct_chat(users[0], other) for other in users]
    groups = [f"g-{random_id()}" for _ in range(3)]
    for chat in (*direct, *groups):
        await chats.put([message(chat, NOW), message(chat, NOW + 200 * DAY)])
    await chats.mark([Watermark(users[0], direct_chat(users[2], users[3]), received=1, read=1)])
    part, after = await chats.all_chats(None, limit=2)
    parts = [part]
    while after is not None:
        part, after = await chats.all_chats(after, limit=256)
        parts.append(part)
    told = [chat for part in parts for chat in part]

    assert len(parts[0]) == 2
    assert {*direct, *groups} <= {*told}
    assert len({*told}) == len(told)
    assert direct_chat(users[2], users[3]) not in told
    with pytest.raises(Malformed):
        await chats.all_chats("no text of ours", limit=2)
