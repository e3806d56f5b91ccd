"""One consumer in a thread of its own: polls for ever and hands records to the event loop, once a poll.

What the loop wants of the consumer (other partitions, a commit) the thread does between two polls. When the loop does not keep up,
partitions are paused: a member of a group must poll to stay one. Followers, members and sharers are made of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from kafka import KafkaConsumer
from kafka import errors as kafka_errors

from backends.log import Evicted, Stored
from backends.log.kafka_brokers import REQUEST_MS, Brokers
from schemas.errors import ChatError, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How long a poll waits for news, and so how long a command may wait for its turn. An idle follower costs 7 ms of CPU a second (measured).
POLL_MS: Final = 250
POLL_RECORDS: Final = 500
BATCH_BYTES: Final = 2**20
# What may lie ready on the loop's side; then partitions are paused.
_HELD_RECORDS: Final = 2 * POLL_RECORDS
_HELD_BYTES: Final = 4 * BATCH_BYTES
_CLOSE_MS: Final = 2_000
_AGAIN_S: Final = 0.1


def stored_of(topic: str, record: Any) -> Stored:
    """A record of kafka-python as ours; `topic` without the prefix."""
    headers = [(name, b"" if value is None else value) for name, value in record.headers]
    return Stored(topic, record.partition, record.offset, record.timestamp, record.key, headers, record.value)


def bytes_of(stored: Stored) -> int:
    """What a record counts against limits in bytes."""
    return len(stored.key or b"") + len(stored.value or b"") + sum(len(name) + len(value) for name, value in stored.headers)


class ConsumerThread:
    """Belongs to the event loop that made it. `each_turn` runs in the thread between polls, with the consumer."""

    def __init__(
        self,
        make: Callable[[], KafkaConsumer],
        *,
        brokers: Brokers,
        topic: str,
        each_turn: Callable[[KafkaConsumer], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self.closed = False
        self.error: Exception | None = None
        """Why the thread has ended: ours, or Evicted."""
        self.partitions: frozenset[int] | None = None
        """Records of others are dropped; None: none are."""
        self._make, self._brokers, self._topic = make, brokers, topic
        self._each_turn, self._at_end = each_turn, ended
        self._loop = asyncio.get_running_loop()
        self._commands: SimpleQueue[Callable[[KafkaConsumer], None] | None] = SimpleQueue()
        self._asked: set[asyncio.Future[Any]] = set()
        self._held: deque[tuple[Stored, int]] = deque()
        self._held_bytes = 0
        self._news = asyncio.Event()
        self._paused = False
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{topic}", daemon=True)

    async def start(self, first: Callable[[KafkaConsumer], Result]) -> Result:
        """Connects and runs `first` before all else. Raises Unavailable, and Malformed when a setting is wrong."""
        self._thread.start()
        return await self.do(first)

    async def do(self, command: Callable[[KafkaConsumer], Result]) -> Result:
        """What the command returns, run in the thread between two polls. Raises Unavailable when the thread has ended."""
        if self._ended.done():
            raise self.error or Unavailable("the log is closed")
        future: asyncio.Future[Result] = self._loop.create_future()

        def run(consumer: KafkaConsumer) -> None:
            try:
                with self._brokers.errors():
                    result = command(consumer)
            except ChatError as error:
                self.tell(_settle, future, error, None)
            else:
                self.tell(_settle, future, None, result)

        self._asked.add(future)
        self._commands.put(run)
        try:
            return await future
        finally:
            self._asked.discard(future)

    async def next(self, max_records: int, max_bytes: int, *, wait_s: float | None = None) -> list[Stored]:
        """Records as they came; none when nothing came within that time. Raises Unavailable when the thread has failed or is closed."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._held and not self._ended.done():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return []
        if self.closed or not self._held:
            raise self.error or Unavailable("the log is closed")
        was_full = self._full
        batch: list[Stored] = []
        while self._held and len(batch) < max_records and (not batch or max_bytes >= self._held[0][1]):
            stored, size = self._held.popleft()
            batch.append(stored)
            max_bytes -= size
            self._held_bytes -= size
        if was_full and not self._full:
            self._commands.put(_nothing)  # wakes the thread
        return batch

    def keep_only(self, partitions: Iterable[int]) -> None:
        """Hands over nothing of other partitions from now on."""
        self.partitions = frozenset(partitions)
        self._held = deque(item for item in self._held if item[0].partition in self.partitions)
        self._held_bytes = sum(size for _, size in self._held)

    async def close(self) -> None:
        """Ends the thread after the present poll (at most 250 ms) and lets go of the connections."""
        self.closed = True
        self._commands.put(None)
        if self._thread.ident is not None:
            await asyncio.wait([self._ended])

    @property
    def _full(self) -> bool:
        return len(self._held) >= _HELD_RECORDS or self._held_bytes >= _HELD_BYTES

    def _take(self, records: Sequence[Stored]) -> None:
        for stored in records:
            if self.partitions is None or stored.partition in self.partitions:
                size = bytes_of(stored)
                self._held.append((stored, size))
                self._held_bytes += size
        self._news.set()

    def _end(self, error: Exception | None) -> None:
        self.error = error
        self._ended.set_result(None)
        for future in self._asked:
            _settle(future, error or Unavailable("the log is closed"), None)
        self._news.set()
        if self._at_end is not None:
            self._at_end()

    # ---- in the thread -------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with self._brokers.errors():
                consumer = self._make()
                try:
                    while self._obey(consumer):
                        self._poll(consumer)
                finally:
                    consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        except (ChatError, Evicted) as caught:
            error = caught
        except Exception as caught:
            log.exception("a thread that reads the log has failed", extra={"topic": self._topic})
            error = Unavailable(f"the log cannot be read ({type(caught).__name__})")
        self.tell(self._end, error)

    def _obey(self, consumer: KafkaConsumer) -> bool:
        """Does what the loop asks for, and says whether to go on. Waits a while when the loop has enough."""
        wait = self._full
        while True:
            try:
                command = self._commands.get(timeout=POLL_MS / 1000) if wait else self._commands.get_nowait()
            except Empty:
                return True
            if command is None:
                return False
            command(consumer)
            wait = False

    def _poll(self, consumer: KafkaConsumer) -> None:
        if self._each_turn is not None:
            self._each_turn(consumer)
        full = self._full
        if full:
            consumer.pause(*consumer.assignment())
        elif self._paused:
            consumer.resume(*consumer.paused())
        self._paused = full
        try:
            polled = consumer.poll(timeout_ms=0 if full else POLL_MS, max_records=POLL_RECORDS)
        except kafka_errors.OffsetOutOfRangeError as error:
            _go_to_the_oldest(consumer, error)
        except kafka_errors.FencedInstanceIdError as error:
            raise Evicted("another process has this member's place in the group") from error
        except kafka_errors.RetriableError:  # the brokers are away or move something: kafka-python finds them again
            time.sleep(_AGAIN_S)
        else:
            if polled:
                self.tell(self._take, [stored_of(self._topic, record) for records in polled.values() for record in records])

    def tell(self, callback: Callable[..., None], *args: object) -> None:
        """Has the event loop call that, from any thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed
            self._commands.put(None)


def _go_to_the_oldest(consumer: KafkaConsumer, error: kafka_errors.OffsetOutOfRangeError) -> None:
    """Retention was faster than the reader. Raises Unavailable when its offset lies beyond the end: then it is not the same log."""
    for place, offset in error.args[0].items():
        (begin,) = consumer.beginning_offsets([place], timeout_ms=REQUEST_MS).values()
        if offset > begin:
            raise Unavailable(f"{place.topic} ends before {offset}: it was deleted and made anew") from error
        log.warning(
            "records were gone before they were read", extra={"topic": place.topic, "partition": place.partition, "gone": begin - offset}
        )
        consumer.seek(place, begin)


def _settle(future: asyncio.Future[Any], error: Exception | None, result: object) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _nothing(_consumer: KafkaConsumer) -> None:
    """A command that only wakes the thread."""
