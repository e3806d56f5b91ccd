"""The audit's second half: what outcomes have accepted is in history, and what is in history was
accepted.

Chats are asked in stretches of ids, many in one question. Source: design.md D12b.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from backends.chats import HistoryMessage, Pointers, Stretch
from backends.log import ConsumerRecord
from functions.domain.audit_log import LONG_SKEW_MS, AuditLog, event_of
from functions.domain.records import Writer
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.commands import changed_message
from schemas.errors import Malformed
from schemas.ids import ChatId, MessageId, UserId, direct_members, parse_chat, time_text, unix_ms_of
from schemas.kinds import COMMAND_BODIES
from schemas.signatures import check_signature
from schemas.topics import HISTORY_RETRIES, MESSAGES

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.domain.audit import Tally

Keep = Callable[[Sequence[pb.Outcome], Writer, "Backends"], Awaitable[None]]
"""Writes outcomes into history: `events.persist.keep`."""
Place = tuple[ChatId, MessageId]
Kind = Literal["messages", "changes", "marks"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

MAX_BATCH: Final = 500
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""Outcomes that are looked up together, and held for it."""
APART_MS: Final = 10_000
"""Ids of a chat that are further apart are no stretch: between them may lie any number of messages,
and all are read.
"""
MAX_UNASKED: Final = 10_000
"""Rows whose outcome did not come along with their neighbours': so many are noted before the log is
searched for them.
"""
RECENT: Final = 20
"""So many times MAX_BATCH outcomes are remembered, since their rows may be met a little later."""
MAX_CHATS: Final = 10_000
"""Chats whose people are remembered."""
TOGETHER_MS: Final = 300_000
"""Rows of one such search are at most so far apart."""
_NOTHING: Final = Pointers(MessageId(0), MessageId(0), MessageId(0))


class _Accepted(NamedTuple):
    """An accepted command, where its outcome lies, and who has a state of its chat that it moves:
    both people of a direct chat, none in a group; None: no chat that history can hold.
    """

    what: Kind
    command: pb.Command
    members: tuple[UserId, ...] | None
    record: ConsumerRecord


class Rows:
    """One run over what is due of chat-messages."""

    def __init__(
        self,
        backends: Backends,
        log_: AuditLog,
        tally: Tally,
        keep: Keep | None,
        *,
        commit_interval: int,
    ) -> None:
        """`commit_interval`: see `Scope`."""
        self._commit_interval = commit_interval
        self._backends, self._log, self._tally, self._keep = backends, log_, tally, keep
        self._unasked: set[Place] = set()
        self._recent: deque[AbstractSet[Place]] = deque(maxlen=RECENT)
        self._members: dict[str, tuple[UserId, ...] | None] = {}

    async def run(self) -> None:
        """Looks at all that is due. Raises Unavailable when the log or a store is unavailable."""
        spans = [*await self._log.due(MESSAGES), *await self._log.due(HISTORY_RETRIES)]
        places: dict[tuple[str, int], int] = {}
        some: list[_Accepted] = []
        size = since = 0
        async for record, outcomes in self._log.outcomes(spans):
            some += [
                accepted
                for outcome in outcomes
                if not outcome.refused
                and (accepted := self._accepted(outcome.command, record)) is not None
            ]
            size, since = size + len(record.value or b""), since + len(outcomes)
            places[record.topic, record.partition] = record.offset + 1
            if len(some) >= MAX_BATCH or size >= MAX_BATCH_BYTES:
                await self._check(some)
                some, size = [], 0
                if since >= self._commit_interval:
                    await self._log.commit(places)
                    places, since = {}, 0
        await self._check(some)
        await self._check_unasked()
        await self._log.commit({(span.topic, span.partition): span.end for span in spans})

    def _accepted(self, command: pb.Command, record: ConsumerRecord) -> _Accepted | None:
        spec, chat = COMMAND_BODIES.get(command.WhichOneof("body")), command.chat
        what = "messages" if spec is None else spec.kept
        if what is None or _is_hide(command):
            return None
        if chat not in self._members:
            if len(self._members) >= MAX_CHATS:
                self._members.clear()
            self._members[chat] = _members(chat)
        return _Accepted(what, command, self._members[chat], record)

    async def _check(self, some: Sequence[_Accepted]) -> None:
        if not some:
            return
        missing = await self._missing(some, looking_for_more=True)
        for what in KINDS:
            sound = sum(one.what == what for one in some) - sum(one.what == what for one in missing)
            self._tally.add(what, "sound", n=sound)
        if missing:
            dead = (await self._log.letters(missing[0].record.at_ms - self._log.skew_ms)).outcomes
            self._add("dead", [one for one in missing if one.command.id in dead])
            missing = await self._not_handed_on(
                [one for one in missing if one.command.id not in dead]
            )
        if missing and self._keep is not None:
            still = await self._persist_again(missing, self._keep)
            ids = {(one.what, one.command.id) for one in still}
            self._add("repaired", [one for one in missing if (one.what, one.command.id) not in ids])
            missing = still
        self._add("missing", missing)
        if len(self._unasked) >= MAX_UNASKED:
            await self._check_unasked()

    async def _not_handed_on(self, missing: Sequence[_Accepted]) -> list[_Accepted]:
        """Without those whose outcome lies in chat-history-retries later on: they are audited
        there, or under way.
        """
        if not missing:
            return []
        last: dict[int, tuple[int, str, int, int]] = {}
        since_ms = min(one.record.at_ms for one in missing) - self._log.skew_ms
        async for record, outcomes in self._log.outcomes(
            await self._log.from_time(HISTORY_RETRIES, since_ms)
        ):
            last.update((outcome.command.id, _place(record)) for outcome in outcomes)
        return [
            one
            for one in missing
            if last.get(one.command.id, _place(one.record)) <= _place(one.record)
        ]

    async def _missing(
        self, some: Sequence[_Accepted], *, looking_for_more: bool = False
    ) -> list[_Accepted]:
        """Those of which history lacks anything that `persist` writes: the row, the states of both
        people, the version, the watermarks.
        """
        messages: set[Place] = set()
        changes: set[Place] = set()
        states: set[tuple[UserId, ChatId]] = set()
        for what, command, members, _ in some:
            if members is not None:
                chat = ChatId(command.chat)
                if what == "messages":
                    messages.add((chat, MessageId(command.id)))
                    states.update((member, chat) for member in members)
                elif what == "changes":
                    changes.add((chat, changed_message(command)))
                else:
                    states.add((UserId(command.user), chat))
        chats = self._backends.chats
        there, held, come = await asyncio.gather(
            chats.present(_stretches(messages)), chats.find(changes), chats.pointers(states)
        )
        if looking_for_more:
            self._note(messages, there)
        return [one for one in some if _lacks(one, there, held, come)]

    async def _persist_again(self, missing: Sequence[_Accepted], keep: Keep) -> list[_Accepted]:
        """Does what `persist` does, and returns those that are missing nevertheless: nothing can
        hold them, or we did not sign them.

        `put` decides: what was changed or deleted since is there in a newer version, which wins
        (D5), and so never comes back.
        """
        ours = [one for one in missing if self._is_ours(one.record)]
        if ours:
            cause = event_of(ours[0].record)
            writer = Writer(
                "audit",
                cloudevents.Event(
                    cause.id,
                    cause.source,
                    cause.type,
                    b"",
                    time=time_text(self._backends.clock.now_ms()),
                ),
            )
            await keep([pb.Outcome(command=one.command) for one in ours], writer, self._backends)
        return await self._missing(missing)

    def _is_ours(self, record: ConsumerRecord) -> bool:
        try:
            check_signature(
                event_of(record),
                [MESSAGES],
                self._backends.settings.event_keys,
                now_ms=self._backends.clock.now_ms(),
            )
        except Malformed:
            return False
        return True

    def _note(self, messages: AbstractSet[Place], there: AbstractSet[Place]) -> None:
        """Rows without an outcome, as far as is known: their outcome may lie a little before or
        after.
        """
        self._unasked -= messages
        self._unasked |= there - messages
        for recent in self._recent if self._unasked else ():
            self._unasked -= recent
        self._recent.append(messages)

    async def _check_unasked(self) -> None:
        """Searches the log for the outcomes of rows that came without; those that have none are
        told, and left as they are.
        """
        if not self._unasked:
            return
        # Outcomes of older ones may be gone.
        kept_ms = await self._log.kept_since(MESSAGES) + LONG_SKEW_MS
        unasked = sorted(id_ for _, id_ in self._unasked if unix_ms_of(id_) >= kept_ms)
        self._unasked = set()
        while unasked:
            made_ms = unix_ms_of(unasked[0])
            together: dict[int, None] = {
                id_: None for id_ in unasked if unix_ms_of(id_) <= made_ms + TOGETHER_MS
            }
            unasked = unasked[len(together) :]
            await self._log.strike(
                together,
                near_ms=made_ms - self._log.skew_ms,
                far_ms=made_ms - LONG_SKEW_MS,
                accepted=True,
            )
            self._tally.add("unasked", "missing", together)

    def _add(self, became: str, some: Iterable[_Accepted]) -> None:
        for what in KINDS:
            self._tally.add(what, became, [one.command.id for one in some if one.what == what])


def _place(record: ConsumerRecord) -> tuple[int, str, int, int]:
    return record.at_ms, record.topic, record.partition, record.offset


def _members(chat: str) -> tuple[UserId, ...] | None:
    try:
        return direct_members(parse_chat(chat)) or ()
    except Malformed:
        return None


def _is_hide(command: pb.Command) -> bool:
    """Whether it deletes a message for one user: of that no version tells."""
    return command.WhichOneof("body") == "delete" and command.delete.for_me


def _version(command: pb.Command, message: HistoryMessage) -> MessageId:
    """How far changes of this kind have come; a reaction may have been taken away since, and an
    edit may have raced a deletion, which wins.
    """
    match command.WhichOneof("body"):
        case "edit" if not message.deleted:
            return message.edited
        case "delete":
            return message.deleted
        case _:
            return message.version


def _lacks(
    one: _Accepted,
    there: AbstractSet[Place],
    held: Mapping[Place, HistoryMessage],
    come: Mapping[tuple[UserId, ChatId], Pointers],
) -> bool:
    command, chat = one.command, ChatId(one.command.chat)
    if one.members is None:
        return True
    if one.what == "messages":
        known = [come.get((member, chat), _NOTHING).newest for member in one.members]
        return (chat, command.id) not in there or min(known, default=command.id) < command.id
    if one.what == "changes":
        message = held.get((chat, changed_message(command)))
        return message is None or _version(command, message) < command.id
    state, mark = come.get((UserId(command.user), chat), _NOTHING), command.mark
    return state.read < mark.read or state.received < max(mark.received, mark.read)


def _stretches(places: Iterable[Place]) -> list[Stretch]:
    """Stretches that hold all these messages, and hardly any others but neighbours."""
    of_chat: dict[ChatId, list[MessageId]] = {}
    for chat, message in sorted(places):
        of_chat.setdefault(chat, []).append(message)
    stretches = []
    for chat, ids in of_chat.items():
        first = last = ids[0]
        for message in ids[1:]:
            if unix_ms_of(message) - unix_ms_of(last) > APART_MS:
                stretches.append(Stretch(chat, first, last))
                first = message
            last = message
        stretches.append(Stretch(chat, first, last))
    return stretches
