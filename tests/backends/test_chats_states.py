"""The suite of the `Chats` port: what a person's list of chats says, marks, and what is unread."""

from __future__ import annotations

import pytest

from backends.chats import ChatState, HistoryMessage, Pointers, Watermark
from schemas.errors import Malformed
from schemas.ids import direct_chat, random_id
from tests.backends.chat_pairs import NOW, Pair, state_of


async def test_a_message_makes_its_chat_known_to_both_people(chats, pair):
    """Both see it in their list, with its newest message; it is unread for the other one only."""
    message = pair.message(NOW, sender=pair.anna)
    await chats.put([message])

    assert await chats.states(pair.anna, after=None, limit=50) == (
        [ChatState(pair.chat, NOW, message, unread=0, upto=0, read=0, received=0, sent=NOW)],
        None,
    )
    assert await chats.states(pair.ben, after=None, limit=50) == (
        [ChatState(pair.chat, NOW, message, unread=1, upto=NOW, read=0, received=0)],
        None,
    )


async def test_a_notebook_has_one_person_and_nothing_unread(chats):
    """The chat with oneself."""
    me = random_id()
    await chats.put([HistoryMessage(NOW, direct_chat(me, me), me, "k", "note", 0, NOW)])
    states, _ = await chats.states(me, after=None, limit=50)

    assert [(state.chat, state.unread) for state in states] == [(direct_chat(me, me), 0)]


async def test_an_older_message_does_not_move_the_newest_id_back(chats, pair):
    """Messages may arrive in any order."""
    await chats.put(pair.messages([NOW + 5]))
    await chats.put(pair.messages([NOW]))

    assert (await state_of(chats, pair.ben, pair.chat)).newest == NOW + 5


async def test_of_very_many_chats_the_newest_are_found(chats):
    """More than one request of any store holds, in parts, each chat once: some hours with hundreds
    of them, some with one, some of months ago, and one of long ago that is the newest again.
    """
    me, newest = random_id(), {}
    said = []
    for number in range(1_300):
        chat = direct_chat(me, other := random_id())
        minutes = number // 4 if number < 800 else (number - 797) * 60
        at = NOW - (minutes * 60_000 << 22) - number
        newest[chat] = at
        said.append(HistoryMessage(at, chat, other, "k", "hi", 0, at))
    for number, chat in enumerate([*newest][-3:]):
        newest[chat] = NOW + 1 + number
        said.append(HistoryMessage(newest[chat], chat, me, "again", "hi", 0, newest[chat]))
    for start in range(0, len(said), 256):
        await chats.put(said[start : start + 256])
    first, after = await chats.states(me, after=None, limit=50)
    listed = [*first]
    while after is not None:
        states, after = await chats.states(me, after=after, limit=256)
        listed += states

    expected = sorted(newest, key=lambda chat: newest[chat], reverse=True)
    assert [state.chat for state in first] == expected[:50]
    assert [state.chat for state in listed] == expected


async def test_marks_move_forward_only_and_read_implies_received(chats, pair):
    """An old mark that comes late changes nothing."""
    await chats.put(pair.messages(range(NOW, NOW + 10)))
    await chats.mark([Watermark(pair.ben, pair.chat, received=NOW + 2, read=NOW + 6)])
    await chats.mark([Watermark(pair.ben, pair.chat, received=NOW + 8, read=NOW + 1)])

    assert await state_of(chats, pair.ben, pair.chat) == ChatState(
        pair.chat, NOW + 9, None, unread=3, upto=NOW + 9, read=NOW + 6, received=NOW + 8
    )


async def test_a_mark_may_come_before_its_message(chats, pair):
    """It counts when the message has come; until then there is no chat to show."""
    await chats.mark([Watermark(pair.ben, pair.chat, received=0, read=NOW)])
    before = (
        await chats.states(pair.ben, after=None, limit=50),
        await chats.unread(pair.ben, [pair.chat]),
    )
    await chats.put(pair.messages([NOW, NOW + 1]))

    assert before == (([], None), [])
    assert await state_of(chats, pair.ben, pair.chat) == ChatState(
        pair.chat, NOW + 1, None, unread=1, upto=NOW + 1, read=NOW, received=NOW
    )


@pytest.mark.parametrize("mark", [(1, 1 << 63, 0), (1, 0, 1 << 64), (1 << 63, 0, 0)], ids=str)
async def test_an_impossible_mark_is_malformed(chats, pair, mark):
    """And the good one beside it is not written: the caller marks again without it."""
    await chats.put(pair.messages([NOW]))
    user, received, read = mark
    with pytest.raises(Malformed):
        await chats.mark(
            [Watermark(pair.ben, pair.chat, NOW, NOW), Watermark(user, pair.chat, received, read)]
        )

    assert (await state_of(chats, pair.ben, pair.chat)).read == 0


async def test_a_state_knows_the_newest_of_the_users_own(chats, pair):
    """In any order, and whatever else is written; 0 as long as there is none."""
    await chats.put([pair.message(NOW + 3, sender=pair.anna)])
    await chats.put([pair.message(NOW + 1, sender=pair.ben), pair.message(NOW + 2)])
    await chats.put([pair.message(NOW, sender=pair.ben)])
    await chats.mark([Watermark(pair.ben, pair.chat, received=NOW + 3, read=NOW + 3)])
    other = Pair()
    await chats.put([other.message(NOW)])
    await chats.mark([Watermark(other.ben, other.chat, received=NOW, read=NOW)])

    states = [await state_of(chats, user, pair.chat) for user in (pair.anna, pair.ben)]
    assert [state.sent for state in states] == [NOW + 3, NOW + 1]
    assert (await state_of(chats, other.ben, other.chat)).sent == 0


async def test_a_reaction_is_an_answer(chats, pair):
    """Before its message too; other changes are none."""
    await chats.change([pair.change("react", NOW, NOW + 5, "👍", user=pair.ben)])
    await chats.put([pair.message(NOW)])
    other = Pair()
    await chats.put([other.message(NOW)])
    await chats.change(
        [other.edit(NOW, NOW + 5), other.change("hide", NOW, NOW + 6, user=other.ben)]
    )

    assert (await state_of(chats, pair.ben, pair.chat)).sent == NOW + 5
    assert (await state_of(chats, other.ben, other.chat)).sent == 0


async def test_a_reaction_that_is_taken_away_is_an_answer_too(chats, pair):
    """One that was refused by a limit may be accepted in a replay: the state is as before."""
    await chats.put([pair.message(NOW)])
    await chats.change([pair.change("unreact", NOW, NOW + 5, "👍", user=pair.ben)])
    before = await state_of(chats, pair.ben, pair.chat)
    await chats.change([pair.change("react", NOW, NOW + 5, "👍", user=pair.ben)])

    assert before.sent == NOW + 5
    assert await state_of(chats, pair.ben, pair.chat) == before


async def test_own_messages_are_never_unread(chats, pair):
    """Only what others wrote counts."""
    await chats.put(
        [
            *pair.messages([NOW, NOW + 2], sender=pair.anna),
            *pair.messages([NOW + 1, NOW + 3, NOW + 5], sender=pair.ben),
        ]
    )

    assert [(await state_of(chats, user, pair.chat)).unread for user in (pair.anna, pair.ben)] == [
        3,
        2,
    ]


@pytest.mark.parametrize(("messages", "unread"), [(998, 998), (999, 999), (1_100, 999)])
async def test_unread_is_exact_up_to_999(chats, pair, messages, unread):
    """999 means 999 or more."""
    await chats.put(pair.messages(range(NOW, NOW + messages)))

    assert (await state_of(chats, pair.ben, pair.chat)).unread == unread


async def test_states_lists_each_chat_once_newest_first(chats):
    """Page after page until the end is told; chats with the same newest id do not disappear between
    two pages.
    """
    me, others = random_id(), [random_id() for _ in range(7)]
    ids = [NOW, NOW + 3, NOW + 3, NOW + 3, NOW + 1, NOW + 9, NOW + 3]
    messages = [
        HistoryMessage(id_, direct_chat(me, other), other, "k", "hi", 0, id_)
        for id_, other in zip(ids, others, strict=True)
    ]
    await chats.put(messages)
    for limit in (1, 2, 3, 6, 7, 256):
        listed, after, pages = [], None, 0
        while pages == 0 or after is not None:
            states, after = await chats.states(me, after=after, limit=limit)
            listed, pages = [*listed, *states], pages + 1

        assert [(state.newest, state.chat) for state in listed] == sorted(
            ((m.id, m.chat) for m in messages), reverse=True
        )
        assert [state.newest_message.id for state in listed] == sorted(ids, reverse=True)
        assert pages == -(-7 // limit)


@pytest.mark.parametrize(
    "after",
    ["", "x", "5", "5.", ".d-1-2", "5.d-2-1", "99999999999999999999.d-1-2", "5.d-1-2\n", "٣.d-1-2"],
)
async def test_states_refuses_an_after_that_it_did_not_give(chats, after):
    """A client must return the text as it was."""
    with pytest.raises(Malformed) as error:
        await chats.states(random_id(), after=after, limit=10)

    assert error.value.field == "after"


async def test_unread_leaves_out_chats_that_the_user_does_not_have(chats, pair):
    """Of the chats asked for, those that are there."""
    await chats.put(pair.messages([NOW]))
    asked = [pair.chat, direct_chat(pair.ben, random_id())]

    assert [state.chat for state in await chats.unread(pair.ben, asked)] == [pair.chat]
    assert await chats.unread(random_id(), asked) == []
    assert await chats.unread(pair.ben, []) == []


async def test_pointers_say_how_far_states_have_come(chats, pair):
    """Of both people, marks that came before their message included; of whom nothing was written
    there is nothing.
    """
    other = Pair()
    await chats.put([pair.message(NOW + 2), pair.message(NOW + 1)])
    await chats.mark(
        [
            Watermark(pair.ben, pair.chat, NOW + 2, NOW + 1),
            Watermark(other.ben, other.chat, NOW + 1, 0),
        ]
    )
    people = [(user, one.chat) for one in (pair, other) for user in (one.anna, one.ben)]

    assert await chats.pointers([*people, (pair.anna, other.chat)]) == {
        (pair.anna, pair.chat): Pointers(NOW + 2, 0, 0),
        (pair.ben, pair.chat): Pointers(NOW + 2, NOW + 2, NOW + 1),
        (other.ben, other.chat): Pointers(0, NOW + 1, 0),
    }
    assert await chats.pointers([]) == {}
