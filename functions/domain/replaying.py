"""The index of messages, made again: from the log, where every outcome that is kept goes through
the rule of `index` once more, or from history, which holds older messages too.

It may run at any time, beside `index` and beside others of its kind: what the index has stays as it
is where nothing newer comes (design.md D5). `kn-chat reindex` calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from backends.chats import NO_MESSAGE
from backends.log.by_time import OffsetRange, read_by_time
from backends.search import Entry
from functions.domain.indexing import MAX_TOGETHER, entries_of
from functions.domain.reading import MAX_LIMIT
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.errors import Malformed
from schemas.signatures import check_signature
from schemas.topics import INDEX_GROUPS, OUTCOMES_DECIDED

if TYPE_CHECKING:
    from backends.chats import HistoryMessage, Page
    from backends.log import ConsumerRecord
    from backends.wiring import Backends

CHATS_AT_ONCE: Final = 256
_BURST_S: Final = 0.1


class Progress(Struct):
    """How far it is: records read of all, or chats; messages and changes written; and records that
    hold nothing that we have signed.
    """

    records: int = 0
    all_records: int = 0
    chats: int = 0
    entries: int = 0
    foreign: int = 0


class _Writer:
    """Writes entries in parts, at most so many a second."""

    def __init__(
        self, backends: Backends, rate: float, on_progress: Callable[[Progress], None]
    ) -> None:
        self._backends, self._rate, self._on_progress = backends, rate, on_progress
        self._waiting: list[Entry] = []
        self._free_s = backends.clock.elapsed_s()
        self.progress = Progress()

    async def add(self, entries: Iterable[Entry]) -> None:
        """Writes them with those before when there are enough."""
        self._waiting += entries
        if len(self._waiting) >= MAX_TOGETHER:
            await self.write()

    async def write(self) -> None:
        """Writes what waits."""
        count = len(self._waiting)
        await self._backends.search.write(self._waiting)
        self._waiting = []
        self.progress.entries += count
        self._on_progress(self.progress)
        now_s = self._backends.clock.elapsed_s()
        self._free_s = max(self._free_s, now_s - _BURST_S) + count / self._rate
        await asyncio.sleep(max(0.0, self._free_s - now_s))


async def replay(
    backends: Backends,
    *,
    since_ms: int = 0,
    rate: float = float("inf"),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Reads what the log holds of that time on, to where it ends now; at most `rate` entries a
    second.

    Raises Unavailable when log or index do not answer: what was written until then stays.
    """
    writer = _Writer(backends, rate, on_progress)
    spans = await _spans(backends, since_ms)
    writer.progress.all_records = sum(span.end - span.begin for span in spans)
    async for record in read_by_time(backends.reads, spans):
        writer.progress.records += 1
        try:
            outcomes = _outcomes(record, backends).outcomes
        except Malformed:
            writer.progress.foreign += 1
        else:
            await writer.add(entries_of(outcomes))
    await writer.write()
    return writer.progress


async def replay_history(
    backends: Backends,
    *,
    rate: float = float("inf"),
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Reads every chat of history; at most `rate` messages a second.

    Raises as `replay` does.
    """
    writer = _Writer(backends, rate, on_progress)
    after: str | None = None
    while True:
        chats, after = await backends.chats.all_chats(after, limit=CHATS_AT_ONCE)
        for chat in chats:
            last, more = NO_MESSAGE, True
            while more:
                page = await backends.chats.page(
                    chat, direction="after", anchor=last, limit=MAX_LIMIT
                )
                await writer.add(
                    _entry(message, page) for message in page.messages if not message.event
                )
                more = page.more_after
                last = page.messages[0].id if page.messages else last
            writer.progress.chats += 1
        if after is None:
            break
    await writer.write()
    return writer.progress


def _entry(message: HistoryMessage, page: Page) -> Entry:
    return Entry(
        chat=message.chat,
        message=message.id,
        version=message.edited or message.id,
        sender=message.sender,
        text=message.text,
        has_file=bool(message.file),
        deleted=bool(message.deleted),
        hidden=frozenset(page.hidden.get(message.id, ())),
    )


async def _spans(backends: Backends, since_ms: int) -> list[OffsetRange]:
    spans = []
    for topic in INDEX_GROUPS:
        begins = await backends.reads.offsets_at(topic, since_ms)
        bounds = await backends.reads.bounds(topic, [*begins])
        spans += [
            OffsetRange(topic, partition, max(begin, held.begin), held.end)
            for partition, begin in begins.items()
            for held in [bounds[partition]]
        ]
    return spans


def _outcomes(record: ConsumerRecord, backends: Backends) -> pb.Outcomes:
    """Raises Malformed for what is no outcome that we have signed."""
    event = cloudevents.from_kafka(record.headers, record.value)
    if event.type != OUTCOMES_DECIDED.type:
        raise Malformed("no outcomes", code="unknown_type")
    check_signature(
        event, [*INDEX_GROUPS], backends.settings.event_keys, now_ms=backends.clock.now_ms()
    )
    return cloudevents.parse(event, pb.Outcomes)
