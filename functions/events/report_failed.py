"""Dead letters: what failed because a store was unavailable is tried again, as often as it takes;
senders of what failed for good are told.

Nothing is deleted: dead letters stay in their topic for `kn-chat dead-letters` and the audit. This
is where failures end, so it must never make one itself: whatever comes, the answer is 200, or 503
while the log is unavailable (design.md D11b). Reading the whole topic again does no harm: what has
an outcome, or was dead-lettered more than an hour ago, is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backends.dead_letters import event_of, is_transient, revived
from backends.log import ConsumerRecord, ProducerRecord
from backends.telemetry.metrics import count
from functions.domain.records import Writer
from functions.runtime.event_handler import on_dead_letter
from schemas import chat_pb2 as pb
from schemas import cloudevents
from schemas.cloudevents import Event
from schemas.commands import check_command
from schemas.deliveries import command_id_of
from schemas.errors import Malformed
from schemas.ids import time_text, unix_ms_of
from schemas.topics import (
    COMMANDS_ISSUED,
    DEAD_LETTERS,
    DELIVERIES,
    HISTORY_RETRIES,
    OUTCOMES_DECIDED,
    user_partition,
)

if TYPE_CHECKING:
    from backends.wiring import Backends
    from functions.runtime.context import Context

RECENT_MS: Final = 3_600_000
"""What was dead-lettered longer ago is news to no client: the topic is being read again, and the
audit finds what is missing.
"""
_MAX_CLOCK_SKEW_MS: Final = 60_000  # between the gateway that made an id and the log


async def report(letter: Event, writer: Writer, backends: Backends) -> None:
    """Does what is still to be done for a dead letter, and counts what that was.

    A dead batch's commands go to chat-retries one by one, and so does a single one, or a dead event
    of outcomes to chat-history-retries, that failed because a store was unavailable. The sender of
    a command that died for good is told `failed`, unless it has an outcome. Raises Malformed when
    the data are unreadable, Unavailable when the log does not answer.
    """
    count("knchat_dead_letters_total", became=await _outcome_of(letter, writer, backends))


async def _outcome_of(letter: Event, writer: Writer, backends: Backends) -> str:
    if letter.type not in {COMMANDS_ISSUED.type, OUTCOMES_DECIDED.type}:
        return "kept"
    if not await _is_recent(letter, backends):
        return "old"
    now = time_text(backends.clock.now_ms())
    if letter.type == OUTCOMES_DECIDED.type:
        if not is_transient(letter):
            return "kept"
        await backends.appends.append(
            [ProducerRecord(HISTORY_RETRIES, writer.again(revived(letter), now))]
        )
        return "retried"
    commands = cloudevents.parse(letter, pb.Commands).commands
    if not commands:
        raise Malformed("an event of commands without a command", field="commands")
    if len(commands) > 1 or is_transient(letter):
        await backends.appends.append([writer.retry(command, now) for command in commands])
        return "retried"
    return await _report_failure(commands[0], writer, backends)


async def _report_failure(command: pb.Command, writer: Writer, backends: Backends) -> str:
    """Tells the sender (push `failed`), if it still waits for an answer."""
    check_command(command)
    if not command.key:
        return "kept"  # a watermark: no client waits for it, and the next one says more
    if backends.clock.now_ms() - unix_ms_of(command.id) > RECENT_MS:
        return "old"
    partitions = await backends.reads.partitions(DELIVERIES)
    if await _has_outcome(command, user_partition(command.user, partitions), backends):
        return "decided"
    failed = pb.Delivery(
        users=[command.user], failed=pb.Failed(message=command.id, key=command.key)
    )
    await backends.appends.append(writer.deliveries([failed], partitions))
    return "told"


async def _is_recent(letter: Event, backends: Backends) -> bool:
    """Whether this lies in chat-dead-letters where it says, and not for long.

    What was never dead-lettered says no such place.
    """
    place = [
        letter.extensions.get(name, "") for name in ("knativekafkapartition", "knativekafkaoffset")
    ]
    if "knativeerrordest" not in letter.extensions or not all(part.isdecimal() for part in place):
        return False
    partition, offset = map(int, place)
    if partition >= await backends.reads.partitions(DEAD_LETTERS):
        return False
    for record in await backends.reads.read(DEAD_LETTERS, partition, offset, max_records=1):
        there = event_of(record)
        if record.offset == offset and (there.id, there.data) == (letter.id, letter.data):
            return backends.clock.now_ms() - record.at_ms <= RECENT_MS
    return False


async def _has_outcome(command: pb.Command, partition: int, backends: Backends) -> bool:
    """Whether the sender was told what became of the command: each outcome is a delivery to him
    first, and in this partition.
    """
    reads = backends.reads
    offset = (await reads.offsets_at(DELIVERIES, unix_ms_of(command.id) - _MAX_CLOCK_SKEW_MS))[
        partition
    ]
    end = (await reads.bounds(DELIVERIES, [partition]))[partition].end
    while offset < end:
        records = await reads.read(DELIVERIES, partition, offset, max_records=500)
        if not records:
            return False
        if any(_is_outcome(record, command) for record in records):
            return True
        offset = records[-1].offset + 1
    return False


def _is_outcome(record: ConsumerRecord, command: pb.Command) -> bool:
    try:
        deliveries = cloudevents.parse(event_of(record), pb.Deliveries).deliveries
    except Malformed:
        return False
    return any(
        command_id_of(told) == command.id and command.user in told.users for told in deliveries
    )


@on_dead_letter
async def report_failed(letter: Event, context: Context) -> None:
    """Target: inbox `chat-dead-letters`. Never answers 422."""
    await report(letter, Writer("report_failed", letter), context.backends)
