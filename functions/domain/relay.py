"""What transactions have written down for the log: appended at once, and again until it is there.

So a log that is unavailable delays no call for long, and what a process has not appended when it
dies the next one appends. Also known as the relay of a transactional outbox.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from backends.concurrency import Backoff
from functions.domain.records import Writer
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.errors import Unavailable
from schemas.ids import time_text
from schemas.topics import DELIVERIES

if TYPE_CHECKING:
    from backends.wiring import Backends

log = logging.getLogger(__name__)

Item = TypeVar("Item")

MAX_BATCH: Final = 256
RETRY: Final = Backoff(first_s=0.2, max_s=5.0)
MAX_RETRIES: Final = 200
"""About 15 minutes. After that the next change tries again, and the audit."""


class Relay(Generic[Item]):
    """Of one process, for one kind of item."""

    def __init__(
        self,
        what: str,
        *,
        unpublished: Callable[[int], Awaitable[Sequence[Item]]],
        append: Callable[[Sequence[Item]], Awaitable[None]],
        mark_published: Callable[[Sequence[Item]], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        """`unpublished` is asked for so many at most; `what` they are is for the log lines;
        `timeout_s`: how long a call waits for the log.
        """
        self._what, self._timeout_s = what, timeout_s
        self._unpublished, self._append = unpublished, append
        self._mark_published = mark_published
        self._wanted = False
        self._publishing: asyncio.Task[None] | None = None

    async def publish(self) -> None:
        """Returns when the log has all there is, or has not answered in time: then
        publishing goes on behind.
        """
        self._wanted = True
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish())
        await asyncio.wait([self._publishing], timeout=self._timeout_s)

    async def publish_once(self) -> None:
        """One try. Raises Unavailable when the log or the store is."""
        while items := await self._unpublished(MAX_BATCH):
            await self._append(items)
            await self._mark_published(items)

    async def _publish(self) -> None:
        tries = 0
        while self._wanted and tries < MAX_RETRIES:
            self._wanted = False
            try:
                await self.publish_once()
            except Unavailable as error:
                self._wanted = True
                if not tries:
                    log.warning(
                        "%s cannot be published yet, retrying",
                        self._what,
                        extra={"error": error.message},
                    )
                await asyncio.sleep(RETRY.delay_s(tries))
                tries += 1


def change_event(prefix: str, *, source: str, event_type: str, now_ms: int) -> Event:
    """Stands for what calls have changed, as the cause that the log's events are named after; it is
    appended nowhere itself. `prefix`: of its id.
    """
    return Event(
        id=f"{prefix}.{secrets.token_hex(8)}",
        source=source,
        type=event_type,
        data=b"",
        time=time_text(now_ms),
    )


async def append_deliveries(
    deliveries: Iterable[pb.Delivery], writer: Writer, backends: Backends
) -> None:
    """Raises Unavailable when the log is."""
    partitions = await backends.reads.partitions(DELIVERIES)
    await backends.appends.append(writer.deliveries(deliveries, partitions))
