"""Which changes of messages are allowed: decided here and nowhere else, by what history holds.

`send` asks for commands that change a message, and for no others: a plain message never waits for
history. A message that history does not hold is on its way there, as long as it is young: its
change waits in chat-retries. What this process has accepted lately counts too, since history may
not hold it yet. Source: decisions/0057, protocol.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from backends.concurrency import BoundedDict
from schemas import chat_pb2 as pb
from schemas.commands import changed_message
from schemas.errors import Refused, Unavailable
from schemas.ids import ChatId, MessageId, first_id_at, unix_ms_of
from schemas.kinds import CHANGES

if TYPE_CHECKING:
    from backends.chats import Chats, HistoryMessage
    from backends.clock import Clock
    from backends.configuration.current import Configuration
    from schemas.configuration import Messages

MAX_WAIT_S: Final = 60.0
"""So old a message that history does not hold is none; and so long history must have answered,
since after an outage it is behind.
"""
RECENT_MS: Final = 10_000
"""So long a pin that was accepted counts without history."""
MAX_ENTRIES: Final = 4_096
"""Messages and chats whose accepted changes are remembered; those longest ago go first."""

Place = tuple[ChatId, MessageId]
Cell = TypeVar("Cell")

_OF_CHAT: Final = MessageId(0)
"""In the place of a message: what is of the chat."""


@dataclass(slots=True)
class _Held:
    """What history holds for some commands; `error`: it does not answer."""

    messages: Mapping[Place, HistoryMessage]
    pins: Mapping[ChatId, Mapping[MessageId, int]]
    error: Unavailable | None = None


@dataclass(slots=True)
class _Recent:
    """What was accepted here: the newest version of each, and whether it takes away."""

    deleted: int = 0
    brought_file: bool = False
    """What was deleted had a file."""
    reactions: dict[tuple[str, int], tuple[int, bool]] = field(default_factory=dict)
    pins: dict[MessageId, tuple[int, bool]] = field(default_factory=dict)


class Changes:
    """What one process knows of changes. `Context` makes it."""

    def __init__(self, chats: Chats, clock: Clock, configuration: Configuration) -> None:
        self._chats, self._clock, self._configuration = chats, clock, configuration
        self._failed_s = float("-inf")
        self._recent = BoundedDict[Place, _Recent](MAX_ENTRIES)

    async def checks(self, changes: Sequence[pb.Command]) -> Callable[..., None]:
        """The check of these commands, all of which change a message, and of commands that do not,
        which pass.

        It asks history once, and before for the pins of each chat that something is pinned in. The
        check refuses what may not be done, and remembers what may: it raises Refused
        unknown_message, forbidden or too_many, and Unavailable when it cannot be told yet.
        `is_admin`: of the group that the message is in, who may delete what others have written.
        """
        held = await self._held(changes)

        def check(command: pb.Command, *, is_admin: bool = False) -> None:
            if command.WhichOneof("body") in CHANGES:
                self._check(command, held, is_admin=is_admin)

        return check

    def took_file(self, command: pb.Command) -> bool:
        """Whether this accepted command has deleted for all a message with a file."""
        if not command.HasField("delete") or command.delete.for_me:
            return False
        recent = self._recent.get(_place(command))
        return recent is not None and recent.brought_file

    async def _held(self, changes: Sequence[pb.Command]) -> _Held:
        places = {_place(command) for command in changes}
        chats = {ChatId(one.chat) for one in changes if one.WhichOneof("body") == "pin"}
        try:
            pins = {
                chat: {pin.message: pin.version for pin in await self._chats.pins(chat)}
                for chat in chats
            }
            places |= {(chat, message) for chat, pinned in pins.items() for message in pinned}
            messages = await self._chats.find(places)
        except Unavailable as error:
            self._failed_s = self._clock.elapsed_s()
            return _Held({}, {}, error)
        return _Held(messages, pins)

    def _check(self, command: pb.Command, held: _Held, *, is_admin: bool) -> None:
        if held.error is not None:
            raise held.error
        place, op = _place(command), command.WhichOneof("body")
        message = held.messages.get(place)
        if message is None:
            self._check_on_its_way(command, place[1])
            raise Unavailable("history does not hold the message yet")
        for_me = op == "delete" and command.delete.for_me
        if self._deleted(place, held) not in {0, command.id} and not for_me:
            raise _unknown()
        is_mine = message.sender == command.user and not message.event
        if op == "delete" and is_admin:
            is_mine = not message.event
        if op in {"edit", "delete"} and not for_me and not is_mine:
            raise Refused("forbidden", "another user has written the message", field="message")
        match op:
            case "react":
                recent = self._recent.get(place) or _Recent()
                _check_reactions(command, message, recent, self._configuration.values.messages)
            case "pin":
                self._check_pins(command, held)
        self._remember(command, place, message)

    def _check_on_its_way(self, command: pb.Command, message: MessageId) -> None:
        now_s = self._clock.now_ms() / 1_000
        settled_s = self._clock.elapsed_s() - self._failed_s
        if message >= command.id or (
            now_s - unix_ms_of(message) / 1_000 >= MAX_WAIT_S and settled_s >= MAX_WAIT_S
        ):
            raise _unknown()

    def _deleted(self, place: Place, held: _Held) -> int:
        """The version of a message's deletion for all; 0: none is known."""
        message, recent = held.messages.get(place), self._recent.get(place)
        return (0 if message is None else message.deleted) or (
            0 if recent is None else recent.deleted
        )

    def _check_pins(self, command: pb.Command, held: _Held) -> None:
        chat, mine = ChatId(command.chat), MessageId(command.pin.message)
        pins = held.pins.get(chat, {})
        if pins.get(mine, 0) >= command.id:
            return  # decided before, and history has it
        recent = self._recent.get((chat, _OF_CHAT)) or _Recent()
        lately = first_id_at(self._clock.now_ms() - RECENT_MS)
        there = _there(pins, recent.pins, after=lately) | {mine}
        # No list shows the pin of a deleted message, and no user can take it away.
        most = self._configuration.values.messages.pins
        if sum(not self._deleted((chat, one), held) for one in there) > most:
            raise Refused("too_many", f"a chat has at most {most} pins", field="message")

    def _remember(self, command: pb.Command, place: Place, message: HistoryMessage) -> None:
        op = command.WhichOneof("body")
        # Pins are counted for the chat, the others for the message.
        key = (place[0], _OF_CHAT) if op in {"pin", "unpin"} else place
        recent = self._recent.setdefault(key, _Recent())
        self._recent.move_to_end(key)
        match op:
            case "delete" if not command.delete.for_me:
                recent.deleted = max(recent.deleted, command.id)
                recent.brought_file |= bool(message.file)
            case "react" | "unreact":
                cell = (getattr(command, op).emoji, command.user)
                change = command.id, op == "unreact"
                recent.reactions[cell] = max(recent.reactions.get(cell, (0, False)), change)
            case "pin" | "unpin":
                change = command.id, op == "unpin"
                recent.pins[place[1]] = max(recent.pins.get(place[1], (0, False)), change)


def _check_reactions(
    command: pb.Command, message: HistoryMessage, recent: _Recent, allowed: Messages
) -> None:
    cells = {(given.emoji, int(given.user)): given.version for given in message.reactions}
    mine = command.react.emoji, command.user
    if cells.get(mine, 0) >= command.id:
        return  # decided before, and history has it
    there = _there(cells, recent.reactions, after=message.version) | {mine}
    most, own = allowed.reactions, allowed.own_reactions
    if len({emoji for emoji, _ in there}) > most:
        raise Refused("too_many", f"a message has at most {most} emoji", field="emoji")
    if sum(user == command.user for _, user in there) > own:
        raise Refused("too_many", f"a user has {own} emoji at a message", field="emoji")


def _there(
    held: Mapping[Cell, int], recent: Mapping[Cell, tuple[int, bool]], *, after: int
) -> AbstractSet[Cell]:
    """What history holds, and what was accepted here since, above the version `after`: of what is
    older another process may have accepted the end.
    """
    newest = {cell: (version, False) for cell, version in held.items()}
    for cell, change in recent.items():
        if change[0] > after:
            newest[cell] = max(newest.get(cell, (0, False)), change)
    return {cell for cell, (_, gone) in newest.items() if not gone}


def _place(command: pb.Command) -> Place:
    return ChatId(command.chat), changed_message(command)


def _unknown() -> Refused:
    return Refused("unknown_message", "no such message", field="message")
