"""Reading chats as one of their people: pages, lists of chats, digests, pins.

The event target `history` and the HTTP target `chats` share it. It checks membership and limits,
and cuts what would not fit a client's frame. How an answer travels is for the targets to say.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from functions.domain.policy import members_of
from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.frames import PAGE_BYTES
from schemas.ids import ChatId, MessageId, UserId, time_text, unix_ms_of
from schemas.kinds.chats import chat_state
from schemas.kinds.history import history_message
from schemas.kinds.pins import PinnedMessage, Pins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backends.chats import Chats, ChatState, Direction, HistoryMessage, Reaction

MAX_LIMIT: Final = 256
USERS_SHOWN: Final = 10
"""Of each emoji at a message."""
EMOJI_SHOWN: Final = 20
"""As many as there may be: one more may come through when several are put at once."""
# Type, number, chat (43 characters at most), first, last and two flags of a page; its list
# included: 229 bytes at the longest.
_ENVELOPE_BYTES: Final = 256
_encode: Final = msgspec.json.Encoder().encode


async def read_page(
    chats: Chats,
    user: UserId,
    chat: ChatId,
    direction: Direction,
    anchor: MessageId,
    limit: int,
    *,
    max_bytes: int | None = PAGE_BYTES,
) -> pb.Page:
    """A page for one of the chat's people; `before` LATEST is the newest.

    It ends at `limit` or at `max_bytes` of its JSON frame (MessagePack is smaller; None: no end),
    but holds a message if there is one. What lies nearest to the anchor is kept, and more_before
    and more_after tell of what was cut. Raises Refused unknown_chat, Malformed for a limit outside
    1 to 256, Unavailable.
    """
    _check_limit(limit)
    members_of(chat, user)
    page = await chats.page(chat, direction=direction, anchor=anchor, limit=limit, reader=user)
    messages = [_message(item) for item in page.messages]
    first, last = 0, len(messages)
    if max_bytes is not None:
        sizes = [len(_encode(history_message(message))) + 1 for message in messages]
        first, last = _nearest(
            sizes,
            sum(message.message.id >= anchor for message in messages),
            max_bytes - _ENVELOPE_BYTES,
        )
    return pb.Page(
        chat=chat,
        messages=messages[first:last],
        more_before=page.more_before or last < len(messages),
        more_after=page.more_after or first > 0,
    )


async def read_states(
    chats: Chats, user: UserId, after: str | None, limit: int, *, max_bytes: int | None = PAGE_BYTES
) -> pb.ChatStates:
    """The user's chats, newest first, from `after` on (None: from the start).

    It ends at `limit` or `max_bytes`, as `read_page` does. Raises Malformed for a limit outside 1
    to 256 or an `after` that no list gave, Unavailable.
    """
    _check_limit(limit)
    while True:
        found, following = await chats.states(user, after=after, limit=limit)
        states = [_state(await _with_newest_shown(chats, user, state), user) for state in found]
        fit = len(states)
        if max_bytes is not None:
            _, fit = _nearest(
                [len(_encode(chat_state(state))) + 1 for state in states],
                0,
                max_bytes - _ENVELOPE_BYTES - len(following or ""),
            )
        if fit == len(states):
            return pb.ChatStates(chats=states, after=following or "")
        limit = fit  # only the store can say where the shorter list goes on


async def _with_newest_shown(chats: Chats, user: UserId, state: ChatState) -> ChatState:
    """The state with the newest message that the user sees, where the newest of all is hidden."""
    if state.newest_message is not None:
        return state
    page = await chats.page(
        state.chat, direction="before", anchor=state.newest, limit=1, reader=user
    )
    return replace(state, newest_message=next(iter(page.messages), None))


async def read_pins(chats: Chats, user: UserId, chat: ChatId) -> Pins:
    """The pins of a chat, newest first, but for messages that were deleted for all.

    Raises Refused unknown_chat, Unavailable.
    """
    members_of(chat, user)
    pins = await chats.pins(chat)
    messages = await chats.find([(chat, pin.message) for pin in pins])
    return Pins(
        pins=[
            PinnedMessage(
                message=str(pin.message), by=str(pin.user), time=time_text(unix_ms_of(pin.version))
            )
            for pin in pins
            if (message := messages.get((chat, pin.message))) is not None and not message.deleted
        ]
    )


async def read_digest(
    chats: Chats, user: UserId, chat: ChatId, first: MessageId, last: MessageId
) -> pb.Digest:
    """Count and hash of the messages from `first` to `last`, both inclusive.

    Raises Refused unknown_chat, Malformed when the range is empty the wrong way round or holds over
    1,024 messages, Unavailable.
    """
    members_of(chat, user)
    if first > last:
        raise Malformed("from is greater than to", field="from")
    digest = await chats.digest(chat, first=first, last=last, reader=user)
    return pb.Digest(count=digest.count, hash=digest.hash)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise Malformed(f"limit must be 1 to {MAX_LIMIT}", field="limit")


def _nearest(sizes: Sequence[int], anchor: int, budget: int) -> tuple[int, int]:
    """The longest stretch around the gap before place `anchor` that fits the budget, grown by turns
    on both sides; at least one item.
    """
    first = last = anchor
    while first > 0 or last < len(sizes):
        upwards = first > 0 and (last == len(sizes) or anchor - first <= last - anchor)
        budget -= sizes[first - 1] if upwards else sizes[last]
        if budget < 0 and last > first:
            break
        first, last = (first - 1, last) if upwards else (first, last + 1)
    return first, last


def _message(item: HistoryMessage) -> pb.HistoryMessage:
    body = pb.Send(text=item.text, reply_to=item.reply_to)
    return pb.HistoryMessage(
        message=pb.Message(id=item.id, chat=item.chat, sender=item.sender, key=item.key, body=body),
        version=item.version,
        edited=item.edited,
        deleted=item.deleted,
        reactions=_reactions(item.reactions) if item.reactions else (),
    )


def _reactions(given: Sequence[Reaction]) -> list[pb.Reactions]:
    """By emoji, in their order: a client that knows who reacted can tell the same."""
    users: dict[str, list[UserId]] = {}
    for reaction in given:
        users.setdefault(reaction.emoji, []).append(reaction.user)
    return [
        pb.Reactions(emoji=emoji, count=len(some), users=some[:USERS_SHOWN])
        for emoji, some in itertools.islice(users.items(), EMOJI_SHOWN)
    ]


def _state(state: ChatState, user: UserId) -> pb.ChatState:
    return pb.ChatState(
        chat=state.chat,
        others=[member for member in members_of(state.chat, user) if member != user],
        newest=state.newest,
        newest_message=None if state.newest_message is None else _message(state.newest_message),
        unread=state.unread,
        read=state.read,
        received=state.received,
    )
