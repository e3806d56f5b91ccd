"""What the table of kinds says of each: what a client asks for, what devices are told, or both; and
what is ephemeral.

A kind's own file fills these in, `KINDS` lists them, and all code that depends on the kind reads
that table: the gateway's sessions, `send`, `persist`, `history` and the audit. Structs, since a
cold start makes a dataclass ten times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from schemas import chat_pb2 as pb
from schemas.costs import Cost
from schemas.frames import ClientFrame, Ok, Push, ServerFrame
from schemas.ids import ChatId, MessageId, UserId

if TYPE_CHECKING:
    from google.protobuf.message import Message

Frame = TypeVar("Frame", bound=ClientFrame)
Body = TypeVar("Body", bound="Message")


def _never(_body: Message) -> bool:
    return False


class CommandSpec(Struct, Generic[Frame, Body], frozen=True, kw_only=True):
    """What a client asks to be done.

    It is published into the log at once, or coalesced first: where it has `watermarks`.
    """

    frame: type[Frame]
    body: str
    """Its name in the oneof of `Command`."""
    cost: Cost
    command: Callable[[Frame, UserId, str, int], pb.Command]
    """The command of a frame of this user and device, without its id; a text may have that
    many bytes. Raises Malformed or Refused, shown as `error`.
    """
    ok: Callable[[pb.Command, MessageId, bool], Ok]
    """The reply once the log has the command under this id; true: it had it before."""
    check: Callable[[Body], None]
    """Checks the body of a command from the log. Raises Malformed for values that no store can
    hold.
    """
    deliver: Callable[[pb.Command, Sequence[UserId]], pb.Delivery]
    """What members of its chat are told, and which of them, when it is accepted."""
    watermarks: tuple[str, ...] = ()
    """Fields of the body that only move forward. Such a command is held for half a second per
    user and chat, and only the newest is published.
    """
    changes: bool = False
    """Its body's `message` is one that it changes: `send` asks history for it."""
    inverse: str = ""
    """The body that takes it back, which has the same fields: where a limit refuses it, all are
    told so under its version, and history keeps it (`commands.taken_back`).
    """
    attends: bool = False
    """Its user looks at the chat: typing in a group is told to who does."""
    is_mine: Callable[[Body], bool] = _never
    """Whether it says how its user stands to the chat, and nothing to others: it is accepted from
    those too who may not write to the other user, and told to that one where both show receipts.
    """
    kept: Literal["messages", "marks", "changes"] | None = None
    """What the audit looks for in history: the message of its id, the watermarks, the version of
    its message, or nothing.
    """

    def watermarks_of(self, command: pb.Command) -> tuple[int, ...]:
        """Those of a command, in order."""
        body = getattr(command, self.body)
        return tuple(getattr(body, field) for field in self.watermarks)

    def advance(self, command: pb.Command, newer: pb.Command) -> None:
        """Moves each watermark forward to that of the newer command, where it says more."""
        body = getattr(command, self.body)
        for field, watermark in zip(self.watermarks, self.watermarks_of(newer), strict=True):
            setattr(body, field, max(getattr(body, field), watermark))


class QuestionSpec(Struct, Generic[Frame, Body], frozen=True, kw_only=True):
    """What a client asks to be told: `history` answers the session that asks, and no other."""

    frame: type[Frame]
    body: str
    """Its name in the oneof of `Query`."""
    cost: Cost
    query: Callable[[Frame, UserId, pb.Query], None]
    """Fills in the body. Raises Malformed or Refused, shown as `error`."""
    reply: type[ServerFrame]
    answer: str
    """The reply's name in the oneof of `Answer`."""
    show: Callable[[Body], ServerFrame]
    """The reply, without its `re`."""
    attends: bool = False
    """Who asks looks at the `chat` of the body: typing in a group is told to who does."""


class PushSpec(Struct, Generic[Body], frozen=True, kw_only=True):
    """What users are told, on every device."""

    frame: type[Push]
    body: str
    """Its name in the oneof of `Delivery`."""
    push: Callable[[Body, int], Push]
    """The push for a device of this user, without its `n` and cursor."""
    wakes: bool = False
    """A background session gets it too."""
    command: str = ""
    """The field with the id of the command that became this; none: it ends no command."""
    once: bool = False
    """By that id it is pushed once, however often the log has it."""
    own: str = ""
    """The field with the user who is told more than the others, who are all told the same. None:
    each is told apart.
    """
    replaces: Callable[[Body], tuple[str, int]] | None = None
    """What it is about, when a newer one about the same replaces it before it was written. None:
    all are written.
    """
    outdates: Callable[[Body, Body], bool] | None = None
    """Whether the first replaces the second, both about the same: commands are processed in any
    order, so a later push may say less.
    """
    watermarks: tuple[str, ...] = ()
    """Fields that only move forward, as told too: a push that moves none is left out."""


class EphemeralActions(Protocol):
    """What a session may do with an ephemeral frame. All of it is best effort."""

    @property
    def user(self) -> UserId:
        """The session's."""
        ...

    def notify(self, chat: ChatId, notification: pb.Answer) -> None:
        """Notifies the other user of this chat, or the members of the group who look at it, as far
        as they may see this user; in one chat at most once in two seconds.
        """
        ...

    def watch(self, users: Sequence[UserId]) -> None:
        """Is told from now on how these users are. Raises Refused too_many."""
        ...

    def unwatch(self, users: Sequence[UserId]) -> None:
        """Is not told any more."""
        ...

    def declare(self, state: str, text: str) -> None:
        """How this session's user wants to be shown, on whichever device; the last word counts."""
        ...


class EphemeralSpec(Struct, Generic[Frame, Body], frozen=True, kw_only=True):
    """A frame that is ephemeral: in no history, without a cursor, and losing it is no error."""

    frame: type[Frame]
    cost: Cost
    act: Callable[[Frame, EphemeralActions], Ok | None]
    """Acts at once. Returns the reply to a frame with an `id`. Raises Malformed or Refused, shown
    as `error`.
    """
    push: type[ServerFrame] | None = None
    """What others are told of it."""
    body: str = ""
    """The name in the oneof of `Answer` of what `act` notifies users of, if it does. It has `user`
    and `chat`, and `users`, which the gateway fills in.
    """
    show: Callable[[Body], ServerFrame] | None = None
    """The push of that."""


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of message or question."""

    command: CommandSpec[Any, Any] | None = None
    question: QuestionSpec[Any, Any] | None = None
    push: PushSpec[Any] | None = None
    ephemeral: EphemeralSpec[Any, Any] | None = None
