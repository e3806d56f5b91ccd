"""Files of messages: a user who sees a message may read its file, from before the message is told
until it is deleted for all.

`send` asks, for messages with files and for their deletions, and for no others: without a database
the rest goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from backends.files import FileId, Grant
from schemas import chat_pb2 as pb
from schemas.commands import changed_message
from schemas.errors import Unavailable
from schemas.ids import ChatId, MessageId, UserId

if TYPE_CHECKING:
    from backends.clock import Clock
    from backends.files import Files

COOLDOWN_S: Final = 1.0
"""After the database did not answer it is left alone for so long: else each event would wait."""


class SentFiles:
    """What one process knows of the database. `Context` makes it."""

    def __init__(self, files: Files, clock: Clock, *, timeout_s: float) -> None:
        self._files, self._clock, self._timeout_s = files, clock, timeout_s
        self._cooldown_until_s = float("-inf")

    async def settle(
        self,
        sent: Sequence[tuple[list[pb.Delivery], pb.Outcome]],
        deletions: Collection[pb.Command],
        *,
        wait: bool,
    ) -> set[int]:
        """Lets the members of their chats read the files of what is sent, and shows the files in
        what is told and decided; takes back what the messages had brought that are deleted.

        Returns the ids of the messages whose file is none that the sender may send. Raises
        Unavailable: then maybe some was done, which does no harm. Without `wait` the database is
        asked only when it has answered lately.
        """
        if not wait and self._clock.elapsed_s() < self._cooldown_until_s:
            raise Unavailable("the database does not answer")
        grants = [_grant(outcome.command) for _, outcome in sent]
        try:
            async with asyncio.timeout(self._timeout_s):
                granted = await self._files.grant(grants)
                await self._files.withdraw(
                    {(ChatId(one.chat), changed_message(one)) for one in deletions},
                    now_ms=self._clock.now_ms(),
                )
        except (Unavailable, TimeoutError) as error:
            self._cooldown_until_s = self._clock.elapsed_s() + COOLDOWN_S
            raise Unavailable("the database does not answer") from error
        refused = set()
        for (told, outcome), grant in zip(sent, grants, strict=True):
            file = granted.get(grant.file)
            if file is None or file.owner != grant.owner:
                refused.add(outcome.command.id)
                continue
            shown = pb.File(
                id=file.id,
                name=file.name,
                type=file.type,
                bytes=file.bytes,
                width=file.width,
                height=file.height,
            )
            outcome.command.send.file.CopyFrom(shown)
            for delivery in told:
                if delivery.HasField("message"):
                    delivery.message.body.file.CopyFrom(shown)
        return refused


def _grant(command: pb.Command) -> Grant:
    return Grant(
        file=FileId(command.send.file.id),
        owner=UserId(command.user),
        chat=ChatId(command.chat),
        message=MessageId(command.id),
    )
