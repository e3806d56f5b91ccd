"""Outcomes into history and chat states: what was accepted is written, watermarks move, and their
owner is told what is unread now.

Every write can be repeated and reordered without harm (design.md D5), so an event that fails half
way is simply done again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, get_args

from msgspec import Struct

from backends.chats import Change, HistoryMessage, Operation, Watermark
from backends.telemetry.metrics import count
from functions.domain.file_texts import file_text
from functions.domain.group_commands import MAX_WITH_UNREAD
from functions.domain.group_events import event_of_pin, event_text, key_of
from functions.domain.records import Writer
from functions.runtime.context import TIMING
from functions.runtime.event_handler import on_event, reason_of
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.commands import check_command, taken_back
from schemas.errors import Malformed, Unavailable
from schemas.ids import ChatId, MessageId, UserId, direct_members
from schemas.topics import DELIVERIES, HISTORY_GROUPS

if TYPE_CHECKING:
    from backends.chats import Chats
    from backends.rosters import Rosters
    from backends.wiring import Backends
    from functions.runtime.context import Context, Timing

log = logging.getLogger(__name__)

Row = TypeVar("Row")

MAX_CONCURRENT: Final = 16
"""Users whose unread messages are counted side by side: 256 marks on a store of 45 ms a read are a
second, not twelve.
"""


class Kept(Struct, Generic[Row], frozen=True):
    """What history keeps of a kind of command: its row, and the store's call that writes rows."""

    row: Callable[[pb.Command], Row]
    write: Callable[[Chats], Callable[[Sequence[Row]], Awaitable[None]]]


def _message(command: pb.Command) -> HistoryMessage:
    message_id = MessageId(command.id)
    return HistoryMessage(
        id=message_id,
        chat=ChatId(command.chat),
        sender=UserId(command.user),
        key=command.key,
        text=command.send.text,
        reply_to=MessageId(command.send.reply_to),
        version=message_id,
        file=file_text(command.send),
        mentions=tuple(map(UserId, command.send.mentions)),
    )


def _event(command: pb.Command) -> HistoryMessage:
    message_id = MessageId(command.id)
    return HistoryMessage(
        id=message_id,
        chat=ChatId(command.chat),
        sender=UserId(command.user),
        key=key_of(message_id),
        text="",
        reply_to=MessageId(0),
        version=message_id,
        event=event_text(command.group_event),
    )


def _watermark(command: pb.Command) -> Watermark:
    return Watermark(
        user=UserId(command.user),
        chat=ChatId(command.chat),
        received=MessageId(command.mark.received),
        read=MessageId(command.mark.read),
    )


def _change(op: Operation) -> Callable[[pb.Command], Change]:
    def row(command: pb.Command) -> Change:
        body = getattr(command, command.WhichOneof("body") or "")
        return Change(
            op="hide" if getattr(body, "for_me", False) else op,
            chat=ChatId(command.chat),
            message=MessageId(body.message),
            version=MessageId(command.id),
            user=UserId(command.user),
            value=getattr(body, "text", "") or getattr(body, "emoji", ""),
        )

    return row


_OPERATIONS: Final[Mapping[str, Operation]] = {op: op for op in get_args(Operation) if op != "hide"}
KEPT: Final[Mapping[str, Kept[Any]]] = {
    "send": Kept(_message, lambda chats: chats.put),
    "group_event": Kept(_event, lambda chats: chats.put),
    "mark": Kept(_watermark, lambda chats: chats.mark),
    **{body: Kept(_change(op), lambda chats: chats.change) for body, op in _OPERATIONS.items()},
}
"""By the command's body, in the order of the writes."""


def row_of(command: pb.Command) -> Any:
    """What history keeps of a command. Raises Malformed for what no history can hold."""
    check_command(command)
    kept = KEPT.get(command.WhichOneof("body") or "")
    if kept is None:
        raise Malformed("this version knows no such command", field="body")
    return kept.row(command)


async def keep(
    outcomes: Iterable[pb.Outcome],
    writer: Writer,
    backends: Backends,
    *,
    rosters: Rosters | None = None,
    timing: Timing = TIMING,
) -> None:
    """Writes what was accepted and appends `unread` deliveries for those who have read, or of whose
    unread messages one was deleted.

    `rosters`: tell members of small groups of deletions too. An impossible row becomes a dead
    letter alone. Raises Unavailable when a store or the log does not answer: then everything is
    done again.
    """
    rows: dict[str, list[tuple[pb.Outcome, Any]]] = {body: [] for body in KEPT}
    impossible: list[tuple[pb.Outcome, str]] = []
    for outcome in outcomes:
        command = (
            taken_back(outcome.command, outcome.refused) if outcome.refused else outcome.command
        )
        if command is None:
            continue
        try:
            row = row_of(command)
        except Malformed as error:
            impossible.append((outcome, reason_of(error)))
        else:
            rows[command.WhichOneof("body") or ""].append((outcome, row))
            if not outcome.refused and (event := event_of_pin(command)) is not None:
                rows["group_event"].append((outcome, _event(event)))
    for body, kept in KEPT.items():
        impossible += await _write(rows[body], kept.write(backends.chats))
    records = [writer.dead_letter(outcome, reason) for outcome, reason in impossible]
    # Of a group it counts from where the member's own view begins.
    read = {
        (mark.user, mark.chat): MessageId(outcome.since)
        for outcome, mark in rows["mark"]
        if mark.read
    }
    read |= {
        (user, change.chat): MessageId(outcome.since)
        for outcome, change in rows["delete"]
        for user in _counting(change)
    }
    if rosters is not None:
        deletions = [change for _, change in rows["delete"]]
        read |= await _counting_in_groups(deletions, rosters, backends)
    if unread := await _unread(read, backends.chats, timing.counts_timeout_s):
        records += writer.deliveries(unread, await backends.reads.partitions(DELIVERIES))
    if records:
        await backends.appends.append(records)
    for outcome, reason in impossible:
        count("knchat_rows_set_aside_total")
        log.warning(
            "outcome dead-lettered, it can never be written",
            extra={"command": outcome.command.id, "reason": reason},
        )


def _counting(change: Change) -> tuple[UserId, ...]:
    """Who may have one unread message less by a deletion."""
    if change.op == "hide":
        return (change.user,)
    return tuple(user for user in direct_members(change.chat) or () if user != change.user)


async def _counting_in_groups(
    deletions: Iterable[Change], rosters: Rosters, backends: Backends
) -> Mapping[tuple[UserId, ChatId], MessageId]:
    """Members of small groups who may have one unread message less by a deletion for all, and from
    where their messages count. None of a group whose members are not known now: the next mark
    counts again.
    """
    chats = {
        change.chat: 0
        for change in deletions
        if change.op == "delete" and direct_members(change.chat) is None
    }
    found = await rosters.of(chats, backends.groups, wait=False) if chats else {}
    return {
        (member.user, chat): member.joined
        for chat, roster in found.items()
        if roster is not None and len(roster.members) <= MAX_WITH_UNREAD
        for member in roster.members.values()
    }


async def _write(
    rows: Sequence[tuple[pb.Outcome, Row]], write: Callable[[Sequence[Row]], Awaitable[None]]
) -> list[tuple[pb.Outcome, str]]:
    """Writes all rows in one call; where that is impossible, in halves, down to those that can not
    be written: returned, with why.
    """
    if not rows:
        return []
    try:
        await write([row for _, row in rows])
    except Malformed as error:
        if len(rows) == 1:
            return [(rows[0][0], reason_of(error))]
        middle = len(rows) // 2
        return [*await _write(rows[:middle], write), *await _write(rows[middle:], write)]
    return []


async def _unread(
    read: Mapping[tuple[UserId, ChatId], MessageId], chats: Chats, timeout_s: float
) -> list[pb.Delivery]:
    """What each user who has read is told, on all devices: how much of the chat is unread now.

    `read`: who has read what; of a group, from which id on its messages count.

    Who could not be counted within `timeout_s` is told nothing this time: the watermarks are
    written, and the next mark counts again.
    """
    of_user: dict[UserId, list[ChatId]] = {}
    for user, chat in sorted(read):
        of_user.setdefault(user, []).append(chat)
    if not of_user:
        return []
    gate = asyncio.Semaphore(MAX_CONCURRENT)

    async def counted(user: UserId, chats_read: Sequence[ChatId]) -> list[pb.Delivery]:
        async with gate:
            groups = {chat: read[user, chat] for chat in chats_read if direct_members(chat) is None}
            states = [
                *await chats.unread(user, [chat for chat in chats_read if chat not in groups]),
                *(await chats.group_states(user, groups) if groups else ()),
            ]
        return [
            pb.Delivery(
                users=[user],
                unread=pb.Unread(
                    chat=state.chat,
                    unread=state.unread,
                    mentions=state.mentions,
                    read=state.read,
                    upto=state.upto,
                ),
            )
            for state in states
        ]

    counting = [
        asyncio.create_task(counted(user, chats_read)) for user, chats_read in of_user.items()
    ]
    try:
        await asyncio.wait(counting, timeout=timeout_s)
    finally:
        for task in counting:
            task.cancel()
    found = await asyncio.gather(*counting, return_exceptions=True)
    told: list[pb.Delivery] = []
    for one in found:
        match one:
            case list():
                told += one
            case Unavailable() | asyncio.CancelledError():
                count("knchat_counts_left_out_total")
            case _:
                raise one
    return told


@on_event(pb.Outcomes, *HISTORY_GROUPS)
async def persist(outcomes: pb.Outcomes, event: Event, context: Context) -> None:
    """Target: inboxes `chat-messages` and `chat-history-retries`.

    Writes history and chat states.
    """
    await keep(
        outcomes.outcomes,
        Writer("persist", event),
        context.backends,
        rosters=context.rosters,
        timing=context.timing,
    )
