"""One consumer of kafka-python in a thread of its own, which polls until closed: a member of a
group must, to stay one.

What the event loop wants of the consumer the thread does between two polls. Its partitions are
paused: these members own, and read nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from kafka import KafkaConsumer
from kafka import errors as kafka_errors

from backends.log import Evicted
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.records import POLL_TIMEOUT_MS
from schemas.errors import ChatError, Unavailable

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_CLOSE_TIMEOUT_MS: Final = 2_000
ANSWER_TIMEOUT_S: Final = 30.0
"""A command has its answer within this: making a consumer takes up to 9 s when brokers are slow, a
question to them 5.
"""
MAX_STALLED_CHECKS: Final = 3
"""So many looks may find that the thread has not come round since the one before: more, and it
hangs, and not the whole process.
"""
_RETRY_DELAY_S: Final = 0.1


class ConsumerThread:
    """Belongs to the event loop that made it.

    `each_turn` runs in the thread between polls, with the consumer.
    """

    def __init__(
        self,
        make: Callable[[], KafkaConsumer],
        *,
        brokers: Brokers,
        topic: str,
        each_turn: Callable[[KafkaConsumer], None] | None = None,
        ended: Callable[[], None] | None = None,
        end_timeout_s: float,
    ) -> None:
        self._end_timeout_s = end_timeout_s
        self.closed = False
        self.error: Exception | None = None
        """Why the thread has ended: ours, or Evicted."""
        self._make, self._brokers, self._topic = make, brokers, topic
        self._each_turn, self._at_end = each_turn, ended
        self._loop = asyncio.get_running_loop()
        self._turns, self._turns_seen, self._stalled_checks = 0, 0, 0
        self._commands: SimpleQueue[Callable[[KafkaConsumer], None] | None] = SimpleQueue()
        self._asked: set[asyncio.Future[Any]] = set()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"kafka-{topic}", daemon=True)

    async def start(self, first: Callable[[KafkaConsumer], Result]) -> Result:
        """Connects and runs `first` before all else.

        Raises Unavailable, and Malformed when a setting is wrong.
        """
        self._thread.start()
        return await self.do(first)

    async def do(self, command: Callable[[KafkaConsumer], Result]) -> Result:
        """What the command returns, run in the thread between two polls.

        Raises Unavailable when the thread has ended or hangs.
        """
        if self._ended.done():
            raise self.error or Unavailable("the log is closed")
        future: asyncio.Future[Result] = self._loop.create_future()

        def run(consumer: KafkaConsumer) -> None:
            try:
                with self._brokers.errors():
                    result = command(consumer)
            except ChatError as error:
                self.call_soon(_settle, future, error, None)
            else:
                self.call_soon(_settle, future, None, result)

        self._asked.add(future)
        self._commands.put(run)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await future
        except TimeoutError as error:
            raise Unavailable("Kafka does not answer in time") from error
        finally:
            self._asked.discard(future)

    def check(self) -> None:
        """Called every 10 s while nothing is heard of the thread.

        Raises Unavailable when it hangs: kafka-python should not, but may.
        """
        self._stalled_checks = self._stalled_checks + 1 if self._turns == self._turns_seen else 0
        self._turns_seen = self._turns
        if self._stalled_checks >= MAX_STALLED_CHECKS:
            log.error("a consumer thread of the log hangs", extra={"topic": self._topic})
            raise Unavailable("a consumer thread of the log hangs")

    async def close(self) -> None:
        """Ends the thread after the present poll (at most 250 ms) and closes the connections.

        One that hangs is left to itself.
        """
        self.closed = True
        self._commands.put(None)
        if self._thread.ident is not None:
            await asyncio.wait([self._ended], timeout=self._end_timeout_s)

    def _end(self, error: Exception | None) -> None:
        self.error = error
        self._ended.set_result(None)
        for future in self._asked:
            _settle(future, error or Unavailable("the log is closed"), None)
        if self._at_end is not None:
            self._at_end()

    # ---- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with self._brokers.errors():
                consumer = self._make()
                try:
                    while self._run_commands(consumer):
                        self._poll(consumer)
                finally:
                    consumer.close(autocommit=False, timeout_ms=_CLOSE_TIMEOUT_MS)
        except (ChatError, Evicted) as caught:
            error = caught
        except Exception as caught:
            log.exception("a thread that reads the log has failed", extra={"topic": self._topic})
            error = Unavailable(f"the log cannot be read ({type(caught).__name__})")
        self.call_soon(self._end, error)

    def _run_commands(self, consumer: KafkaConsumer) -> bool:
        """Does what the loop asks for, and says whether to go on."""
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return True
            if command is None:
                return False
            command(consumer)

    def _poll(self, consumer: KafkaConsumer) -> None:
        self._turns += 1
        if self._each_turn is not None:
            self._each_turn(consumer)
        try:
            consumer.poll(timeout_ms=POLL_TIMEOUT_MS)
        except kafka_errors.FencedInstanceIdError as error:
            raise Evicted("another process has this member's place in the group") from error
        except kafka_errors.RetriableError:
            # The brokers are unavailable or move something: kafka-python finds them again.
            time.sleep(_RETRY_DELAY_S)

    def call_soon(self, callback: Callable[..., None], *args: object) -> None:
        """Has the event loop call that, from any thread."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed
            self._commands.put(None)


def _settle(future: asyncio.Future[Any], error: Exception | None, result: object) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
