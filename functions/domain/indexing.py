"""From outcomes to the index of messages: what each tells of a message, written together with what
comes at the same time.

The function `index` calls it, and `kn-chat reindex`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from backends.search import Entry, joined
from backends.telemetry.metrics import count
from schemas.commands import check_command
from schemas.errors import Malformed, Unavailable
from schemas.ids import ChatId, MessageId, UserId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backends.search import Search
    from schemas import chat_pb2 as pb

MAX_TOGETHER: Final = 512
"""Entries of one write; more wait for the next one."""
MAX_WAITING: Final = 8_192
"""Entries that wait; what comes then is tried again later."""


def entries_of(outcomes: Iterable[pb.Outcome]) -> Iterator[Entry]:
    """What these tell of messages; most tell nothing: marks, reactions, refusals, events of groups.

    What this version does not know is passed over: other functions dead-letter it.
    """
    for outcome in outcomes:
        if outcome.refused:
            continue
        try:
            entry = _entry(outcome.command)
        except Malformed:
            count("knchat_index_skipped_total")
        else:
            if entry is not None:
                yield entry


def _entry(command: pb.Command) -> Entry | None:
    body = command.WhichOneof("body")
    if body not in {"send", "edit", "delete"}:
        return None
    check_command(command)
    chat, user = ChatId(command.chat), UserId(command.user)
    if body == "send":
        message = MessageId(command.id)
        text = command.send.text
        has_file = command.send.HasField("file")
        return Entry(
            chat=chat, message=message, version=message, sender=user, text=text, has_file=has_file
        )
    message = MessageId(getattr(command, body).message)
    if body == "edit":
        version = MessageId(command.id)
        return Entry(
            chat=chat, message=message, version=version, sender=user, text=command.edit.text
        )
    if command.delete.for_me:
        return Entry(chat=chat, message=message, hidden=frozenset({user}))
    return Entry(chat=chat, message=message, deleted=True)


class Indexer:
    """Writes entries of several events in one transaction: an index costs by the transaction as
    much as by the message. `Context` makes it.
    """

    def __init__(self, search: Search, *, delay_s: float) -> None:
        self._search, self._delay_s = search, delay_s
        self._waiting: list[tuple[Sequence[Entry], asyncio.Future[None]]] = []
        self._count = 0
        self._writing: asyncio.Task[None] | None = None

    async def write(self, entries: Sequence[Entry]) -> None:
        """Returns when the index has them, `delay_s` and a write later.

        Raises Unavailable when it does not take them.
        """
        if not entries:
            return
        if self._count + len(entries) > MAX_WAITING and self._waiting:
            raise Unavailable("too much waits for the index")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, done))
        self._count += len(entries)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                if self._count < MAX_TOGETHER:
                    await asyncio.sleep(self._delay_s)
                await self._write_some()
        finally:
            self._writing = None
            for _, done in self._waiting:
                if not done.done():
                    done.set_exception(Unavailable("the index is not written any more"))
            self._waiting.clear()
            self._count = 0

    async def _write_some(self) -> None:
        some: list[tuple[Sequence[Entry], asyncio.Future[None]]] = []
        size = 0
        while self._waiting and size < MAX_TOGETHER:
            some.append(self._waiting.pop(0))
            size += len(some[-1][0])
        self._count -= size
        wanted = [one for one in some if not one[1].done()]  # else its event was given up
        error: Exception | None = None
        try:
            if wanted:
                await self._search.write(
                    joined([entry for entries, _ in wanted for entry in entries])
                )
        except (Malformed, Unavailable) as failure:
            error = failure
        for _, done in wanted:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
