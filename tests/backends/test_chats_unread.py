"""The suite of the `Chats` port: which of a user's chats hold something unread."""

from __future__ import annotations

from dataclasses import replace

from backends.chats import Change, HistoryMessage, Watermark
from schemas.ids import direct_chat, random_id
from tests.backends.chat_pairs import BUCKET_MS, NOW

BUCKET = BUCKET_MS << 22


class Talk:
    """A chat of `me` with another user; in `message` the other one speaks, unless it is said."""

    def __init__(self, me, chat=None):
        self.me, self.other = me, random_id()
        self.chat = chat or direct_chat(me, self.other)

    def message(self, id_, *, sender=None, event="", mentions=()):
        text = "" if event else "hi"
        return HistoryMessage(
            id_,
            self.chat,
            sender or self.other,
            f"k{id_}",
            text,
            0,
            id_,
            event,
            mentions=mentions,
        )

    def change(self, op, id_, *, user=None):
        return Change(op, self.chat, id_, NOW + 5 * BUCKET, user or self.other)

    def mark(self, read):
        return Watermark(self.me, self.chat, received=0, read=read)


async def found(chats, user, *, direct=256, groups=()):
    return await chats.unread_chats(user, direct=direct, groups=dict(groups))


async def test_direct_chats_with_something_unread_are_found(chats):
    """Also where only messages of months ago are; not for what is own, read, or deleted."""
    me = random_id()
    new, old, read, own, gone, hidden, named, note = (Talk(me) for _ in range(8))
    note.chat = direct_chat(me, me)
    await chats.put(
        [
            new.message(NOW),
            old.message(NOW),
            old.message(NOW + 4 * BUCKET, sender=me),
            read.message(NOW + 1),
            own.message(NOW + 1, sender=me),
            *(gone.message(NOW + n * BUCKET) for n in range(2)),
            hidden.message(NOW),
            *(named.message(NOW + n, mentions=(me,)) for n in range(3)),
            note.message(NOW, sender=me),
        ]
    )
    await chats.mark([read.mark(NOW + 1), named.mark(NOW)])
    await chats.change(
        [
            *(gone.change("delete", NOW + n * BUCKET) for n in range(2)),
            hidden.change("hide", NOW, user=me),
        ]
    )

    assert await found(chats, me) == {new.chat: 0, old.chat: 0, named.chat: 2}
    assert await found(chats, new.other) == {}
    assert await found(chats, random_id()) == {}


async def test_only_the_newest_direct_chats_are_looked_at(chats):
    """By their newest messages, read or not."""
    me = random_id()
    talks = [Talk(me) for _ in range(5)]
    await chats.put([talk.message(NOW + number) for number, talk in enumerate(talks)])
    await chats.mark([talks[3].mark(NOW + 3)])

    assert await found(chats, me, direct=3) == {talks[4].chat: 0, talks[2].chat: 0}


async def test_of_groups_with_something_unread_too(chats):
    """Above the watermark and the id given; events and own messages count for none."""
    me = random_id()
    new, late, read, own, told, gone, empty = (Talk(me, f"g-{random_id()}") for _ in range(7))
    await chats.put(
        [
            new.message(NOW, mentions=(me,)),
            *(new.message(NOW + n, sender=me) for n in range(1, 40)),
            late.message(NOW),
            read.message(NOW),
            own.message(NOW, sender=me),
            told.message(NOW, event="{}"),
            gone.message(NOW),
        ]
    )
    await chats.mark([read.mark(NOW)])
    await chats.change([gone.change("delete", NOW)])
    groups = {one.chat: 0 for one in (new, read, own, told, gone, empty)} | {late.chat: NOW}

    assert await found(chats, me, groups=groups) == {new.chat: 1}
    assert await found(chats, me, groups={late.chat: NOW - 1}) == {late.chat: 0}
    assert await found(chats, me) == {}


async def test_both_kinds_are_told_together(chats):
    """As many as there are."""
    me = random_id()
    direct, group = Talk(me), Talk(me, f"g-{random_id()}")
    await chats.put([direct.message(NOW), group.message(NOW)])
    await chats.put([replace(group.message(NOW + 1), mentions=(me, group.other))])

    assert await found(chats, me, groups={group.chat: 0}) == {direct.chat: 0, group.chat: 1}
