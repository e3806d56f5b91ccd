"""Watches what aiokafka fetches: should its task end or hang, a consumer would wait without an
error.

Consumers have one each; both begin anew with another consumer when it says that theirs is stalled.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as aio_errors

from schemas.errors import Unavailable

log = logging.getLogger(__name__)

_ASK_TIMEOUT_S: Final = 5.0


class FetchWatch:
    """Of one consumer, from its making to `close`.

    Its user says with `polled` what each poll gave.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, interval_s: float) -> None:
        self._interval_s = interval_s
        self._stalled = False
        self._consumer = consumer
        self._empty, self._found = False, False
        self._task = asyncio.create_task(self._watch())

    def polled(self, *, found: bool) -> None:
        """A poll has ended, with records or without.

        Raises Unavailable when a partition has held more for 10 s and no poll has given anything
        since.
        """
        if found:
            self._found = True
        else:
            self._empty = True
        if self._stalled:
            raise Unavailable("fetching from Kafka is stalled")

    async def close(self) -> None:
        """Looks no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _watch(self) -> None:
        behind: dict[object, int] = {}
        while not self._stalled:
            self._empty, self._found = False, False
            await asyncio.sleep(self._interval_s)
            try:
                async with asyncio.timeout(_ASK_TIMEOUT_S):
                    places = self._consumer.assignment()
                    at = {place: await self._consumer.position(place) for place in places}
                    ends = await self._consumer.end_offsets(places) if places else {}
            except (
                aio_errors.KafkaError,
                TimeoutError,
            ):
                # The brokers are unavailable, or partitions move: that is not what is looked for.
                behind = {}
                continue
            stuck = [place for place, position in at.items() if behind.get(place) == position]
            if stuck and self._empty and not self._found:
                self._stalled = True
                log.error(
                    "fetching from Kafka is stalled, a new consumer takes its place",
                    extra={"partitions": len(stuck)},
                )
            behind = {
                place: position
                for place, position in at.items()
                if position < ends.get(place, position)
            }
