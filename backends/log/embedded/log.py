"""The embedded log: both ports of the log on one SQLite file, for one machine without Kafka.

Processes may share the file (a lone function beside a running `dev`): each has one writing thread,
and SQLite's locks keep them apart. They do not share consumer groups: a group has one member at a
time in its process, and who runs members owns the data folder (`own`). Constructing it opens
nothing; file and threads come with the first use. Belongs to one event loop. Long, since both ports
share the opened file. Source: design.md D6.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal

from backends.clock import Clock
from backends.log import (
    Assignments,
    Bounds,
    ConsumerRecord,
    GroupConsumer,
    OnOffsetReset,
    ProducerRecord,
)
from backends.log.embedded import data_folder
from backends.log.embedded import file as sql
from backends.log.embedded.assignments import Group
from backends.log.embedded.group_consumer import EmbeddedGroupConsumer
from backends.log.embedded.retention import Retention
from backends.log.embedded.tables import Place
from backends.log.embedded.tail import EmbeddedPartitionConsumer, Tail
from backends.log.embedded.timing import TIMING, Timing
from backends.log.embedded.transactions import Result, Step
from backends.log.embedded.writer import Writer
from schemas.cloudevents import to_kafka
from schemas.errors import Malformed, Unavailable
from schemas.signatures import sign
from schemas.topics import MAX_RECORD_BYTES, partition_of

log = logging.getLogger(__name__)

# What a record costs in memory and in the file beside its bytes, for the limits of the writer's
# queue.
_RECORD_BYTES: Final = 128


class EmbeddedLog:
    """Implements `LogProducer` and `LogReader`.

    `clock` gives Unix seconds: it dates records and decides what is kept. `not_below` is told the
    time of the newest record when the file is opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        event_keys: Sequence[bytes] = (),
        partitions: Mapping[str, int] | None = None,
        clock: Callable[[], float] | None = None,
        not_below: Callable[[int], None] = lambda _: None,
        timing: Timing = TIMING,
    ) -> None:
        """`partitions`: counts of topics that are created, where they are to differ from the table
        of topics.
        """
        self.clock = clock or Clock(alone=True).now_s
        self._not_below, self._timing = not_below, timing
        self._path = path
        self._partitions = partitions or {}
        self._event_keys = event_keys
        self._opening = asyncio.Lock()
        self._opened: _Opened | None = None
        self._closed = False
        self._owner_lock: int | None = None
        self._members: set[tuple[str, str]] = set()
        self._groups: dict[tuple[str, str], Group] = {}
        self._turn = 0
        self._retention = Retention(self)

    def own(self) -> None:
        """Makes this process the owner of the data folder until it ends or closes the log: `dev`
        does, a lone function need not.

        Raises Unavailable, in one line, when another process owns the folder or it cannot be
        written.
        """
        if self._owner_lock is None:
            self._owner_lock = data_folder.own(self._path.parent)

    async def append(
        self, records: Sequence[ProducerRecord], *, then: Sequence[ProducerRecord] = ()
    ) -> None:
        """See `LogProducer`.

        Events are signed here, under the first of the event keys. The records of one call lie in
        one transaction.
        """
        opened = self._opened or await self._open()
        self._turn += 1
        rows, size = [], 0
        for record in (*records, *then):
            if len(record.event.data) > MAX_RECORD_BYTES:
                raise Malformed(
                    f"a record holds at most {MAX_RECORD_BYTES} bytes of data, not "
                    f"{len(record.event.data)}",
                    field="data",
                )
            key, headers, value = to_kafka(sign(record.event, record.topic, self._event_keys))
            encoded = sql.encode_headers(headers)
            rows.append((self._slot(opened.file, record, key), key, encoded, value))
            size += _RECORD_BYTES + len(encoded) + len(value or b"")
        if rows:
            await opened.writer.append(rows, size)

    async def partitions(self, topic: str) -> int:
        """See `LogReader`."""
        return (await self._place(topic)).partitions

    async def epoch(self, topic: str) -> str:
        """See `LogReader`. 128 random bits made with the file, in hex."""
        return (await self._place(topic)).epoch

    async def bounds(self, topic: str, partitions: Sequence[int]) -> Mapping[int, Bounds]:
        """See `LogReader`."""
        place = await self._place(topic)
        found = await self._look([place.slot(partition) for partition in partitions])
        return {slot - place.first_slot: bounds for slot, bounds in found.items()}

    async def offsets_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """See `LogReader`."""
        place = await self._place(topic)
        slots = range(place.first_slot, place.first_slot + place.partitions)

        def found(connection: sqlite3.Connection) -> dict[int, int]:
            held = sql.bounds(connection, slots)
            return {
                slot - place.first_slot: sql.offset_at(connection, slot, held[slot], at_ms)
                for slot in slots
            }

        return await self.query(found)

    async def read(
        self, topic: str, partition: int, offset: int, *, max_records: int, max_bytes: int = 1 << 20
    ) -> Sequence[ConsumerRecord]:
        """See `LogReader`."""
        place = await self._place(topic)
        return await self._read(place.slot(partition), offset, max_records, max_bytes)

    @asynccontextmanager
    async def follow(
        self,
        topic: str,
        offsets: Mapping[int, int],
        *,
        on_offset_reset: OnOffsetReset | None = None,
    ) -> AsyncIterator[EmbeddedPartitionConsumer]:
        """See `LogReader`. The consumer ends, as an iterator does, when the log is closed."""
        opened = self._opened or await self._open()
        try:
            with EmbeddedPartitionConsumer(
                opened.tail, opened.file.place(topic), offsets, on_offset_reset
            ) as reader:
                opened.writer.watch(on=True)
                yield reader
        finally:
            opened.writer.watch(on=opened.tail.has_readers)

    @asynccontextmanager
    async def member(
        self, group: str, topic: str, *, start: Literal["begin", "end"] = "begin"
    ) -> AsyncIterator[GroupConsumer]:
        """See `LogReader`.

        Raises Unavailable when the group has a member on this topic in this process.
        """
        if (group, topic) in self._members:
            raise Unavailable(f"group {group} has its one member on {topic}")
        self._members.add((group, topic))
        try:
            place = await self._place(topic)
            bounds = await self.bounds(topic, range(place.partitions))
            starts = {partition: getattr(held, start) for partition, held in bounds.items()}
            pairs = [*place.slots(starts).items()]
            # Before anything can be dropped.
            await self.run(partial(sql.join, group=group, offsets=pairs), durable=False)
            async with self.follow(topic, starts | await self.committed(group, topic)) as reader:
                yield EmbeddedGroupConsumer(self, group, place, reader)
        finally:
            self._members.discard((group, topic))

    @asynccontextmanager
    async def join(self, group: str, topic: str, *, member: str) -> AsyncIterator[Assignments]:
        """See `LogReader`.

        Among the members of this process; it ends, as an iterator does, when the log is closed.
        """
        partitions = await self.partitions(topic)
        members = self._groups.setdefault((group, topic), Group(partitions))
        assignments = members.join(member)
        try:
            yield assignments
        finally:
            members.leave(member, assignments)

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """See `LogReader`."""
        place = await self._place(topic)
        return await self.query(lambda connection: sql.committed(connection, group, place))

    async def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """See `LogReader`.

        Members in other processes are not known here; there are none where `own` is kept to.
        """
        if (group, topic) in self._members:
            raise Unavailable(f"group {group} has a member on {topic}: its own commits count")
        if pairs := [*(await self._place(topic)).slots(offsets).items()]:
            await self.run(partial(sql.commit, group=group, offsets=pairs), durable=True)

    async def run(self, step: Step[Result], *, durable: bool, size: int = 0) -> Result:
        """Runs a step in the writer's next transaction: for the embedded cache, whose keys lie in
        this file.

        See `Writer.run`.
        """
        opened = self._opened or await self._open()
        return await opened.writer.run(step, durable=durable, size=size)

    def defer_to_next_commit(
        self, step: Step[None], *, size: int, ended: Callable[[bool], None]
    ) -> None:
        """Has a step run in the transaction of the next append, or within a second; does not wait
        for it.

        See `Writer`.

        The log must be open, as it is after `query_inline`.
        """
        if self._opened is None:
            raise Unavailable("the log is closed")
        self._opened.writer.defer_to_next_commit(step, size=size, ended=ended)

    async def query_inline(self, question: Callable[[sqlite3.Connection], Result]) -> Result:
        """Answers a question of microseconds on the event loop, for the cache: a hop to the reading
        thread costs ten times as much.
        """
        opened = self._opened or await self._open()
        try:
            return question(opened.inline_connection)
        except sqlite3.Error as error:
            raise Unavailable(f"the log cannot be read: {error}") from error

    async def expire(self) -> None:
        """Drops what is over, as `Retention` says. Happens by itself every minute."""
        places = (self._opened or await self._open()).file.topics.values()
        await self._retention.expire(places, self._now_ms())

    async def ping(self) -> None:
        """Raises Unavailable unless a write and a read succeed within 2 s."""
        try:
            async with asyncio.timeout(self._timing.ping_timeout_s):
                await self.run(partial(sql.touch, at_ms=self._now_ms()), durable=True)
                await self._look([0])
        except TimeoutError as error:
            raise Unavailable(
                f"the log did not answer within {self._timing.ping_timeout_s:.0f} s"
            ) from error

    async def close(self) -> None:
        """Waits for appends under way (at most 10 s), ends consumers, closes the file and releases
        the data folder.
        """
        async with self._opening:
            self._closed = True
            for group in self._groups.values():
                group.close()
            if self._opened is not None:
                opened, self._opened = self._opened, None
                await opened.close()
            if self._owner_lock is not None:
                os.close(self._owner_lock)
                self._owner_lock = None

    async def _open(self) -> _Opened:
        async with self._opening:
            if self._closed:
                raise Unavailable("the log is closed")
            if self._opened is None:
                file = await asyncio.to_thread(sql.LogFile, self._path, self._partitions)
                tail = Tail(stored=file.stored, read=self._read, look=self._look)
                try:
                    self._not_below(await asyncio.to_thread(file.newest_ms))
                    self._opened = _Opened(file, tail, self.clock, self._timing)
                except sqlite3.Error as error:
                    raise Unavailable(f"{self._path} cannot be opened: {error}") from error
                self._opened.expiry = asyncio.create_task(self._keep_expiring())
            return self._opened

    async def _place(self, topic: str) -> Place:
        return (self._opened or await self._open()).file.place(topic)

    async def _look(self, slots: Collection[int]) -> dict[int, Bounds]:
        return await self.query(lambda connection: sql.bounds(connection, slots))

    async def _read(
        self, slot: int, offset: int, max_records: int, max_bytes: int
    ) -> list[ConsumerRecord]:
        file = (self._opened or await self._open()).file
        return await self.query(
            lambda connection: file.read(connection, slot, offset, max_records, max_bytes)
        )

    async def query(self, question: Callable[[sqlite3.Connection], Result]) -> Result:
        """Answers a question in the reading thread."""
        opened = self._opened or await self._open()
        try:
            async with asyncio.timeout(self._timing.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(
                    opened.executor, question, opened.connection
                )
        except sqlite3.Error as error:
            raise Unavailable(f"the log cannot be read: {error}") from error
        except TimeoutError as error:
            raise Unavailable(
                f"the log did not answer within {self._timing.timeout_s:.0f} s"
            ) from error

    def _slot(self, file: sql.LogFile, record: ProducerRecord, key: bytes | None) -> int:
        place = file.topics.get(record.topic)
        if place is None:
            raise Malformed(f"there is no topic {record.topic}", field="topic")
        if record.partition is not None:
            return place.slot(record.partition)
        # Without a key all records of a call share a partition, which changes with each call: the
        # fewest pages per group.
        return place.first_slot + (
            self._turn % place.partitions if key is None else partition_of(key, place.partitions)
        )

    def _now_ms(self) -> int:
        return int(self.clock() * 1000)

    async def _keep_expiring(self) -> None:
        while True:
            await asyncio.sleep(self._timing.expiry_interval_s)
            try:
                await self.expire()
            except Unavailable as error:
                log.warning(
                    "nothing was expired, next try in a minute", extra={"reason": error.message}
                )


class _Opened:
    """What belongs to an opened file.

    Reads have a thread and a connection of their own, so they never wait for a write.
    """

    expiry: asyncio.Task[None]

    def __init__(
        self, file: sql.LogFile, tail: Tail, clock: Callable[[], float], timing: Timing
    ) -> None:
        self.file = file
        self.tail = tail
        self.executor = ThreadPoolExecutor(1, "log-reader")
        self.connection = file.connect()
        self.connection.execute("PRAGMA query_only = ON")
        self.inline_connection = file.connect()
        self.inline_connection.execute("PRAGMA query_only = ON")
        self.writer = Writer(file, tail, clock, timing)

    async def close(self) -> None:
        self.expiry.cancel()
        await asyncio.wait([self.expiry])
        self.tail.close()
        await asyncio.to_thread(self.executor.shutdown)
        self.connection.close()
        self.inline_connection.close()
        await self.writer.close()
