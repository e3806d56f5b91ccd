"""Buckets: rows of one chat, or names of a user's chats, that lie in several of them, and how many
of a chat's messages are unread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from backends.chats.cassandra_session import CassandraSession, Rows
from backends.chats.rules import HOUR_MS
from schemas.frames import UNREAD_SHOWN
from schemas.ids import EPOCH_MS, LATEST, ChatId, UserId, direct_members, unix_ms_of

Row = Sequence[Any]

BUCKET_HOURS: Final = 10 * 24
BUCKET_MS: Final = BUCKET_HOURS * HOUR_MS
# Rows of a group that one request asks for beyond those that are wanted: some are one's own.
MAX_PASSED_OVER: Final = 25
# Rows of a bucket that one request asks for.
MAX_ASKED: Final = UNREAD_SHOWN + MAX_PASSED_OVER
# Messages of one bucket that one request names.
MAX_NAMED: Final = 100
# Buckets of one chat that are read side by side when the newest hold too few messages: 1, 2, 4, ...
# up to this.
MAX_CONCURRENT_BUCKETS: Final = 16


def bucket_of(message: int) -> int:
    """The 10 days, counted from the epoch of ids, that an id lies in."""
    return (unix_ms_of(message) - EPOCH_MS) // BUCKET_MS


def hours_of(bucket: int) -> range:
    """The hours that a bucket holds."""
    return range(bucket * BUCKET_HOURS, (bucket + 1) * BUCKET_HOURS)


@dataclass(slots=True)
class Search:
    """At most `most` rows of one statement over a chat's or user's buckets, taken in their order.

    `values` stand between bucket and limit. Rows that `keeps` says no to are passed over, and
    `beyond` says the values that go on behind a row.
    """

    statement: str
    whose: ChatId | UserId
    buckets: Sequence[int]
    values: tuple[Any, ...]
    most: int
    keeps: Callable[[Row], bool]
    beyond: Callable[[tuple[Any, ...], Row], tuple[Any, ...]]
    rows: Rows = field(default_factory=list)
    first: Row | None = None
    """The first row that came, kept or not."""
    passed_over: int = 0

    @property
    def left(self) -> int:
        """How many rows are still wanted."""
        return self.most - len(self.rows)

    @property
    def asked(self) -> int:
        """How many rows a bucket is asked for: as many as were passed over, where that is more than
        are wanted. So a thousand are passed over in ten requests, however few are wanted.
        """
        return max(self.left, min(self.passed_over, MAX_ASKED))

    def take(self, found: Sequence[Rows]) -> None:
        """Takes the rows of so many of its next buckets, of each as many as were asked for."""
        asked = self.asked
        for number, rows in enumerate(found):
            if rows and self.first is None:
                self.first = rows[0]
            kept = [row for row in rows if self.keeps(row)]
            self.passed_over += len(rows) - len(kept)
            self.rows += kept[: self.left]
            if len(rows) == asked and self.left:  # the bucket may hold more than those
                self.buckets, self.values = (
                    self.buckets[number:],
                    self.beyond(self.values, rows[-1]),
                )
                return
        self.buckets = self.buckets[len(found) :]


class Searches:
    """Over the buckets of chats, on one session."""

    def __init__(self, session: CassandraSession) -> None:
        self._session = session

    async def buckets(self, chat: ChatId) -> list[int]:
        """Those of the chat that hold messages, newest first. 37 a year."""
        [rows] = await self._session.read([("buckets", (chat,))])
        return [bucket for (bucket,) in rows]

    async def find(self, searches: Collection[Search]) -> None:
        """Runs all searches side by side, each on more and more buckets at once, until it has its
        rows or no bucket is left.
        """
        width = 1
        while going := [search for search in searches if search.left > 0 and search.buckets]:
            asked = [(search, bucket) for search in going for bucket in search.buckets[:width]]
            found = await self._session.read(
                [
                    (one.statement, (one.whose, bucket, *one.values, one.asked))
                    for one, bucket in asked
                ]
            )
            for search in going:
                mine = [rows for (one, _), rows in zip(asked, found, strict=True) if one is search]
                search.take(mine)
            width = min(2 * width, MAX_CONCURRENT_BUCKETS)

    async def unread(
        self,
        user: UserId,
        rows: Sequence[Sequence[Any]],
        *,
        most: int = UNREAD_SHOWN,
        nearest: bool = False,
    ) -> list[tuple[int, int]]:
        """For each state, how many of the other person's messages above its read pointer are not
        deleted, at most `most`, and the newest id of all of them; 0: there are none.

        `nearest`: only of those in the bucket of the newest message.
        """
        searches: dict[int, Search] = {}
        for number, (chat, newest, _, read, *_) in enumerate(rows):
            others = [member for member in direct_members(chat) or () if member != user]
            if others and newest > (read or 0):
                last = bucket_of(newest)
                searches[number] = Search(
                    "unread",
                    chat,
                    [last],
                    (read or 0, LATEST, *others),
                    most,
                    keeps=lambda row: not row[1] and user not in (row[2] or ()),
                    beyond=lambda values, row: (values[0], row[0], *values[2:]),
                )
        # Who has read lately has read in the same bucket; for the others we ask which there are.
        behind = [
            one
            for one in searches.values()
            if not nearest and bucket_of(one.values[0]) < one.buckets[0]
        ]
        found = await self._session.read([("buckets", (one.whose,)) for one in behind])
        for search, buckets in zip(behind, found, strict=True):
            search.buckets = [
                bucket for (bucket,) in buckets if bucket >= bucket_of(search.values[0])
            ]
        await self.find(searches.values())
        return [
            (len(counted.rows), 0 if counted.first is None else counted.first[0])
            if (counted := searches.get(number)) is not None
            else (0, 0)
            for number in range(len(rows))
        ]

    async def has_unread(self, user: UserId, rows: Sequence[Row]) -> list[bool]:
        """For each state whether anything is unread. Mostly the bucket of the newest message says
        so.
        """
        near = await self.unread(user, rows, most=1, nearest=True)
        found = [bool(count) for count, _ in near]
        rest = [
            number
            for number, (_, newest, _, read, *_) in enumerate(rows)
            if not found[number] and bucket_of(read or 0) < bucket_of(newest)
        ]
        counted = await self.unread(user, [rows[number] for number in rest], most=1)
        for number, (count, _) in zip(rest, counted, strict=True):
            found[number] = bool(count)
        return found

    async def mentions(self, user: UserId, states: Sequence[tuple[Row, int]]) -> dict[ChatId, int]:
        """How many messages above the id beside a state name its user, and are not deleted, at most
        UNREAD_SHOWN; only of states whose newest one lies above it. Others have none.
        """
        asked = [(row[0], above) for row, above in states if (row[5] or 0) > above]
        found = await self._session.read(
            [("mentions", (user, chat, above, UNREAD_SHOWN)) for chat, above in asked]
        )
        # Of each bucket at once: by their keys, so whatever else is unread costs nothing.
        named: dict[tuple[ChatId, int], list[int]] = {}
        for (chat, _), rows in zip(asked, found, strict=True):
            for (message,) in rows:
                named.setdefault((chat, bucket_of(message)), []).append(message)
        counts = Counter[ChatId]()
        shown = await self._session.read(
            [
                ("named", (*place, ids[start : start + MAX_NAMED]))
                for place, ids in named.items()
                for start in range(0, len(ids), MAX_NAMED)
            ]
        )
        places = [chat for (chat, _), ids in named.items() for _ in range(0, len(ids), MAX_NAMED)]
        for chat, rows in zip(places, shown, strict=True):
            counts[chat] += sum(
                not deleted and user not in (hidden or ()) for _, deleted, hidden in rows
            )
        return dict(counts)

    async def group_unread(
        self, user: UserId, chat: ChatId, *, above: int, newest: int, most: int = UNREAD_SHOWN
    ) -> tuple[int, int]:
        """How many of others' messages of a group above this one are not deleted, at most `most`,
        and the newest id of all of them; 0: there are none. Its events count for none.
        """
        if newest <= above:
            return 0, 0
        buckets = [bucket_of(newest)]
        if bucket_of(above) < buckets[0]:
            buckets = [one for one in await self.buckets(chat) if one >= bucket_of(above)]
        unread = upto = 0
        asked, below = most + MAX_PASSED_OVER, int(LATEST)
        while buckets and unread < most:
            [rows] = await self._session.read(
                [("group_unread", (chat, buckets[0], above, below, asked))]
            )
            for message, sender, event, deleted, hidden in rows:
                if sender not in {None, user} and not event:
                    upto = upto or message
                    unread += not deleted and user not in (hidden or ())
            if len(rows) < asked:
                buckets = buckets[1:]
            else:
                asked, below = min(2 * asked, MAX_ASKED), rows[-1][0]
        return min(unread, most), upto
