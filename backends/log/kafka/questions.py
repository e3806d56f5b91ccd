"""Questions to Kafka from the event loop: one thread asks them in turn, and one that hangs holds up
the others for 10 s at most.

kafka-python has its own deadlines, but nothing makes it keep them. A call that is over ours is left
to itself, with its thread and its connections, and another thread goes on with new ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from backends.blocking import Blocking
from backends.log.kafka.brokers import Brokers
from backends.log.kafka.reader import Reader
from backends.log.kafka.timing import Timing
from schemas.errors import Unavailable

log = logging.getLogger(__name__)

MAX_HANGING: Final = 4
"""Threads that are left to themselves at once.

With more, something is wrong that new threads do not mend.
"""

Result = TypeVar("Result")


class Questions:
    """Belongs to one event loop.

    Opens nothing before the first question. `name` is the threads'.
    """

    def __init__(self, brokers: Brokers, name: str, timing: Timing) -> None:
        self._brokers, self._name = brokers, name
        self._timeout_s = timing.question_timeout_s
        self._hanging: list[_Worker] = []
        self._worker = _Worker(brokers, name, self._timeout_s)

    async def ask(
        self, question: Callable[[Reader], Result], *, timeout_s: float | None = None
    ) -> Result:
        """What the question returns.

        Raises Unavailable when it has no answer within the timeout, and Malformed when a setting is
        wrong.
        """
        worker = self._worker
        try:
            return await worker.ask(question, timeout_s or self._timeout_s)
        except Unavailable:
            if worker is self._worker and worker.hangs:
                self._replace(worker)
            raise

    async def close(self) -> None:
        """Waits for the question under way, at most 10 s, and closes the connections."""
        await self._worker.close()

    def _replace(self, worker: _Worker) -> None:
        self._hanging = [each for each in self._hanging if each.hangs]
        if len(self._hanging) >= MAX_HANGING:
            log.error("questions to Kafka hang", extra={"threads": len(self._hanging) + 1})
            return
        log.error(
            "a question to Kafka hangs, another thread goes on",
            extra={"asker": self._name, "for_s": self._timeout_s},
        )
        worker.given_up = True
        self._hanging.append(worker)
        self._worker = _Worker(self._brokers, self._name, self._timeout_s)


class _Worker:
    """One thread with its connections."""

    def __init__(self, brokers: Brokers, name: str, timeout_s: float) -> None:
        self.given_up = False
        self._timeout_s = timeout_s
        self.reader = Reader(brokers)
        self._thread = Blocking(name, threads=1, timeout_s=timeout_s, whom="Kafka")
        self._since_s: float | None = None

    @property
    def hangs(self) -> bool:
        """Whether the question that it is at is over its time."""
        since_s = self._since_s
        # Who waits for it counts from a moment before.
        return since_s is not None and time.monotonic() - since_s > 0.9 * self._timeout_s

    async def ask(self, question: Callable[[Reader], Result], timeout_s: float) -> Result:
        def in_thread() -> Result:
            self._since_s = time.monotonic()
            try:
                return self.reader.ask(lambda: question(self.reader))
            finally:
                self._since_s = None
                if self.given_up:
                    self.reader.close()

        return await self._thread.run(in_thread, timeout_s=timeout_s)

    async def close(self) -> None:
        await self._thread.close()
        if not self.hangs:
            await asyncio.to_thread(self.reader.close)
