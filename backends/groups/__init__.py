"""Groups: who is in which, with what role, and what of a group may be changed by whom.

One SQL database behind the port (SQLite embedded, PostgreSQL or YugabyteDB otherwise). Every method
raises Unavailable when the database does not answer within the settings' timeout (default 5 s).
Who may do what is decided in the transaction that does it (`rules`). Whatever changes a group
writes down in the same transaction what its members have to hear: a command, which `unpublished`
holds until `mark_published`. Source: design.md section 6.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

from schemas import chat_pb2 as pb
from schemas.ids import ChatId, MessageId, UserId

Role = Literal["reader", "member", "admin", "owner"]
History = Literal["all", "from_join"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""From the least to the greatest."""

MAX_ADDED: Final = 100
"""Users that one call may add."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group. `version` counts its changes, those of its members too.

    `members`: how many there are. `created`: the id of the event that it began with. `avatar`
    empty: none.
    """

    chat: ChatId
    name: str
    avatar: str
    history: History
    members: int
    created: MessageId
    version: int


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group. `joined`: the id of the event that made the user one.

    `version`: the group's at the newest change of this member.
    """

    user: UserId
    role: Role
    joined: MessageId
    version: int


@dataclass(frozen=True, slots=True)
class Membership:
    """A group as one of its members sees it."""

    group: Group
    member: Member

    @property
    def begins(self) -> MessageId:
        """The first id that this member may see."""
        return self.member.joined if self.group.history == "from_join" else MessageId(0)


@dataclass(frozen=True, slots=True)
class Roster:
    """A group with all its members, by their ids; of a deleted group there are none."""

    group: Group
    members: Mapping[UserId, Member]


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a group, on which device, and the ids for the events of it.

    An id that lies below an event of the group is raised above it: a group's events are in the
    order of its versions.
    """

    by: UserId
    device: str
    ids: tuple[MessageId, ...]


class Groups(Protocol):
    """Groups and their members.

    To who was never in a group it does not exist (Refused unknown_chat); who is in it no longer
    is refused not_member; who lacks the role, forbidden.
    """

    async def create(
        self,
        group: Group,
        members: Collection[UserId],
        change: Change,
        *,
        key: str,
    ) -> tuple[Group, bool]:
        """A new group, owned by `change.by`, with these members besides; whether it is new.

        `group` gives chat, name, avatar and history. A repeat of the user's key with the same
        contents is the same group as it is now; with others it raises Refused key_reused. Raises
        Refused too_many beyond what the configuration allows of members, and of groups of one of
        them; Unavailable when the chat's id is taken (make another); and what an avatar raises
        (`backends/files/avatars.py`). One event: created.
        """
        ...

    async def change(
        self,
        chat: ChatId,
        change: Change,
        *,
        version: int,
        name: str | None = None,
        avatar: str | None = None,
        history: History | None = None,
    ) -> Membership:
        """Changes what is given, if the version still is that one.

        Raises Refused stale when it is not, and what an avatar raises, a file of `change.by`
        (`backends/files/avatars.py`). Admins and owner may. An event for each thing that is
        other than before: renamed, avatar, history; none for none. Three ids suffice.
        """
        ...

    async def delete(self, chat: ChatId, change: Change) -> None:
        """Ends the group: all are former members. The owner may; a repeat changes nothing."""
        ...

    async def add(
        self, chat: ChatId, users: Collection[UserId], change: Change, *, role: Role = "member"
    ) -> Sequence[Member]:
        """Makes these users members, those that are not: one event, joined.

        Returns all of them, in the order of their ids, with the roles that they have. Admins may
        add readers and members, the owner admins too. Raises Refused too_many as `create` does.
        """
        ...

    async def set_role(self, chat: ChatId, user: UserId, role: Role, change: Change) -> Member:
        """Changes a member's role: one event, role; none when it is that already.

        Admins may make members of readers and readers of members; the owner may do more, and
        hand over: a new owner, and the former one is an admin. Raises Refused unknown_user for
        who is not in the group.
        """
        ...

    async def remove(self, chat: ChatId, user: UserId, change: Change) -> None:
        """Takes a member out: one event, removed, or left when it is the one who asks.

        Admins may remove readers and members, the owner all; each may leave but the owner, who
        hands over before. A repeat changes nothing. Raises Refused unknown_user for who never was
        in the group.
        """
        ...

    async def membership(self, chat: ChatId, user: UserId) -> Membership:
        """The group as this member sees it. One row is read."""
        ...

    async def memberships(self, user: UserId) -> Sequence[Membership]:
        """All groups that the user is in, by chat id."""
        ...

    async def member(self, chat: ChatId, user: UserId) -> Member | None:
        """A member of the group; None for a user who is none (any longer)."""
        ...

    async def members(
        self, chat: ChatId, *, after: UserId, limit: int
    ) -> tuple[Sequence[Member], bool]:
        """Members with ids above `after`, in order, at most `limit`; whether there are more."""
        ...

    async def rosters(self, known: Mapping[ChatId, int]) -> Mapping[ChatId, Roster | None]:
        """Whose version is another than the one known: the group with its members.

        None for those that are as known; those that never existed are left out. For `send`: one
        row a group when nothing has changed.
        """
        ...

    async def former(
        self, pairs: Collection[tuple[ChatId, UserId]]
    ) -> frozenset[tuple[ChatId, UserId]]:
        """Which of these users are members of that chat no longer."""
        ...

    async def unpublished(self, *, limit: int) -> Sequence[pb.Command]:
        """Events that the log does not have yet, as far as is known; the oldest first."""
        ...

    async def mark_published(self, ids: Collection[int]) -> None:
        """The log has the commands of these ids."""
        ...

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer. Answers within 2 s."""
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...
