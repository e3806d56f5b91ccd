"""The suite of the `Chats` port: whom messages name, and how many that are unread name a user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.chats import Watermark
from schemas.errors import Malformed
from schemas.ids import LATEST, random_id
from tests.backends.chat_pairs import BUCKET_MS, NOW, newest, state_of


def naming(pair, id_, *users, sender=None, chat=None):
    message = replace(pair.message(id_, sender=sender), mentions=users)
    return message if chat is None else replace(message, chat=chat)


async def test_a_message_comes_back_with_its_mentions(chats, pair):
    """In pages, and in lists; however often it is put, and whatever came before it."""
    message = naming(pair, NOW, pair.anna, pair.ben)
    await chats.change([pair.edit(NOW, NOW + 5)])
    await chats.put([message])
    await chats.put([message])
    changed = replace(message, text="edited", edited=NOW + 5, version=NOW + 5)

    assert (await newest(chats, pair.chat)).messages == [changed]
    ((state,), _) = await chats.states(pair.ben, after=None, limit=9)
    assert (state.newest_message, state.unread, state.mentions) == (changed, 1, 1)


async def test_mentions_are_those_of_others_above_the_watermark(chats, pair):
    """Own ones do not count, nor what names another user."""
    await chats.put(
        [
            naming(pair, NOW, pair.ben),
            naming(pair, NOW + 1, pair.anna),
            naming(pair, NOW + 2, pair.anna, pair.ben),
            naming(pair, NOW + 3, pair.ben, sender=pair.ben),
            naming(pair, NOW + 4),
        ]
    )
    counts = []
    for read in (0, NOW, NOW + 2, NOW + 4):
        await chats.mark([Watermark(pair.ben, pair.chat, received=0, read=read)])
        state = await state_of(chats, pair.ben, pair.chat)
        counts.append((state.unread, state.mentions))

    assert counts == [(4, 2), (3, 1), (1, 0), (0, 0)]
    assert (await state_of(chats, pair.anna, pair.chat)).mentions == 0


async def test_deleted_messages_name_no_user(chats, pair):
    """Those deleted for all, which show it no more, and those deleted for the reader."""
    await chats.put([naming(pair, NOW + n, pair.ben) for n in range(3)])
    await chats.change(
        [
            pair.change("delete", NOW, NOW + 9),
            pair.change("hide", NOW + 1, NOW + 8, user=pair.ben),
            pair.change("hide", NOW + 2, NOW + 7, user=pair.anna),
        ]
    )

    assert (await state_of(chats, pair.ben, pair.chat)).mentions == 1
    assert [one.mentions for one in (await newest(chats, pair.chat)).messages] == [
        (pair.ben,),
        (pair.ben,),
        (),
    ]


@pytest.mark.parametrize(("messages", "count"), [(998, 998), (1_005, 999)])
async def test_mentions_are_exact_up_to_999_over_months(chats, pair, messages, count):
    """As unread is, whatever else is unread between them."""
    step = (BUCKET_MS << 22) // 300
    await chats.put([naming(pair, NOW + n * step, pair.ben) for n in range(messages)])
    await chats.put(pair.messages([NOW + n * step + 1 for n in range(messages)]))

    state = await state_of(chats, pair.ben, pair.chat)
    assert (state.unread, state.mentions) == (999, count)


async def test_a_group_counts_from_an_id_on(chats, pair):
    """Above the watermark, and above where a member's view begins; no state is made by it."""
    group, other = f"g-{random_id()}", random_id()
    await chats.put([naming(pair, NOW + n, pair.ben, chat=group) for n in range(5)])

    async def counted(user, since):
        [state] = await chats.group_states(user, {group: since})
        return state.unread, state.mentions

    assert [await counted(pair.ben, since) for since in (0, NOW + 1, NOW + 4)] == [
        (5, 5),
        (3, 3),
        (0, 0),
    ]
    assert await counted(other, 0) == (5, 0)
    assert await chats.states(pair.ben, after=None, limit=9) == ([], None)
    assert await chats.pointers([(pair.ben, group)]) == {}
    await chats.mark([Watermark(pair.ben, group, received=0, read=NOW + 3)])
    assert await counted(pair.ben, NOW + 1) == (1, 1)


@pytest.mark.parametrize("user", [-1, LATEST + 1])
async def test_an_impossible_mention_is_malformed(chats, pair, user):
    """And nothing of its call is stored."""
    with pytest.raises(Malformed):
        await chats.put([pair.message(NOW), naming(pair, NOW + 1, user)])

    assert (await newest(chats, pair.chat)).messages == []
