"""Which chats of a user have the newest messages: what is written for that, and how they are found.

Of a user with few chats all are read. Of one with many, `chats_by_hour` names them by the hours in
which they had messages, newest hour first: the names of the newest hours are enough for a part of
the list, however many chats there are. Every chat is named in the hour of its newest message, so
those of an hour whose names were all read are all known.
"""

from __future__ import annotations

from typing import Any, Final

from backends.chats.cassandra_searches import Row, Search, Searches, bucket_of, hours_of
from backends.chats.cassandra_session import CassandraSession, Rows, Statement
from backends.chats.rules import hour_of, within
from backends.concurrency import BoundedDict
from schemas.ids import ChatId, MessageId, UserId, direct_members

# So many chats of a user are read to show the newest; of a user who has more, those of the newest
# hours.
MAX_QUICK_CHATS: Final = 1_000
# Rows that one request names, and names that are read first: enough for the longest part of a list
# where chats have a message an hour. Where that is not enough, twice as many, up to MAX_NAMES.
MAX_STATES: Final = 250
MAX_NAMES: Final = 4_000
# Users who have more than MAX_QUICK_CHATS, who need not be asked that again. About 100 bytes each.
MAX_KNOWN_USERS: Final = 10_000


def listings(chat: ChatId, message: MessageId) -> list[Statement]:
    """The writes that name a direct chat in its users' lists, in the hour of this message."""
    bucket, hour = bucket_of(message), hour_of(message)
    writes: list[Statement] = []
    for user in direct_members(chat) or ():
        writes.append(("list_chat", (user, bucket, hour, chat, message)))
        writes.append(("list_bucket", (user, bucket, message)))
    return writes


class Lists:
    """Over the chats of users, on one session."""

    def __init__(self, session: CassandraSession, searches: Searches) -> None:
        self._session = session
        self._searches = searches
        self._with_many = BoundedDict[UserId, None](MAX_KNOWN_USERS)

    async def rows(self, user: UserId, place: tuple[MessageId, ChatId], limit: int) -> Rows:
        """The user's rows of `states` below this place, newest first: all of them, or more than
        `limit`.

        One request for who has few chats. Else mostly three, one after another: his buckets, at
        most MAX_STATES names, their rows.
        """
        rows: Rows = []
        if user not in self._with_many:
            [rows] = await self._session.read([("states", (within(user), MAX_QUICK_CHATS + 1))])
            if len(rows) > MAX_QUICK_CHATS:
                self._with_many[user] = None
        if user in self._with_many:
            rows = await self._newest_rows(user, place, limit)
        return sorted(
            (row for row in rows if _lies_below(place, row)),
            key=lambda row: (row[1], row[0]),
            reverse=True,
        )

    async def _newest_rows(self, user: UserId, place: tuple[MessageId, ChatId], limit: int) -> Rows:
        [listed] = await self._session.read([("user_buckets", (user,))])
        buckets = [bucket for (bucket,) in listed]
        # What lies below the place has its newest message in its hour, or before.
        start, most = (hour_of(place[0]) + 1, ""), MAX_STATES
        found: dict[ChatId, tuple[Any, ...]] = {}
        while True:
            search = Search(
                "listed",
                user,
                [bucket for bucket in buckets if start[0] >= hours_of(bucket).start],
                start,
                most,
                keeps=lambda _: True,
                beyond=lambda _, row: (row[0], row[1]),
            )
            await self._searches.find([search])
            fresh = sorted({chat for _, chat in search.rows} - found.keys())
            for rows in await self._session.read(
                [
                    ("some_states", (user, fresh[first : first + MAX_STATES]))
                    for first in range(0, len(fresh), MAX_STATES)
                ]
            ):
                found |= {row[0]: row for row in rows}
            if search.left:
                return [*found.values()]
            # Of the last hour there may be more: those of its chats come with the next names.
            start = search.rows[-1][0], search.rows[-1][1]
            known = [row for row in found.values() if row[1] and hour_of(row[1]) > start[0]]
            if sum(_lies_below(place, row) for row in known) > limit:
                return known
            most = min(2 * most, MAX_NAMES)


def _lies_below(place: tuple[MessageId, ChatId], row: Row) -> bool:
    return bool(row[1]) and (row[1], row[0]) < place
