"""Relations between users: contacts, blocks, and what each lets others do and see.

One SQL database behind the port (SQLite embedded, PostgreSQL or YugabyteDB otherwise). Every method
raises Unavailable when the database does not answer within the settings' timeout (default 5 s).
Times are Unix milliseconds and come from the caller. What a change of a contact means stands in
`rules`. Source: protocol.md section 3, decisions/0060.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from schemas import chat_pb2 as pb
from schemas.ids import UserId

Action = Literal["invite", "accept", "cancel", "decline", "remove"]
ContactState = Literal["none", "invited", "invited_me", "contact"]
"""invited: I have invited the other user; invited_me: the other one has invited me."""
Writers = Literal["everyone", "contacts"]
LastSeen = Literal["everyone", "contacts", "none"]


@dataclass(frozen=True, slots=True)
class Contact:
    """What `other` is to `user`. `version` counts the changes of this view from 1; 0: none yet."""

    user: UserId
    other: UserId
    state: ContactState = "none"
    version: int = 0

    @property
    def delivery(self) -> pb.Delivery:
        """How the user's devices are told."""
        contact = pb.Contact(user=self.other, state=self.state, version=self.version)
        return pb.Delivery(users=[self.user], contact=contact)


@dataclass(frozen=True, slots=True)
class Privacy:
    """What a user lets others do and see. `version` counts its changes; 0: all as it is given."""

    who_may_write: Writers = "everyone"
    receipts: bool = True
    last_seen: LastSeen = "contacts"
    version: int = 0


class Side(NamedTuple):
    """One of two users, towards the other."""

    exists: bool
    blocks: bool = False
    who_may_write: Writers = "everyone"
    receipts: bool = True
    last_seen: LastSeen = "contacts"


class Relation(NamedTuple):
    """How two users stand to each other, as one of them sees it. `contact`: they are contacts;
    `met`: they are, or have been.
    """

    mine: Side
    theirs: Side
    contact: bool = False
    met: bool = False

    @property
    def has_block(self) -> bool:
        """Whether one of the two blocks the other."""
        return self.mine.blocks or self.theirs.blocks

    @property
    def hears_me(self) -> bool:
        """Whether the privacy of the other user lets this one write."""
        return self.contact or self.theirs.who_may_write == "everyone"

    @property
    def seen_by_other(self) -> Relation:
        """The same, as the other one sees it."""
        return self._replace(mine=self.theirs, theirs=self.mine)


Pair = tuple[UserId, UserId]
"""Who sees, and who is seen."""


class HiddenReceipts(NamedTuple):
    """Whose receipts are not told, among some users: of `users` none, and none between pairs of
    whom one has blocked the other.
    """

    users: frozenset[UserId]
    blocks: frozenset[Pair]

    def between(self, one: UserId, other: UserId) -> bool:
        """Whether neither is told how far the other one has come."""
        return (
            one in self.users
            or other in self.users
            or (one, other) in self.blocks
            or (other, one) in self.blocks
        )

    def among(self, users: AbstractSet[UserId]) -> HiddenReceipts:
        """The same of some of these users."""
        blocks = frozenset(pair for pair in self.blocks if users >= set(pair))
        return HiddenReceipts(self.users & users, blocks)


class Relations(Protocol):
    """Contacts, blocks and privacy of all users.

    Whatever changes a contact writes down in the same transaction what both sides have to hear:
    `unpublished` holds it until `mark_published`. Blocks change no contact.
    """

    async def contacts(
        self, user: UserId, *, after: UserId, limit: int
    ) -> tuple[Sequence[Contact], bool]:
        """Contacts and invitations with ids above `after`, in order, at most `limit`; whether there
        are more. One stretch of the key is read.
        """
        ...

    async def change_contact(
        self, user: UserId, other: UserId, action: Action, *, version: int, now_ms: int
    ) -> Contact:
        """What the user's view has become; the other's changes in the same transaction.

        `version`: the view as the user knows it; 0 where the user knows of none. Raises Refused:
        unknown_user; stale when the view is another by now (an invitation may cross the other's:
        both are contacts then); blocked or forbidden when the two may not invite each other.
        Malformed for an action that the state does not allow.
        """
        ...

    async def blocks(
        self, user: UserId, *, after: UserId, limit: int
    ) -> tuple[Sequence[UserId], bool]:
        """Whom the user blocks, as `contacts` does."""
        ...

    async def block(self, user: UserId, other: UserId, *, now_ms: int) -> None:
        """From now on the user blocks the other one; a repeat changes nothing.

        Raises Refused unknown_user.
        """
        ...

    async def unblock(self, user: UserId, other: UserId, *, now_ms: int) -> None:
        """The user blocks the other one no longer; a repeat changes nothing."""
        ...

    async def privacy(self, user: UserId) -> Privacy:
        """What the user has chosen."""
        ...

    async def change_privacy(self, user: UserId, privacy: Privacy, *, now_ms: int) -> bool:
        """Writes it if the stored version is `privacy.version - 1`; says whether it did."""
        ...

    async def between(self, pairs: Collection[Pair]) -> Mapping[Pair, Relation]:
        """How these pairs stand to each other: one statement, whatever their number.

        `send` asks this for people who have not talked lately.
        """
        ...

    async def hidden_receipts(self, users: Collection[UserId]) -> HiddenReceipts:
        """Whose receipts are not told among these users: two statements, whatever their number."""
        ...

    async def changed(self, since_ms: int) -> Mapping[UserId, int]:
        """Users who blocked, unblocked, or changed privacy or a contact at `since_ms` or later, and
        when they did last: a time that grows with each change of a user, whichever clock is behind.

        What is under way at that time may be missing: ask from a time further back.
        """
        ...

    async def unpublished(self, *, limit: int) -> Sequence[Contact]:
        """Views that the log does not have yet, as far as is known, each as it is now."""
        ...

    async def mark_published(self, contacts: Sequence[Contact]) -> None:
        """The log has these views now."""
        ...

    async def close(self) -> None:
        """Waits for calls under way, then closes connections."""
        ...
