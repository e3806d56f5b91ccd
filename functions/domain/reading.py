"""Reading chats as one of their people: pages, lists of chats, digests, pins, receipts.

The event target `history` and the HTTP target `chats` share it. It checks membership and limits,
and cuts what would not fit a client's frame. How an answer travels is for the targets to say.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET

from backends.chats import Pointers, after_of, place_of
from functions.domain.badges import read_total
from functions.domain.file_texts import file_of
from functions.domain.group_commands import group_part
from functions.domain.group_events import event_of
from functions.domain.policy import members_of, verdict_of
from schemas import chat_pb2 as pb
from schemas.errors import Malformed
from schemas.frames import PAGE_BYTES
from schemas.ids import ChatId, MessageId, UserId, direct_members, time_text, unix_ms_of
from schemas.kinds.chats import chat_state
from schemas.kinds.history import history_message
from schemas.kinds.mark import Receipts, Watermarks
from schemas.kinds.pins import PinnedMessage, Pins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backends.chats import ChatState, Direction, HistoryMessage, Reaction
    from backends.groups import Membership
    from backends.preferences import Preferences
    from backends.wiring import Backends
    from functions.domain.shared_pages import SharedPages

MAX_LIMIT: Final = 256
USERS_SHOWN: Final = 10
"""Of each emoji at a message."""
EMOJI_SHOWN: Final = 20
"""As many as there may be: one more may come through when several are put at once."""
# Type, number, chat (43 characters at most), first, last and two flags of a page; its list
# included: 229 bytes at the longest.
_ENVELOPE_BYTES: Final = 256
_encode: Final = msgspec.json.Encoder().encode


async def begins_of(backends: Backends, user: UserId, chat: ChatId) -> MessageId:
    """The first id of a chat that this user may see: 0 in direct chats, which ask no store.

    Raises Refused unknown_chat to a stranger, not_member to a former member of a group,
    Unavailable.
    """
    if direct_members(chat) is None:
        return (await backends.groups.membership(chat, user)).begins
    members_of(chat, user)
    return MessageId(0)


async def read_page(
    backends: Backends,
    user: UserId,
    chat: ChatId,
    direction: Direction,
    anchor: MessageId,
    limit: int,
    *,
    max_bytes: int | None = PAGE_BYTES,
    shared: SharedPages | None = None,
) -> pb.Page:
    """A page for one of the chat's people; `before` LATEST is the newest.

    Of a large group it comes out of `shared`.

    It ends at `limit` or at `max_bytes` of its JSON frame (MessagePack is smaller; None: no end),
    but holds a message if there is one. What lies nearest to the anchor is kept, and more_before
    and more_after tell of what was cut. Raises as `begins_of` does, and Malformed for a limit
    outside 1 to 256.
    """
    _check_limit(limit)
    is_large = False
    if shared is None or direct_members(chat) is not None:
        begins = await begins_of(backends, user, chat)
    else:
        begins, is_large = await shared.begins_of(user, chat)
    if direction != "before":
        anchor = MessageId(max(anchor, begins - (direction == "after")))
    if shared is not None and is_large:
        page = await shared.page(chat, direction=direction, anchor=anchor, limit=limit, reader=user)
    else:
        page = await backends.chats.page(
            chat, direction=direction, anchor=anchor, limit=limit, reader=user
        )
    messages = [as_shown(item) for item in page.messages if item.id >= begins]
    # What a member's view begins with is a message itself: the event of joining.
    begun = len(messages) < len(page.messages) or (
        begins > 0 and bool(messages) and messages[-1].message.id == begins
    )
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
        more_before=(page.more_before and not begun) or last < len(messages),
        more_after=page.more_after or first > 0,
    )


async def read_states(
    backends: Backends,
    user: UserId,
    after: str | None,
    limit: int,
    *,
    archived: bool | None = None,
    max_bytes: int | None = PAGE_BYTES,
) -> pb.ChatStates:
    """The user's chats, newest first, from `after` on (None: from the start); only the archived
    ones, only the others, or (None) both.

    It ends at `limit` or `max_bytes`, as `read_page` does. The first part has the total of all
    chats. Raises Malformed for a limit outside 1 to 256 or an `after` that no list gave,
    Unavailable.
    """
    _check_limit(limit)
    mine = {one.group.chat: one for one in await backends.groups.memberships(user)}
    heads = await backends.chats.heads(mine) if mine else {}
    # The event of joining may not be there yet.
    newest = {
        chat: max(heads.get(chat, one.member.joined), one.member.joined)
        for chat, one in mine.items()
    }
    total = await read_total(backends, user, mine, newest) if after is None else None
    while True:
        states, following = await _states(backends, user, after, limit, archived, mine, newest)
        fit = len(states)
        if max_bytes is not None:
            _, fit = _nearest(
                [len(_encode(chat_state(state))) + 1 for state in states],
                0,
                max_bytes - _ENVELOPE_BYTES - len(following or ""),
            )
        if fit == len(states):
            return pb.ChatStates(chats=states, after=following or "", total=total)
        limit = fit  # only the store can say where the shorter list goes on


async def _states(
    backends: Backends,
    user: UserId,
    after: str | None,
    limit: int,
    archived: bool | None,
    mine: Mapping[ChatId, Membership],
    newest: Mapping[ChatId, MessageId],
) -> tuple[list[pb.ChatState], str | None]:
    """Direct chats and groups in one order, and the text for the next part.

    Of the groups, which a user is in some of, the newest ids are put in order here. What is
    archived, or is not, is passed over, so that a part may be short.
    """
    direct, following = await backends.chats.states(user, after=after, limit=limit)
    places: dict[tuple[MessageId, ChatId], ChatState | Membership] = {
        (state.newest, state.chat): state for state in direct
    }
    first = place_of(after)
    last = (MessageId(0), ChatId("")) if following is None else place_of(following)
    places |= {(at, chat): mine[chat] for chat, at in newest.items() if (at, chat) < first}
    shown = [place for place in sorted(places, reverse=True) if place >= last][:limit]
    groups = {chat: mine[chat] for _, chat in shown if chat in mine}
    states = {state.chat: state for state in direct} | {
        state.chat: _since_joining(state, groups[state.chat])
        for state in await backends.chats.group_states(
            user, {chat: one.member.joined for chat, one in groups.items()}
        )
    }
    requests = await _requests(backends, user, [states[chat] for _, chat in shown])
    preferences = await backends.preferences.of(user, [chat for _, chat in shown])
    now_ms = backends.clock.now_ms()
    listed = []
    for _, chat in shown:
        wanted = preferences.get(chat)
        is_archived = wanted is not None and wanted.hides(states[chat].newest, now_ms=now_ms)
        if archived in {None, is_archived}:
            one = groups.get(chat)
            state = await _with_newest_shown(backends, user, states[chat], one)
            listed.append(_state(state, user, one, wanted, request=chat in requests))
    more = following is not None or len(shown) < len(places)
    return listed, after_of(*shown[-1]) if more else None


def _since_joining(state: ChatState, mine: Membership) -> ChatState:
    """The state of a group, as far as this member sees it."""
    message = state.newest_message
    return replace(
        state,
        newest=max(state.newest, mine.member.joined),
        newest_message=None if message is None or message.id < mine.begins else message,
    )


async def _with_newest_shown(
    backends: Backends, user: UserId, state: ChatState, mine: Membership | None
) -> ChatState:
    """The state with the newest message that the user sees, where the newest of all is hidden."""
    if state.newest_message is not None:
        return state
    page = await backends.chats.page(
        state.chat, direction="before", anchor=state.newest, limit=1, reader=user
    )
    begins = 0 if mine is None else mine.begins
    shown = (message for message in page.messages if message.id >= begins)
    return replace(state, newest_message=next(shown, None))


async def read_pins(backends: Backends, user: UserId, chat: ChatId) -> Pins:
    """The pins of a chat, newest first, but for messages that were deleted for all.

    Raises as `begins_of` does.
    """
    begins = await begins_of(backends, user, chat)
    pins = [pin for pin in await backends.chats.pins(chat) if pin.message >= begins]
    messages = await backends.chats.find([(chat, pin.message) for pin in pins])
    return Pins(
        pins=[
            PinnedMessage(
                message=str(pin.message), by=str(pin.user), time=time_text(unix_ms_of(pin.version))
            )
            for pin in pins
            if (message := messages.get((chat, pin.message))) is not None and not message.deleted
        ]
    )


async def read_receipts(
    backends: Backends, user: UserId, chat: ChatId, after: UserId, limit: int
) -> Receipts:
    """How far the chat's users with ids above `after` have come, at most `limit` of them, those who
    show it to this user.

    Raises as `begins_of` does.
    """
    await begins_of(backends, user, chat)
    if (people := direct_members(chat)) is None:
        members, more = await backends.groups.members(chat, after=after, limit=limit)
        users = [member.user for member in members]
    else:
        rest = [one for one in people if one > after]
        users, more = rest[:limit], len(rest) > limit
    relations = await backends.relations.between([(user, one) for one in users if one != user])
    are_told = backends.configuration.values.signals.receipts
    shown = [
        one
        for one in users
        if one == user or (are_told and verdict_of(relations[user, one]).shares_receipts)
    ]
    found = await backends.chats.pointers([(one, chat) for one in shown])
    nothing = Pointers(MessageId(0), MessageId(0), MessageId(0))
    return Receipts(
        receipts=[
            Watermarks(str(one), str(pointers.received), str(pointers.read))
            for one in shown
            for pointers in [found.get((one, chat), nothing)]
        ],
        after=str(users[-1]) if more else UNSET,
    )


async def read_digest(
    backends: Backends, user: UserId, chat: ChatId, first: MessageId, last: MessageId
) -> pb.Digest:
    """Count and hash of the messages from `first` to `last`, both inclusive.

    Raises as `begins_of` does, and Malformed when the range is empty the wrong way round or holds
    over 1,024 messages.
    """
    begins = await begins_of(backends, user, chat)
    if first > last:
        raise Malformed("from is greater than to", field="from")
    first = MessageId(max(first, begins))
    digest = await backends.chats.digest(chat, first=first, last=last, reader=user)
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


def as_shown(item: HistoryMessage) -> pb.HistoryMessage:
    """The message as it is shown."""
    message = pb.Message(id=item.id, chat=item.chat, sender=item.sender, key=item.key)
    if item.event:
        message.event.CopyFrom(event_of(item.event))
    else:
        message.body.text, message.body.reply_to = item.text, item.reply_to
        if item.file:
            message.body.file.CopyFrom(file_of(item.file))
        message.body.mentions.extend(item.mentions)
    return pb.HistoryMessage(
        message=message,
        version=item.version,
        edited=item.edited,
        deleted=item.deleted,
        reactions=_reactions(item.reactions) if item.reactions else (),
    )


async def _requests(
    backends: Backends, user: UserId, states: Sequence[ChatState]
) -> frozenset[ChatId]:
    """Which of these chats were begun by a stranger, who has never been a contact, and have no
    answer yet: one question, and none where all are answered.
    """
    begun = {
        (user, other): state.chat
        for state in states
        if not state.sent and direct_members(state.chat) is not None
        for other in members_of(state.chat, user)
        if other != user
    }
    found = await backends.relations.between(begun) if begun else {}
    return frozenset(begun[pair] for pair, relation in found.items() if not relation.met)


def _reactions(given: Sequence[Reaction]) -> list[pb.Reactions]:
    """By emoji, in their order: a client that knows who reacted can tell the same."""
    users: dict[str, list[UserId]] = {}
    for reaction in given:
        users.setdefault(reaction.emoji, []).append(reaction.user)
    return [
        pb.Reactions(emoji=emoji, count=len(some), users=some[:USERS_SHOWN])
        for emoji, some in itertools.islice(users.items(), EMOJI_SHOWN)
    ]


def _state(
    state: ChatState,
    user: UserId,
    mine: Membership | None,
    wanted: Preferences | None,
    *,
    request: bool,
) -> pb.ChatState:
    others = () if mine is not None else members_of(state.chat, user)
    return pb.ChatState(
        chat=state.chat,
        others=[member for member in others if member != user],
        group=None if mine is None else group_part(mine.group, mine.member.role),
        mine=None if wanted is None else wanted.part,
        newest=state.newest,
        newest_message=None if state.newest_message is None else as_shown(state.newest_message),
        unread=state.unread,
        read=state.read,
        received=state.received,
        mentions=state.mentions,
        request=request,
    )
