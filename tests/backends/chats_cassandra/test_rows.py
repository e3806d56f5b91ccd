"""Timestamps and buckets: what the suite of `Chats` cannot ask of every adapter."""

# ruff: noqa: S608 - the names in these statements are ours

from __future__ import annotations

from dataclasses import replace

import pytest

from backends.chats import HistoryMessage, Watermark, cassandra, cassandra_lists, cassandra_schema
from backends.chats.cassandra import CassandraChats
from backends.chats.cassandra_searches import bucket_of
from backends.chats.rules import HOUR_MS, hour_of
from schemas.errors import Unavailable
from schemas.ids import EPOCH_MS, LATEST, direct_chat, first_id_at, random_id
from tests.backends.chat_pairs import BUCKET_MS, NOW, Pair, ids_of, newest
from tests.backends.chats_cassandra.answered import until_answered
from tests.support.clock import Clock


async def test_a_bucket_is_listed_again_after_cassandra_was_restored(keyspaces, pair):
    """What a process has written lies in no copy from before: what it puts later, and what the
    audit puts again, must be found.
    """
    name, clock = keyspaces.make(), Clock()
    chats = CassandraChats(keyspaces.nodes(name), clock=clock)
    try:
        await chats.put([pair.message(NOW)])
        keyspaces.run(
            *(f"TRUNCATE {name}.{table}" for table in ("messages", "chat_buckets", "chat_states"))
        )
        clock.now_s += cassandra.KNOWN_HOURS_TTL_S / 2
        await chats.put([pair.message(NOW + 1)])
        clock.now_s += cassandra.KNOWN_HOURS_TTL_S / 2
        await chats.put([pair.message(NOW)])

        assert ids_of(await newest(chats, pair.chat)) == [NOW + 1, NOW]
    finally:
        await chats.close()


async def test_a_list_of_chats_reads_only_so_much(connect, monkeypatch):
    """Where many chats have much that is unread it ends early and goes on; every count is right."""
    monkeypatch.setattr(cassandra, "MAX_QUICK_UNREAD", 10)
    monkeypatch.setattr(cassandra, "MAX_FULL_COUNTS", 2)
    chats, me, sizes = connect(), random_id(), [3, 20, 9, 10, 0, 30, 11, 15, 1]
    for place, size in enumerate(sizes):
        first = NOW - 1_000 * place
        chat, other = direct_chat(me, user := random_id()), user
        said = [
            HistoryMessage(first + n, chat, other, f"k{n}", "hi", 0, first + n) for n in range(size)
        ]
        await chats.put(said or [HistoryMessage(first, chat, me, "k", "hi", 0, first)])
    counts, after, pages = [], None, 0
    while pages == 0 or after is not None:
        states, after = await chats.states(me, after=after, limit=50)
        counts, pages = [*counts, *(state.unread for state in states)], pages + 1

    assert (counts, pages) == (sizes, 3)


async def test_every_write_carries_its_own_id_as_its_timestamp(connect, keyspaces, pair):
    """No clock decides what is newer, so a replay after years changes nothing."""
    chats = connect()
    await chats.put(pair.messages([NOW, NOW + 1]))
    await chats.change([pair.edit(NOW, NOW + 7)])
    await chats.mark(
        [Watermark(pair.ben, pair.chat, NOW + 1, NOW), Watermark(pair.anna, pair.chat, 0, NOW + 1)]
    )

    columns = (
        "WRITETIME(sender), WRITETIME(key), WRITETIME(text), WRITETIME(reply_to), "
        "WRITETIME(version)"
    )
    of_chat = (
        f"{keyspaces.shared}.messages WHERE chat = '{pair.chat}' AND bucket = {bucket_of(NOW)}"
    )
    assert keyspaces.run(f"SELECT {columns} FROM {of_chat}") == [
        (NOW + 1,) * 5,
        (NOW, NOW, NOW + 7, NOW, NOW + 7),
    ]
    pointers = ", ".join(
        f"{name}, WRITETIME({name})" for name in ("newest", "received", "read", "sent")
    )
    for user, values in (
        (pair.ben, (NOW + 1, NOW + 1, NOW, None)),
        (pair.anna, (NOW + 1, NOW + 1, NOW + 1, NOW + 1)),
    ):
        [row] = keyspaces.run(
            f"SELECT {pointers} FROM {keyspaces.shared}.chat_states WHERE user = {user}"
        )
        assert row == tuple(value for value in values for _ in range(2))


async def test_only_chats_that_name_the_user_are_asked_for_mentions(connect, pair):
    """As long as that is unread; of what is unread only the messages that do so are read."""
    chats = connect()
    asked = []
    read = chats._session.read  # what goes to Cassandra shows nowhere else
    chats._session.read = lambda statements: asked.extend(statements) or read(statements)

    async def questions():
        asked.clear()
        await chats.states(pair.ben, after=None, limit=9)
        return [name for name, _ in asked if name in {"mentions", "named"}]

    await chats.put(pair.messages(range(NOW, NOW + 50)))
    before = await questions()
    named = replace(pair.message(NOW + 50), mentions=(pair.ben,))
    await chats.put([named, *pair.messages(range(NOW + 51, NOW + 99))])
    after = await questions()
    assert [values[2] for name, values in asked if name == "named"] == [[NOW + 50]]
    await chats.mark([Watermark(pair.ben, pair.chat, received=0, read=NOW + 50)])

    assert (before, after, await questions()) == ([], ["mentions", "named"], [])


async def test_few_requests_pass_over_many_messages(connect, pair):
    """To see whether anything is unread below hundreds that were deleted, or that are one's own."""
    chats, group = connect(), f"g-{random_id()}"
    ids = range(NOW, NOW + 300)
    own = [replace(pair.message(id_, sender=pair.ben), chat=group) for id_ in ids[1:]]
    await chats.put([*pair.messages(ids), replace(pair.message(NOW), chat=group), *own])
    await chats.change([pair.change("delete", id_, id_ + 1_000) for id_ in ids[1:]])
    asked = []
    read = chats._session.read  # what goes to Cassandra shows nowhere else
    chats._session.read = lambda statements: asked.extend(statements) or read(statements)
    found = await chats.unread_chats(pair.ben, direct=9, groups={group: 0})

    assert found == {pair.chat: 0, group: 0}
    assert sum(name in {"unread", "group_unread"} for name, _ in asked) < 20


async def test_years_of_silence_cost_nothing(connect, pair):
    """Only buckets that hold messages are read."""
    ids = [NOW, first_id_at(EPOCH_MS + BUCKET_MS), first_id_at(EPOCH_MS + 900 * BUCKET_MS), NOW + 1]
    chats = connect()
    await chats.put(pair.messages(ids))
    asked = []
    read = chats._session.read  # what goes to Cassandra shows nowhere else
    chats._session.read = lambda statements: asked.append(len(statements)) or read(statements)

    assert ids_of(await newest(chats, pair.chat)) == sorted(ids, reverse=True)
    assert asked == [1, 1, 2]


async def test_buckets_are_ten_days_from_the_epoch_of_ids():
    """Always: rows that are there would not be found by another rule."""
    first = 7 * BUCKET_MS << 22

    assert [bucket_of(id_) for id_ in (1, first - 1, first, LATEST)] == [0, 6, 7, 2545]


async def test_an_hour_is_known_only_when_it_has_been_written(chats, proxy, pair):
    """A put that failed half way is done again as a whole."""
    await chats.ping()
    proxy.hold()
    with pytest.raises(Unavailable):
        await chats.put([pair.message(NOW)])
    assert not chats._known  # nothing else shows what is remembered
    proxy.release()
    await until_answered(lambda: chats.put([pair.message(NOW)]))

    assert ids_of(await newest(chats, pair.chat)) == [NOW]
    assert list(chats._known) == [(pair.chat, hour_of(NOW))]


async def test_the_memory_of_known_hours_is_bounded(connect, monkeypatch):
    """What is forgotten is written again."""
    monkeypatch.setattr(cassandra, "MAX_KNOWN_HOURS", 2)
    chats, pairs = connect(), [Pair() for _ in range(5)]
    for _ in range(2):
        await chats.put([pair.message(NOW) for pair in pairs])
        await chats.put([pair.message(NOW + 1) for pair in pairs])

    assert len(chats._known) == 2
    assert [ids_of(await newest(chats, pair.chat)) for pair in pairs] == [[NOW + 1, NOW]] * 5


async def test_the_longest_batch_of_the_longest_texts_is_stored(connect, pair):
    """256 messages of 32 KiB: requests are cut to what Cassandra likes."""
    text = "é" * 16_384
    chats = connect()
    await chats.put(pair.messages(range(NOW, NOW + 256), text=text))
    page = await newest(chats, pair.chat)

    assert [len(message.text) for message in page.messages] == [16_384] * 256


@pytest.fixture
async def many(connect, monkeypatch):
    """A user with more chats than are read at once: some lively ones, some silent for months, some
    in one hour. The store, the user, and the chats, newest first.
    """
    monkeypatch.setattr(cassandra_lists, "MAX_QUICK_CHATS", 4)
    monkeypatch.setattr(cassandra_lists, "MAX_STATES", 3)
    monkeypatch.setattr(cassandra_lists, "MAX_NAMES", 6)
    chats, me, newest_of = connect(), random_id(), {}
    for number in range(18):
        chat = direct_chat(me, other := random_id())
        days = [0, number // 3, number // 5 * 7]  # its buckets
        said = [NOW + (day * BUCKET_MS << 22) + number for day in sorted(set(days))]
        said += [said[-1] + (hour * HOUR_MS << 22) for hour in range(1, number % 4)]
        await chats.put([HistoryMessage(at, chat, other, "k", "hi", 0, at) for at in said])
        newest_of[chat] = said[-1]
    return chats, me, sorted(newest_of, key=lambda chat: newest_of[chat], reverse=True)


@pytest.mark.parametrize("limit", [1, 3, 5, 18, 50])
async def test_of_many_chats_the_newest_are_found(many, limit):
    """In parts of any size, each chat once, in one order."""
    chats, me, expected = many
    found, after = [], None
    while True:
        states, after = await chats.states(me, after=after, limit=limit)
        found += [state.chat for state in states]
        if after is None:
            break

    assert found == expected


async def test_of_many_chats_few_are_read_for_the_newest(connect):
    """However many there are: the buckets, some names, their rows, one after another; the first
    time all rows up to the number that says that there are many.
    """
    chats, me = connect(), random_id()
    others = [random_id() for _ in range(3_000)]
    for start in range(0, len(others), 256):
        await chats.put(
            [
                HistoryMessage(at, direct_chat(me, other), other, "k", "hi", 0, at)
                for number, other in enumerate(others[start : start + 256], start)
                for at in [NOW + (number * 60_000 << 22)]  # 60 an hour
            ]
        )
    asked = []
    read = chats._session.read  # what goes to Cassandra shows nowhere else
    chats._session.read = lambda statements: asked.append(statements) or read(statements)

    async def reads():
        asked.clear()
        states, _ = await chats.states(me, after=None, limit=50)
        assert [state.chat for state in states] == [
            direct_chat(me, other) for other in reversed(others[-50:])
        ]
        return [(statements[0][0], len(statements)) for statements in asked if statements]

    to_find = [("user_buckets", 1), ("listed", 1), ("some_states", 1)]
    first = await reads()
    again = await reads()
    assert first[:4] == [("states", 1), *to_find]
    assert again[:3] == to_find
    [named] = [values[1] for [(name, values), *_] in filter(None, asked) if name == "some_states"]
    assert 51 <= len(named) <= 250
    # Of each chat that is shown: its newest message, where its messages lie, and what is unread.
    assert sorted(again[3:]) == [("buckets", 50), ("message", 50), ("unread", 50)]


async def test_chats_of_before_are_listed_by_the_migration(connect, keyspaces, monkeypatch):
    """With the newest message that each had then."""
    with monkeypatch.context() as before:
        before.setattr(cassandra_schema, "STEPS", cassandra_schema.STEPS[:3])
        name = keyspaces.make()
    me, said = random_id(), {}
    for number in range(6):
        chat, at = direct_chat(me, random_id()), NOW + (number * BUCKET_MS << 22)
        keyspaces.run(
            f"INSERT INTO {name}.chat_states (user, chat, newest) VALUES ({me}, '{chat}', {at}) "
            f"USING TIMESTAMP {at}"
        )
        said[at] = chat
    monkeypatch.setattr(cassandra_lists, "MAX_QUICK_CHATS", 2)
    chats = connect(name)
    await chats.migrate()
    states, _ = await until_answered(lambda: chats.states(me, after=None, limit=9))

    assert [state.chat for state in states] == [said[at] for at in sorted(said, reverse=True)]
