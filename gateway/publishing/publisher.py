"""Commands into the log: the promise behind every `ok`.

Connections submit, with a callback for what became of the command. A command gets its id here; a
keyed one is reserved in the cache before it is appended, so that a repeat finds its id whatever
happened to the first. What a command asks for is not known here. Source: design.md D1, D4.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from backends.cache import Cache, Claim, Held
from backends.concurrency import Backoff
from backends.log import LogProducer, ProducerRecord
from backends.telemetry import tracing
from backends.telemetry.metrics import count, observe
from gateway.publishing.idempotency import (
    Accepted,
    IdempotencyKeys,
    Known,
    Pending,
    Waiter,
)
from gateway.publishing.message_ids import MessageIds
from gateway.publishing.micro_batcher import TIMEOUT_S, MicroBatcher, in_halves
from gateway.publishing.reservations import KeyReservations
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.commands import content_hash
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import MessageId, UserId, time_text
from schemas.topics import COMMANDS, COMMANDS_ISSUED

log = logging.getLogger(__name__)

RETRY: Final = Backoff(first_s=0.1, max_s=2.0)


class Publisher:
    """One queue of commands and a few publishes in flight.

    Belongs to one event loop; `clock` is monotonic.
    """

    def __init__(
        self,
        appends: LogProducer,
        cache: Cache,
        message_ids: MessageIds,
        *,
        in_flight: int,
        apart_s: float = 0.0,
        clock: Callable[[], float],
    ) -> None:
        self._appends = appends
        self._reservations = KeyReservations(cache, clock=clock)
        self._message_ids = message_ids
        self._clock = clock
        self._keys = IdempotencyKeys()
        self._batcher = MicroBatcher[Pending](
            self._publish, self._on_failed, in_flight=in_flight, apart_s=apart_s
        )
        self._published = 0
        self._closing = False

    def submit(self, command: pb.Command, waiter: Waiter) -> None:
        """Takes a command without id.

        `waiter` is called exactly once, unless the gateway stops: then the outcome is unknown.
        Accepted: it is in the log. key_reused: the key stands for something else, nothing was
        appended. Malformed: the log takes this one never, whatever travels with it. Unavailable:
        the outcome is unknown.
        """
        now_s = self._clock()
        known = self._keys.get(command.user, command.key, now_s) if command.key else None
        content = content_hash(command) if command.key else b""
        if known is not None:
            if known.content != content:
                waiter(_reused())
                return
            if known.pending is not None:
                known.pending.waiters.append(waiter)
                return
            if known.confirmed:
                waiter(Accepted(known.id, duplicate=True))
                return
        try:
            self._check_room(now_s)
            command.id = self._message_ids.next_id() if known is None else known.id
        except Unavailable as error:
            waiter(error)
            return
        pending = Pending(
            command, command.ByteSize() + 4, now_s, known, [waiter], duplicate=known is not None
        )
        if command.key:
            if known is None:
                pending.known = known = Known(MessageId(command.id), content, now_s)
                self._keys.put(command.user, command.key, known)
            known.pending = pending
        self._batcher.put(pending)

    def on_command_failed(self, user: int, key: str) -> None:
        """A command that was in the log could not be processed: a repeat of its key must append it
        again.
        """
        known = self._keys.get(user, key, self._clock())
        if known is not None:
            known.confirmed = False
        self._reservations.release(user, key)

    def tick(self, now_s: float) -> None:
        """Called some times a second: tells those who have waited too long, and confirms what no
        next batch has confirmed.
        """
        for pending in self._batcher.tick(now_s):
            self._give_up(pending, never_left=not pending.duplicate)
        for batch in self._batcher.under_way:
            for pending in batch:
                if pending.waiters and now_s - pending.came_s >= TIMEOUT_S:
                    pending.settle(_timed_out())
                    pending.duplicate = True  # what joins it now repeats
        self._reservations.tick(now_s)

    async def flush(self) -> None:
        """Returns when everything submitted is in the log and confirmed."""
        await self._batcher.flush()
        await self._reservations.flush()

    async def finish(self) -> None:
        """Takes nothing more, and returns when all that was taken is in the log and confirmed."""
        self._closing = True
        await self.flush()

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._batcher.close()
        self._reservations.close()

    # ---- one batch -------------------------------------------------------------------------------

    async def _publish(self, batch: list[Pending]) -> None:
        try:
            with tracing.span(f"publish {COMMANDS}", "producer") as span:
                if to_append := await self._reserve(batch):
                    await in_halves(to_append, partial(self._append, span), self._refuse)
        finally:
            for pending in batch:
                if pending.known is not None and pending.known.pending is pending:
                    # Given up: whether the log has it is unknown, so a repeat appends the same id.
                    pending.known.pending = None

    def _on_failed(self, pending: Pending) -> None:
        pending.settle(_timed_out())

    def _refuse(self, pending: Pending, error: Malformed) -> None:
        count("knchat_refused_commands_total")
        log.warning(
            "the log refuses a command for good",
            extra={"bytes": pending.size, "error": error.message},
        )
        if pending.known is not None:
            # Its id stays reserved: should it be asked for again, and be taken, that is its one id.
            pending.known.pending = None
        pending.settle(error)

    def _check_room(self, now_s: float) -> None:
        if self._closing:
            raise Unavailable(
                "this gateway is stopping: repeat with the same key elsewhere", code="starting"
            )
        if self._batcher.is_late(now_s):
            raise _timed_out()

    async def _reserve(self, batch: list[Pending]) -> list[Pending]:
        """Asks the cache who holds the keys; what is left to append, each with the id that its key
        stands for.
        """
        claims = [_claim(pending) for pending in batch if pending.known is not None]
        held = await self._reservations.reserve(claims)
        if held is None:
            return batch
        holders = iter(held)
        return [
            pending
            for pending in batch
            if pending.known is None or self._resolve(pending, pending.known, next(holders))
        ]

    def _resolve(self, pending: Pending, known: Known, holder: Held) -> bool:
        """Whether the command is still to be appended, now that the cache has said who holds its
        key.
        """
        if holder.fresh:
            return True
        # An id of another gateway, or of a life before: what is made after its `ok` must be
        # greater.
        if not self._message_ids.advance(holder.id):
            count("knchat_ids_ahead_total", where="cache")
        if holder.content != known.content:
            known.id, known.content, known.confirmed, known.pending = (
                holder.id,
                holder.content,
                holder.confirmed,
                None,
            )
            pending.settle(_reused())
            return False
        pending.command.id = known.id = holder.id
        pending.duplicate = True
        if holder.confirmed and not self._reservations.has_failed(
            pending.command.user, pending.command.key
        ):
            self._settle(pending)
            return False
        return True

    def _record(self, batch: Sequence[Pending], span: tracing.Span) -> ProducerRecord:
        self._published += 1
        data = pb.Commands(
            schema=1, commands=[pending.command for pending in batch]
        ).SerializeToString()
        event = Event(
            # A command that is appended again must not lend its id to another event: hence the
            # number.
            id=f"{batch[0].command.id}-{self._published}",
            source=f"/gateways/{self._message_ids.generator}",
            type=COMMANDS_ISSUED.type,
            time=time_text(self._message_ids.now_ms()),
            dataschema=COMMANDS_ISSUED.dataschema,
            data=data,
            traceparent=span.traceparent,
        )
        tracing.note_published(span, COMMANDS, event, len(batch))
        return ProducerRecord(COMMANDS, event)

    async def _append(self, span: tracing.Span, batch: Sequence[Pending]) -> None:
        """Returns when the log has these commands, in one record, and their waiters are called.

        Raises Malformed: it never takes them. The same bytes go again as long as this gateway
        lives: the log may have them already, and only its answer ends the doubt. No caller waits
        for it longer than TIMEOUT_S, and no more than the batches in flight hang here.
        """
        record = self._record(batch, span)
        failures = 0
        began_s = self._clock()
        while True:
            try:
                await self._appends.append([record])
            except Unavailable as error:
                count("knchat_publish_failures_total")
                wait_s = RETRY.delay_s(failures)
                text = "publish failed, again in a moment"
                log.info(
                    text,
                    extra={
                        "event": record.event.id,
                        "error": error.message,
                        "wait_s": round(wait_s, 2),
                    },
                )
            else:
                break
            await asyncio.sleep(wait_s)
            failures += 1
        count("knchat_publishes_total")
        count("knchat_published_commands_total", len(batch))
        observe("knchat_publish_seconds", self._clock() - began_s)
        self._reservations.confirm_later(
            [_claim(pending) for pending in batch if pending.known is not None]
        )
        for pending in batch:
            self._settle(pending)

    def _settle(self, pending: Pending) -> None:
        if pending.known is not None:
            pending.known.pending, pending.known.confirmed = None, True
        pending.settle(Accepted(MessageId(pending.command.id), pending.duplicate))

    def _give_up(self, pending: Pending, *, never_left: bool) -> None:
        if pending.known is not None:
            pending.known.pending = None
            if never_left:
                self._keys.forget(pending.command.user, pending.command.key)
        pending.settle(_timed_out())


def _claim(pending: Pending) -> Claim:
    known, command = pending.known, pending.command
    assert known is not None  # noqa: S101 - only keyed commands are claimed
    return Claim(UserId(command.user), command.key, known.id, known.content)


def _reused() -> Refused:
    return Refused("key_reused", "this key was used for something else within 24 h", field="key")


def _timed_out() -> Unavailable:
    return Unavailable(
        "the log does not answer in time: the outcome is unknown, repeat with the same key"
    )
