"""What a user wants of a chat: muted, pinned, archived, a draft. On all devices of the user alike.

One SQL database behind the port. Every method raises Unavailable when it does not answer within the
settings' timeout (default 5 s). What the log does not have yet stays `unpublished`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from backends.chats import NO_MESSAGE
from schemas import chat_pb2 as pb
from schemas.ids import ChatId, MessageId, UserId


@dataclass(frozen=True, slots=True)
class Preferences:
    """Of one user for one chat. `version` counts their changes; 0: never set.

    `muted_until_ms`: Unix milliseconds, 0 not muted. `archived`: what is up to this id; a newer
    message brings the chat back, unless it is muted; 0: not archived.
    """

    user: UserId
    chat: ChatId
    muted_until_ms: int = 0
    pinned: bool = False
    archived: MessageId = NO_MESSAGE
    draft: str = ""
    version: int = 0

    def hides(self, newest: MessageId, *, now_ms: int) -> bool:
        """Whether the chat is among the archived ones, with this newest message."""
        is_muted = now_ms < self.muted_until_ms
        return self.archived > 0 and (newest <= self.archived or is_muted)

    @property
    def part(self) -> pb.ChatPart:
        """As the user's devices are told."""
        return pb.ChatPart(
            chat=self.chat,
            version=self.version,
            mine=pb.Mine(
                muted_until_ms=self.muted_until_ms,
                pinned=self.pinned,
                archived=self.archived,
                draft=self.draft,
            ),
        )


class ChatPreferences(Protocol):
    """Preferences of all users."""

    async def put(self, preferences: Preferences) -> bool:
        """Writes them if the stored version is `preferences.version - 1`; says whether it did."""
        ...

    async def of(self, user: UserId, chats: Collection[ChatId]) -> Mapping[ChatId, Preferences]:
        """The user's for these chats, those that were ever set."""
        ...

    async def unpublished(self, *, limit: int) -> Sequence[Preferences]:
        """Those whose newest version the log does not have, as far as is known."""
        ...

    async def mark_published(self, some: Sequence[Preferences]) -> None:
        """The log has these versions."""
        ...
