"""The `Chats` port on Cassandra. Only `wiring` and the port's suite name it.

Messages lie in partitions of one chat and 10 days, newest first; `chat_buckets` tells which of them
there are, so that years of silence cost nothing. Every write carries its id, version or pointer as
its timestamp: the newest wins in whatever order writes come, however often, and none uses a clock.
Which rows go into one table, and why, stands in `cassandra_schema.py`. Source: design.md D5 and
section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from backends.chats import (
    NO_READER,
    Change,
    ChatState,
    Digest,
    Direction,
    HistoryMessage,
    Page,
    Pin,
    Pointers,
    Stretch,
    Watermark,
    after_of,
    around,
    page_of,
    place_of,
)
from backends.chats.cassandra_lists import Lists, listings
from backends.chats.cassandra_nodes import Nodes
from backends.chats.cassandra_rows import (
    HIDDEN,
    SENDER,
    STATEMENTS,
    messages_of,
    moves,
    sent_rows,
    state_of,
)
from backends.chats.cassandra_schema import check, migrate
from backends.chats.cassandra_searches import Row, Search, Searches, bucket_of
from backends.chats.cassandra_session import CassandraSession, Statement
from backends.chats.rules import (
    MAX_DIGEST,
    answer_rows,
    change_rows,
    digest_of,
    heads_of,
    hour_of,
    mark_rows,
    mention_rows,
    put_rows,
    within,
)
from backends.clock import Clock, Reading, elapsed_s
from backends.concurrency import BoundedDict
from schemas.errors import Malformed
from schemas.ids import LATEST, ChatId, MessageId, UserId

# Hours of chats that this process has listed lately, with their buckets, so it need not again: of
# most messages five rows less. About 200 bytes each.
MAX_KNOWN_HOURS: Final = 32_768
# And for so long: where Cassandra is restored from a copy meanwhile, messages lie in buckets that
# are not listed. Less than the 20 min after which the audit puts again what a copy lacked, and so
# lists them.
KNOWN_HOURS_TTL_S: Final = 600.0
# Unread messages are looked for up to MAX_QUICK_UNREAD in each chat of a list, and to the end in
# MAX_FULL_COUNTS of those that have more: where the next such chat comes, the list ends and goes on
# with the next call. 256 chats with 999 unread each were 250,000 rows in one answer.
MAX_QUICK_UNREAD: Final = 100
MAX_FULL_COUNTS: Final = 16
# Partitions that one request reads. A user is in 1,000 groups at most.
MAX_HEADS: Final = 100
# Below all tokens.
FIRST_TOKEN = -(1 << 63)
# Rows of a stretch in one answer, newest first: below what the driver takes for one page.
MAX_ROWS: Final = 1_000


class CassandraChats:
    """Chats in one keyspace. Connects at the first call."""

    def __init__(self, nodes: Nodes, *, clock: Callable[[], float] = elapsed_s) -> None:
        self._nodes = nodes
        statements = {
            name: text.format(keyspace=nodes.keyspace) for name, text in STATEMENTS.items()
        }
        self._session = CassandraSession(
            nodes, statements, check=lambda session: check(session, nodes.keyspace)
        )
        self._searches = Searches(self._session)
        self._lists = Lists(self._session, self._searches)
        self._clock = clock
        self._known = BoundedDict[tuple[ChatId, int], float](MAX_KNOWN_HOURS)
        """Chat and hour -> since when; the oldest first."""

    async def put(self, messages: Sequence[HistoryMessage]) -> None:
        """A row per message, one per chat and person, and five for each hour of a chat not listed
        lately; all side by side.
        """
        sent, states = put_rows(messages)
        now_s = self._clock()
        writes: list[Statement] = []
        hours: dict[tuple[ChatId, int], MessageId] = {}
        # Neighbours share partitions and requests.
        for (chat, message), row in sorted(sent.items()):
            bucket = bucket_of(message)
            values = (
                message,
                chat,
                row.sender,
                row.key,
                row.text,
                row.reply_to,
                row.version,
                bucket,
            )
            if row.event:
                writes.append(("put_event", (*values, row.event, row.version)))
            elif row.file:
                writes.append(("put_file", (*values, [*row.mentions], row.file, row.version)))
            elif row.mentions:
                writes.append(("put_mentions", (*values, [*row.mentions], row.version)))
            else:
                writes.append(("put", (*values, row.version)))
            hour = hour_of(message)
            if now_s - self._known.get((chat, hour), float("-inf")) >= KNOWN_HOURS_TTL_S:
                hours[chat, hour] = message
        writes += [
            ("put_bucket", (chat, bucket_of(message), message))
            for (chat, _), message in hours.items()
        ]
        for (chat, _), message in hours.items():
            writes += listings(chat, message)
        writes += [("head", (message, message, chat)) for chat, message in heads_of(sent).items()]
        for user, chat, message in mention_rows(sent):
            writes.append(("mention", (user, chat, message, message)))
            writes.append(("mentioned", (message, message, user, chat)))
        await self._session.write(writes + moves(states))
        self._remember(hours, now_s)

    def _remember(self, hours: Iterable[tuple[ChatId, int]], now_s: float) -> None:
        for place in hours:
            self._known[place] = now_s
            self._known.move_to_end(place)

    async def mark(self, watermarks: Sequence[Watermark]) -> None:
        """A write per pointer, since each has its own timestamp."""
        await self._session.write(moves(mark_rows(watermarks)))

    async def change(self, changes: Sequence[Change]) -> None:
        """A row for each message that is changed; all side by side."""
        writes: list[Statement] = []
        for (chat, message), row in sorted(change_rows(changes).items(), key=lambda item: item[0]):
            place = (chat, bucket_of(message), message)
            if row.edited:
                writes.append(("edit", (row.edited, row.text, row.edited, row.edited, *place)))
            if row.deleted:
                writes.append(("delete", (row.deleted, row.deleted, row.deleted, *place)))
                writes.append(("erase", (LATEST, *place)))
            for (user, emoji), (version, gone) in sorted(row.reactions.items()):
                cell = (version, f"{user} {emoji}", None if gone else version)
                writes.append(("react", (*cell, version, *place)))
            for user, version in sorted(row.hidden.items()):
                writes.append(("hide", (version, {user}, *place)))
            if row.pin is not None:
                version, gone, user = row.pin
                writes.append(
                    ("unpin", (version, chat, message))
                    if gone
                    else ("pin", (chat, message, user, version, version))
                )
        await self._session.write(writes + moves(answer_rows(changes)))

    async def find(
        self, places: Collection[tuple[ChatId, MessageId]]
    ) -> Mapping[tuple[ChatId, MessageId], HistoryMessage]:
        """A row each, side by side."""
        found = await self._session.read(
            [
                ("message", (chat, bucket_of(within(message)), within(message)))
                for chat, message in places
            ]
        )
        return {
            (message.chat, message.id): message
            for rows in found
            for message in messages_of(sent_rows(rows))
        }

    async def pins(self, chat: ChatId) -> Sequence[Pin]:
        """One partition."""
        [rows] = await self._session.read([("pins", (chat,))])
        return sorted((Pin(*row) for row in rows), key=lambda pin: pin.version, reverse=True)

    async def page(
        self,
        chat: ChatId,
        *,
        direction: Direction,
        anchor: MessageId,
        limit: int,
        reader: UserId = NO_READER,
    ) -> Page:
        """The chat's buckets, then those on both sides of the anchor until there is enough: for a
        lively chat two requests in a row.
        """
        pivot, below_most, above_most = around(direction, anchor, limit)
        buckets = await self._searches.buckets(chat)
        here = bucket_of(pivot)

        def shown(row: Row) -> bool:
            return row[SENDER] is not None and reader not in (row[HIDDEN] or ())

        below = Search(
            "below",
            chat,
            [bucket for bucket in buckets if bucket <= here],
            (pivot,),
            below_most,
            keeps=shown,
            beyond=lambda _, row: (row[0],),
        )
        above = Search(
            "from",
            chat,
            [bucket for bucket in reversed(buckets) if bucket >= here],
            (pivot,),
            above_most,
            keeps=shown,
            beyond=lambda _, row: (row[0] + 1,),
        )
        await self._searches.find([below, above])
        return page_of(
            messages_of(below.rows),
            messages_of(above.rows),
            direction=direction,
            limit=limit,
            hidden=None
            if reader
            else {row[0]: row[HIDDEN] for row in below.rows + above.rows if row[HIDDEN]},
        )

    async def all_chats(
        self, after: str | None, *, limit: int
    ) -> tuple[Sequence[ChatId], str | None]:
        """In the order of their tokens, on all nodes."""
        try:
            token = FIRST_TOKEN if after is None else int(after)
        except ValueError as error:
            raise Malformed("after is no text that this call gave", field="after") from error
        [rows] = await self._session.read([("all_chats", (token, limit))])
        return [row[0] for row in rows], str(rows[-1][1]) if len(rows) == limit else None

    async def digest(
        self, chat: ChatId, *, first: MessageId, last: MessageId, reader: UserId = NO_READER
    ) -> Digest:
        """The buckets of the range until there are too many messages."""
        lowest, highest = within(first), within(last)
        buckets = [
            bucket
            for bucket in await self._searches.buckets(chat)
            if bucket_of(lowest) <= bucket <= bucket_of(highest)
        ]
        search = Search(
            "range",
            chat,
            buckets,
            (lowest, highest),
            MAX_DIGEST + 1,
            keeps=lambda row: row[2] is not None and reader not in (row[3] or ()),
            beyond=lambda values, row: (values[0], row[0] - 1),
        )
        await self._searches.find([search])
        return digest_of([row[:2] for row in search.rows])

    async def states(
        self, user: UserId, *, after: str | None, limit: int
    ) -> tuple[Sequence[ChatState], str | None]:
        """All of the user's rows, or of a user with many those of some hours; then newest messages
        and unread counts of those shown, as far as MAX_FULL_COUNTS allows.
        """
        rows = await self._lists.rows(user, place_of(after), limit)
        shown = rows[:limit]
        messages, unread = await asyncio.gather(
            self._session.read(
                [("message", (chat, bucket_of(newest), newest)) for chat, newest, *_ in shown]
            ),
            self._searches.unread(user, shown, most=MAX_QUICK_UNREAD),
        )
        many = [number for number, (most, _) in enumerate(unread) if most == MAX_QUICK_UNREAD]
        shown = shown[: many[MAX_FULL_COUNTS]] if len(many) > MAX_FULL_COUNTS else shown
        for number, counted in zip(
            many,
            await self._searches.unread(user, [shown[number] for number in many[:MAX_FULL_COUNTS]]),
            strict=False,
        ):
            unread[number] = counted
        mentions = await self._searches.mentions(
            user, [(row, row[3] or 0) for row in shown if row[1] > (row[3] or 0)]
        )
        states = [
            state_of(
                row,
                counted,
                mentions.get(row[0], 0),
                *messages_of(one for one in sent_rows(found) if user not in (one[HIDDEN] or ())),
            )
            for row, counted, found in zip(shown, unread, messages, strict=False)
        ]
        more = len(rows) > len(states)
        return states, after_of(states[-1].newest, states[-1].chat) if more else None

    async def unread(self, user: UserId, chats: Sequence[ChatId]) -> Sequence[ChatState]:
        """The rows of these chats, then their counts."""
        if not chats:
            return []
        [rows] = await self._session.read([("some_states", (within(user), chats))])
        shown = [row for row in rows if row[1]]
        unread, mentions = await asyncio.gather(
            self._searches.unread(user, shown),
            self._searches.mentions(user, [(row, row[3] or 0) for row in shown]),
        )
        return [
            state_of(row, counted, mentions.get(row[0], 0))
            for row, counted in zip(shown, unread, strict=True)
        ]

    async def heads(self, groups: Collection[ChatId]) -> Mapping[ChatId, MessageId]:
        """MAX_HEADS rows a request, side by side."""
        chats = sorted(groups)
        found = await self._session.read(
            [
                ("heads", (chats[start : start + MAX_HEADS],))
                for start in range(0, len(chats), MAX_HEADS)
            ]
        )
        return {chat: newest for rows in found for chat, newest in rows if newest}

    async def group_states(
        self, user: UserId, since: Mapping[ChatId, MessageId]
    ) -> Sequence[ChatState]:
        """The heads and the user's rows, then the newest messages and the counts."""
        if not since:
            return []
        heads, [rows] = await asyncio.gather(
            self.heads(since), self._session.read([("some_states", (within(user), [*since]))])
        )
        pointers = {row[0]: (row[2], row[3], 0, row[5]) for row in rows}
        states = [
            (chat, heads.get(chat, MessageId(0)), *pointers.get(chat, (0, 0, 0, 0)))
            for chat in since
        ]
        messages, unread, mentions = await asyncio.gather(
            self._session.read(
                [("message", (chat, bucket_of(newest), newest)) for chat, newest, *_ in states]
            ),
            asyncio.gather(
                *(
                    self._searches.group_unread(
                        user, chat, above=max(read or 0, since[chat]), newest=newest
                    )
                    for chat, newest, _, read, *_ in states
                )
            ),
            self._searches.mentions(
                user, [(row, max(row[3] or 0, since[row[0]])) for row in states]
            ),
        )
        return [
            state_of(
                row,
                counted,
                mentions.get(row[0], 0),
                *messages_of(one for one in sent_rows(found) if user not in (one[HIDDEN] or ())),
            )
            for row, counted, found in zip(states, unread, messages, strict=True)
        ]

    async def unread_chats(
        self, user: UserId, *, direct: int, groups: Mapping[ChatId, MessageId]
    ) -> Mapping[ChatId, int]:
        """The user's rows and the groups' heads; then what is above the pointers of those whose
        newest message is.
        """
        rows, heads, found = await asyncio.gather(
            self._lists.rows(user, place_of(None), direct),
            self.heads(groups),
            self._session.read([("some_states", (within(user), [*groups]))] if groups else []),
        )
        pointers = {row[0]: row for rows in found for row in rows}
        behind = [(row, row[3] or 0) for row in rows[:direct] if row[1] > (row[3] or 0)]
        of_groups: list[tuple[Row, int]] = []
        for chat, newest in heads.items():
            _, _, received, read, sent, mentioned = pointers.get(chat, (chat, *[0] * 5))
            if newest > (above := max(read or 0, groups[chat])):
                of_groups.append(((chat, newest, received, read, sent, mentioned), above))
        of_direct, counts, mentions = await asyncio.gather(
            self._searches.has_unread(user, [row for row, _ in behind]),
            asyncio.gather(
                *(
                    self._searches.group_unread(user, row[0], above=above, newest=row[1], most=1)
                    for row, above in of_groups
                )
            ),
            self._searches.mentions(user, behind + of_groups),
        )
        unread = [*of_direct, *(count > 0 for count, _ in counts)]
        return {
            row[0]: mentions.get(row[0], 0)
            for (row, _), is_unread in zip(behind + of_groups, unread, strict=True)
            if is_unread
        }

    async def present(self, stretches: Collection[Stretch]) -> set[tuple[ChatId, MessageId]]:
        """The buckets of the chats, then those of the stretches, all side by side; more of those
        that hold more than is read at once.
        """
        chats = list({one.chat for one in stretches})
        listed = dict(
            zip(
                chats,
                await self._session.read([("buckets", (chat,)) for chat in chats]),
                strict=True,
            )
        )
        asked = []
        for one in stretches:
            first, last = within(one.first), within(one.last)
            buckets = range(bucket_of(first), bucket_of(last) + 1)
            asked += [
                (one.chat, bucket, first, last)
                for (bucket,) in listed[one.chat]
                if bucket in buckets
            ]
        there: set[tuple[ChatId, MessageId]] = set()
        while asked:
            found = await self._session.read([("range", (*place, MAX_ROWS)) for place in asked])
            there.update(
                (place[0], row[0])
                for place, rows in zip(asked, found, strict=True)
                for row in rows
                if row[2] is not None
            )
            asked = [
                (*place[:3], rows[-1][0] - 1)
                for place, rows in zip(asked, found, strict=True)
                if len(rows) == MAX_ROWS
            ]
        return there

    async def pointers(
        self, states: Collection[tuple[UserId, ChatId]]
    ) -> Mapping[tuple[UserId, ChatId], Pointers]:
        """The rows of each user, side by side."""
        of_user: dict[UserId, list[ChatId]] = {}
        for user, chat in states:
            of_user.setdefault(user, []).append(chat)
        found = await self._session.read(
            [("some_states", (within(user), chats)) for user, chats in of_user.items()]
        )
        return {
            (user, chat): Pointers(*(MessageId(pointer or 0) for pointer in pointers[:3]))
            for user, rows in zip(of_user, found, strict=True)
            for chat, *pointers in rows
            if any(pointers[:3])  # else the user is only named there
        }

    async def read_clock(self, clock: Clock) -> Reading:
        """Asks the node that answers."""
        asked_s = clock.elapsed_s()
        rows = (await self._session.read([("clock", ())]))[0]
        return Reading(rows[0][0], asked_s, clock.elapsed_s())

    async def ping(self) -> None:
        """Reads the schema's version at the consistency of all reads."""
        await self._session.ping(("version", ()))

    async def migrate(self) -> list[str]:
        """Makes or upgrades the keyspace and its tables, and says in lines what was done.

        Raises as `ping` does.
        """
        return await self._session.once(
            lambda session: migrate(
                session, self._nodes.keyspace, replication=self._nodes.replication
            )
        )

    async def close(self) -> None:
        """Waits for calls under way, then closes the connections."""
        await self._session.close()
