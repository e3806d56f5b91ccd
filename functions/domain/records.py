"""What a rule decided, as records for the log: grouped by partition, split below the record limit.

Every function that appends calls this. The ids are made from the event that caused them, so a
repeated event makes the same records again and readers of the topics can tell. What the messages
mean is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from backends.log import ProducerRecord
from backends.telemetry import tracing
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.ids import UserId
from schemas.topics import (
    ANSWERS_GIVEN,
    COMMANDS_ISSUED,
    DEAD_LETTERS,
    DELIVERIES,
    DELIVERIES_MADE,
    MAX_RECORD_BYTES,
    MESSAGES,
    OUTCOMES_DECIDED,
    RETRIES,
    SESSION_DELIVERIES,
    UPLOADS,
    UPLOADS_COMPLETED,
    EventType,
    user_partition,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

Item = TypeVar("Item")


_SOURCE: Final = "/functions/"


def was_parked(event: Event) -> bool:
    """Whether a function wrote the event: as an event of commands it comes from chat-retries then,
    gateways write the others.
    """
    return event.source.startswith(_SOURCE)


class Writer:
    """Makes the records that one function writes because of one event."""

    def __init__(self, function: str, cause: Event) -> None:
        self._source = f"{_SOURCE}{function}"
        self._cause = cause

    def deliveries(
        self, deliveries: Iterable[pb.Delivery], partitions: int
    ) -> list[ProducerRecord]:
        """For chat-deliveries, which has so many partitions: each partition gets one record with
        all that its users are told.
        """
        told: dict[int, list[pb.Delivery]] = {}
        for delivery in deliveries:
            for partition, users in _by_partition(delivery.users, partitions).items():
                told.setdefault(partition, []).append(
                    delivery if len(users) == len(delivery.users) else _only_for(users, delivery)
                )
        return [
            record
            for partition, parts in told.items()
            for record in self._records(
                DELIVERIES,
                DELIVERIES_MADE,
                f"d{partition}",
                parts,
                lambda items: pb.Deliveries(schema=1, deliveries=items),
                partition,
            )
        ]

    def outcomes(self, outcomes: Sequence[pb.Outcome]) -> list[ProducerRecord]:
        """For chat-messages; none for none."""
        if not outcomes:
            return []
        return list(
            self._records(
                MESSAGES,
                OUTCOMES_DECIDED,
                "o",
                outcomes,
                lambda items: pb.Outcomes(schema=1, outcomes=items),
            )
        )

    def answers(
        self, answers: Iterable[tuple[UserId, pb.Answer]], partitions: int, *, turn: int = 0
    ) -> list[ProducerRecord]:
        """For session-deliveries, which has so many partitions: each partition gets the answers for
        its users.

        `turn`: of one event.
        """
        ids = f"a{turn}." if turn else "a"
        given: dict[int, list[pb.Answer]] = {}
        for user, answer in answers:
            given.setdefault(user_partition(user, partitions), []).append(answer)
        return [
            record
            for partition, parts in given.items()
            for record in self._records(
                SESSION_DELIVERIES,
                ANSWERS_GIVEN,
                f"{ids}{partition}",
                parts,
                lambda items: pb.Answers(schema=1, answers=items),
                partition,
            )
        ]

    def uploads(self, uploads: Sequence[pb.Upload]) -> list[ProducerRecord]:
        """For chat-uploads, an event each: what keeps one back keeps no other back."""
        return [
            ProducerRecord(
                UPLOADS,
                self._event(
                    UPLOADS_COMPLETED, f"u{upload.file}", pb.Uploads(schema=1, uploads=[upload])
                ),
            )
            for upload in uploads
        ]

    def retry(self, command: pb.Command, time: str | None = None) -> ProducerRecord:
        """One command alone, for chat-retries. `time`: of the event, else the cause's."""
        event = self._event(
            COMMANDS_ISSUED, str(command.id), pb.Commands(schema=1, commands=[command])
        )
        # It has gone round before: its name does not grow.
        if self._cause.id.endswith(f".{command.id}"):
            event = replace(event, id=self._cause.id)
        return ProducerRecord(RETRIES, event if time is None else replace(event, time=time))

    def again(self, event: Event, time: str) -> Event:
        """The event once more, as of this time."""
        return replace(event, source=self._source, time=time, traceparent=tracing.traceparent())

    def dead_letter(self, outcome: pb.Outcome, reason: str) -> ProducerRecord:
        """One outcome alone, for chat-dead-letters, with the attributes that the dispatcher gives a
        dead letter.
        """
        extensions = {"knativeerrordest": self._source, "knativeerrorcode": "422", "reason": reason}
        data = pb.Outcomes(schema=1, outcomes=[outcome])
        return ProducerRecord(
            DEAD_LETTERS, self._event(OUTCOMES_DECIDED, str(outcome.command.id), data, extensions)
        )

    def _event(
        self,
        event_type: EventType,
        suffix: str,
        message: Message,
        extensions: Mapping[str, str] | None = None,
    ) -> Event:
        return Event(
            id=f"{self._cause.id}.{suffix}",
            source=self._source,
            type=event_type.type,
            data=message.SerializeToString(),
            time=self._cause.time,
            dataschema=event_type.dataschema,
            extensions=extensions or {},
            traceparent=tracing.traceparent(),
        )

    def _records(
        self,
        topic: str,
        event_type: EventType,
        suffix: str,
        items: Sequence[Item],
        message: Callable[[Sequence[Item]], Message],
        partition: int | None = None,
    ) -> Iterator[ProducerRecord]:
        event = self._event(event_type, suffix, message(items))
        if len(event.data) <= MAX_RECORD_BYTES or len(items) == 1:
            yield ProducerRecord(topic, event, partition)
            return
        middle = len(items) // 2
        yield from self._records(
            topic, event_type, f"{suffix}.1", items[:middle], message, partition
        )
        yield from self._records(
            topic, event_type, f"{suffix}.2", items[middle:], message, partition
        )


def _by_partition(users: Iterable[int], partitions: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for user in users:
        found.setdefault(user_partition(user, partitions), []).append(user)
    return found


def _only_for(users: Iterable[int], delivery: pb.Delivery) -> pb.Delivery:
    part = pb.Delivery()
    part.CopyFrom(delivery)
    part.ClearField("users")
    part.users.extend(users)
    return part
