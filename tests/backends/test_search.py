"""The suite of the `Search` port: every adapter passes it whole."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import replace

import pytest

from backends.search import Entry, Wanted
from backends.search.sql import SqlSearch
from schemas.folding import folded
from schemas.ids import direct_chat, random_id
from tests.backends.conftest import DATABASES
from tests.support.until import until


@pytest.fixture(params=[*DATABASES, "opensearch"])
async def search(request, open_database):
    """The adapter under test, on an index of the test's own."""
    if request.param == "opensearch":
        search = request.getfixturevalue("indexes").open()
        yield search
        await search.close()
    else:
        # Tests share their machine; that searches end in time is shown elsewhere.
        database = open_database(request.param, search_timeout_s=5)
        yield SqlSearch(database)
        await database.close()


class Told:
    """Users and messages of one test."""

    def __init__(self, search):
        self.search = search
        self.me, self.friend, self.other = random_id(), random_id(), random_id()
        self.chat = direct_chat(self.me, self.friend)
        self.theirs = direct_chat(self.friend, self.other)
        self.group = f"g-{random_id()}"
        self._ids = itertools.count(1_000_000 * (1 + secrets.randbelow(1 << 30)))

    def id(self):
        return next(self._ids)

    def entry(self, text, *, chat=None, sender=None, **fields):
        message = fields.pop("message", None) or self.id()
        fields = {"version": message, "sender": sender or self.friend, **fields}
        return Entry(chat=chat or self.chat, message=message, text=text, **fields)

    async def add(self, *texts, **fields):
        """Writes a message for each text; their ids."""
        entries = [self.entry(text, **fields) for text in texts]
        await self.search.write(entries)
        return [entry.message for entry in entries]

    def wanted(self, *terms, **fields):
        return Wanted(
            **{"user": self.me, "directs": True, "terms": tuple(map(folded, terms)), **fields}
        )

    async def ids(self, *terms, **fields):
        found = await self.search.find(self.wanted(*terms, **fields))
        return [message for _, message in found.places]

    async def expect(self, ids, *terms, **fields):
        """What is written may be found a little later."""
        await until(lambda: self._is(ids, *terms, **fields), within_s=5)

    async def _is(self, ids, *terms, **fields):
        return await self.ids(*terms, **fields) == ids


@pytest.fixture
def told(search):
    return Told(search)


async def test_parts_of_words_are_found_in_every_language(told):
    """Two characters or more, any case, composed in any way, with or without spaces."""
    texts = [
        "Meet me at the Harbour",
        "Wir treffen uns in der STRASSE",
        "caf\u00e9 au lait",
        "明天在北京见面吧",
        "ありがとうございます",
        "Привет, как дела?",
        "c++ and a->b, 100% of \"it\" (or 'that') \\ * ^ - : x",
    ]
    ids = await told.add(*texts)
    await told.expect(ids[:1], "harb")

    for term, at in [
        ("ARBOU", 0),
        ("me at", 0),
        ("stra\u00dfe", 1),
        ("cafe\u0301", 2),
        ("北京", 3),
        ("在北京见", 3),
        ("がとう", 4),
        ("ПРИВЕТ", 5),
        ("c++", 6),
        ("->", 6),
        ("100%", 6),
        ('"it"', 6),
        ("(or 'that')", 6),
        ("\\ *", 6),
    ]:
        assert await told.ids(term) == [ids[at]], term
    for term in ("harbor", "met", "京北", "treffen in", "%%", "cafe!"):
        assert await told.ids(term) == [], term


async def test_all_terms_must_be_there_and_phrases_stand_together(told):
    """One character counts where there is more to look for."""
    both, apart = await told.add("red wine and cheese", "wine, red")
    await told.expect([apart, both], "red", "wine")

    assert await told.ids("red wine") == [both]
    assert await told.ids("wine", "cheese") == [both]
    assert await told.ids("wine", "&") == []
    assert await told.ids("wine", ",") == [apart]


async def test_a_question_of_many_words_is_as_exact(told):
    """More stretches than an index is asked for."""
    words = [f"word{number}" for number in range(40)]
    (whole,) = await told.add(" ".join(words))
    await told.add(" ".join(words[:-1]))
    await told.expect([whole], *words)

    assert await told.ids(" ".join(words)) == [whole]


async def test_only_chats_of_the_user_are_searched(told):
    """Others' direct chats, and groups that are not given, are not there."""
    (mine,) = await told.add("secret plan")
    (grouped,) = await told.add("secret plan", chat=told.group)
    await told.add("secret plan", chat=told.theirs)
    await told.expect([grouped, mine], "secret", groups={told.group: 0})

    assert await told.ids("secret") == [mine]
    assert await told.ids("secret", directs=False, groups={told.group: 0}) == [grouped]
    assert await told.ids("secret", directs=False) == []
    assert await told.ids("secret", user=random_id()) == []


async def test_a_group_is_seen_from_where_its_member_may(told):
    """What lies before is not found, however much of it there is."""
    before = await told.add(*["old news"] * 30, chat=told.group)
    after = await told.add(*["old news"] * 3, chat=told.group)
    (mine,) = await told.add("old news")
    everything = {told.group: 0}
    await told.expect([mine, *reversed(after)], "news", groups=everything, limit=4)

    seen = {"groups": {told.group: after[0]}, "limit": 5}
    found = await told.search.find(told.wanted("news", **seen))
    assert [message for _, message in found.places] == [mine, *reversed(after)]
    assert not found.more
    assert await told.ids("news", groups=everything, limit=34) == [
        mine,
        *reversed(after),
        *reversed(before),
    ]


async def test_a_user_in_many_groups_searches_them_all(told):
    """And no other ones."""
    chats = [f"g-{random_id()}" for _ in range(70)]
    entries = [told.entry("to all", chat=chat) for chat in chats]
    await told.search.write(entries)
    ids = [entry.message for entry in reversed(entries)]
    await told.expect(ids, "to all", groups=dict.fromkeys(chats, 0), limit=70)

    mine = dict.fromkeys(chats[::2], 0)
    assert await told.ids("to all", groups=mine, limit=70) == ids[1::2]


async def test_one_chat_can_be_searched(told):
    """A direct chat, a group, and what one has written to oneself."""
    notes = direct_chat(told.me, told.me)
    third = direct_chat(told.me, told.other)
    ids = {
        chat: (await told.add("where is it", chat=chat))[0]
        for chat in (told.chat, third, notes, told.group)
    }
    groups = {told.group: 0}
    await told.expect(list(reversed(ids.values())), "where", groups=groups)

    for chat in (told.chat, third, notes):
        assert await told.ids("where", chat=chat) == [ids[chat]]
        assert await told.ids(chat=chat) == [ids[chat]]
    assert await told.ids("where", directs=False, groups=groups) == [ids[told.group]]


async def test_filters_narrow_the_search(told):
    """By sender, with a file, before and after; without a word too."""
    first, second, third = await told.add("a picture", "no picture", "picture")
    (fourth,) = await told.add("my picture", sender=told.me)
    (fifth,) = await told.add("", has_file=True)
    (sixth,) = await told.add("picture of", has_file=True, sender=told.me)
    await told.expect([sixth, fourth, third, second, first], "picture")

    assert await told.ids("picture", sender=told.me) == [sixth, fourth]
    assert await told.ids(sender=told.me) == [sixth, fourth]
    assert await told.ids(has_file=True) == [sixth, fifth]
    assert await told.ids("picture", has_file=True) == [sixth]
    assert await told.ids(sender=told.friend, has_file=True) == [fifth]
    assert await told.ids("picture", before=third) == [second, first]
    assert await told.ids("picture", after=second, before=sixth) == [fourth, third]
    assert await told.ids() == [sixth, fifth, fourth, third, second, first]


async def test_the_newest_come_first_and_more_is_told(told):
    """`before` the last one goes on."""
    ids = await told.add(*["again and again"] * 7)
    await told.expect(list(reversed(ids)), "again")
    found = await told.search.find(told.wanted("again", limit=3))
    rest = await told.search.find(told.wanted("again", limit=4, before=found.places[-1][1]))

    assert [message for _, message in found.places] == list(reversed(ids[4:]))
    assert found.more
    assert [message for _, message in rest.places] == list(reversed(ids[:4]))
    assert not rest.more


async def test_messages_of_many_months_are_found_in_order(told):
    """From any place on, whatever lies between, in direct chats and groups."""
    first = told.id()
    ids = [first + number * (1 << 49) for number in range(12)]
    entries = [
        told.entry("old times", message=message, chat=[told.chat, told.group][number % 3 == 0])
        for number, message in enumerate(ids)
    ]
    await told.search.write(entries)
    groups = {told.group: 0}
    newest = list(reversed(ids))
    await told.expect(newest, "times", groups=groups)

    for start in range(12):
        for limit in (1, 3, 12):
            found = await told.search.find(
                told.wanted("times", groups=groups, before=newest[start], limit=limit)
            )
            rest = newest[start + 1 :]
            assert [message for _, message in found.places] == rest[:limit]
            assert found.more == (len(rest) > limit)
        assert await told.ids("times", groups=groups, after=newest[start]) == newest[:start]
    assert await told.ids("times", after=ids[1], before=ids[10]) == [
        message for message in newest[2:10] if message not in ids[::3]
    ]
    assert await told.ids("times", chat=told.chat, before=ids[2]) == [ids[1]]


async def test_the_newest_text_counts_whatever_comes_first(told):
    """An edit may come before its message, and be repeated."""
    message, edit = told.id(), told.id()
    sent = told.entry("the old text", message=message)
    edited = told.entry("the new text", message=message, version=edit)
    await told.search.write([edited])
    await told.search.write([sent, edited])
    await told.search.write([sent])
    await told.expect([message], "new text")

    assert await told.ids("old") == []


async def test_a_file_stays_when_the_text_changes(told):
    """In whatever order they come."""
    for order in itertools.permutations(range(2)):
        message, edit = told.id(), told.id()
        tells = [
            told.entry("a draft", message=message, has_file=True),
            told.entry("a caption", message=message, version=edit),
        ]
        for at in order:
            await told.search.write([tells[at]])
        await told.expect([message], "caption", has_file=True, after=message - 1)


async def test_a_message_without_a_word_is_found_by_other_things(told):
    """By its sender, chat and file, though its text is nothing but a space, in any order."""
    message, edit = told.id(), told.id()
    blank = told.entry(" ", message=message, version=edit)
    await told.search.write([blank])
    await told.expect([message])
    await told.search.write([told.entry("a caption", message=message, has_file=True)])
    await told.expect([message], has_file=True, sender=told.friend)

    assert await told.ids("caption") == []


async def test_what_is_deleted_is_gone_for_good(told):
    """Whatever comes later, or came before."""
    messages = [told.id() for _ in range(3)]
    entries = [told.entry("burn after reading", message=message) for message in messages]
    ends = [Entry(chat=told.chat, message=message, deleted=True, version=0) for message in messages]
    (kept,) = await told.add("burn nothing")
    await told.search.write([entries[0], ends[0]])
    await told.search.write([ends[1]])
    await told.search.write([entries[1]])
    await told.search.write([entries[2]])
    await told.expect([kept, messages[2]], "burn")
    await told.search.write([ends[2]])
    await told.expect([kept], "burn")
    await told.search.write([replace(entry, version=told.id()) for entry in entries])
    (last,) = await told.add("burn the last")
    await told.expect([last, kept], "burn")


async def test_what_a_user_has_deleted_for_themselves_they_find_no_more(told):
    """Others do; it may come before the message."""
    message = told.id()
    hidden = Entry(chat=told.chat, message=message, hidden=frozenset({told.me}))
    await told.search.write([hidden])
    await told.search.write([told.entry("just for you", message=message)])
    await told.expect([message], "just for", user=told.friend)

    assert await told.ids("just for") == []
    await told.search.write([replace(hidden, hidden=frozenset({told.friend}))])
    await told.expect([], "just for", user=told.friend)
    assert await told.ids("just for") == []


async def test_what_no_store_can_hold_is_left_out(told):
    """Ids beyond all ids; the rest of the call is written."""
    (there,) = await told.add("possible")
    await told.search.write([told.entry("impossible", message=(1 << 63) - 1)])
    await told.search.write([])
    await told.expect([there], "possible")


async def test_strange_texts_are_found_as_they_are(told):
    """U+0000, control characters, private use, long words, thirty thousand characters."""
    long = "".join(chr(0x4E00 + number % 20_000) for number in range(30_000))
    ids = await told.add("a\0nul", "\ue100user1", "x" * 3_000, "be\x07l\x7fs", long)
    await told.expect([ids[4]], long[4_000:4_010])

    assert await told.ids("nul") == [ids[0]]
    assert await told.ids("\ue100us") == [ids[1]]
    assert await told.ids("x" * 2_999) == [ids[2]]
    for term in ("e\x07l", "\x07l\x7f", "L\x7fS"):
        assert await told.ids(term) == [ids[3]]


async def test_ping_answers(search):
    """A store that is there."""
    await search.ping()
