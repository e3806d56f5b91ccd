"""Queries into the log: pages, lists of chats, digests.

The answers come back through session-deliveries, to the session that asked. A query is not
repeated: its client gets `unavailable` and asks again. Source: design.md section 2 and D1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from backends.log import LogProducer, ProducerRecord
from backends.telemetry import tracing
from backends.telemetry.metrics import count
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.micro_batcher import MicroBatcher, in_halves
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.errors import ChatError, Unavailable
from schemas.ids import random_id, time_text
from schemas.topics import QUERIES, QUERIES_ASKED

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Asked:
    query: pb.Query
    size: int
    came_s: float
    failed: Callable[[ChatError], None] | None

    def fail(self, error: ChatError) -> None:
        """Calls back once."""
        failed, self.failed = self.failed, None
        if failed is not None:
            failed(error)


class Queries:
    """One queue of questions and a few publishes in flight.

    Belongs to one event loop; `clock` is monotonic.
    """

    def __init__(
        self,
        appends: LogProducer,
        message_ids: MessageIds,
        *,
        in_flight: int,
        apart_s: float = 0.0,
        clock: Callable[[], float],
    ) -> None:
        self._appends = appends
        self._message_ids = message_ids
        self._clock = clock
        self._batcher = MicroBatcher[_Asked](
            self._publish,
            lambda asked: asked.fail(_timed_out()),
            in_flight=in_flight,
            apart_s=apart_s,
        )

    def ask(self, query: pb.Query, failed: Callable[[ChatError], None]) -> None:
        """Sends the question.

        `failed` is called at most once, when it did not get into the log; the answer comes another
        way. Malformed: the log does not take this one, whatever travels with it. Unavailable: it
        may be there all the same.
        """
        now_s = self._clock()
        if self._batcher.is_late(now_s):
            failed(_timed_out())
        else:
            self._batcher.put(_Asked(query, query.ByteSize() + 4, now_s, failed))

    def tick(self, now_s: float) -> None:
        """Called some times a second: drops what has waited too long.

        Its session tells, by its own deadline.
        """
        self._batcher.tick(now_s)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._batcher.close()

    async def _publish(self, batch: Sequence[_Asked]) -> None:
        with tracing.span(f"publish {QUERIES}", "producer") as span:
            await in_halves(
                batch, partial(self._append, span), lambda asked, error: asked.fail(error)
            )

    async def _append(self, span: tracing.Span, batch: Sequence[_Asked]) -> None:
        try:
            await self._appends.append([ProducerRecord(QUERIES, self._event(batch, span))])
        except Unavailable as error:
            span.fail(error.code)
            count("knchat_publish_failures_total")
            log.info(
                "questions not published", extra={"questions": len(batch), "error": error.message}
            )
            for asked in batch:
                asked.fail(_timed_out())

    def _event(self, batch: Sequence[_Asked], span: tracing.Span) -> Event:
        event = Event(
            id=str(random_id()),
            source=f"/gateways/{self._message_ids.generator}",
            type=QUERIES_ASKED.type,
            time=time_text(self._message_ids.now_ms()),
            dataschema=QUERIES_ASKED.dataschema,
            data=pb.Queries(schema=1, queries=[asked.query for asked in batch]).SerializeToString(),
            traceparent=span.traceparent,
        )
        tracing.note_published(span, QUERIES, event, len(batch))
        return event


def _timed_out() -> Unavailable:
    return Unavailable("the question could not be passed on, ask again")
