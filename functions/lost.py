"""Dead letters: the commands in them get one more chance alone, and those that have had it are told to their senders as `lost`.

Nothing is deleted: dead letters stay in their topic for `kn-chat dead-letters` and the audit. This is the end of the road for failures, so
it must never make one itself: whatever comes, the answer is 200, or 503 while the log is away (design.md D11b).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backends.telemetry import count
from functions.door import on_dead_letter
from functions.records import Writer
from schemas import chat_pb2 as pb
from schemas import wire
from schemas.checks import check_command
from schemas.errors import Malformed
from schemas.topics import COMMANDS_ISSUED, DELIVERIES
from schemas.wire import Event

if TYPE_CHECKING:
    from backends.wiring import Backends

# The URL of this function, however it is reached: http://report-lost.chat.svc.cluster.local, http://localhost/report_lost.
_MYSELF: Final = re.compile(r"report[-_]lost")


async def report(letter: Event, writer: Writer, backends: Backends) -> None:
    """Sends a dead batch's commands to chat-retries one by one, and tells `lost` to the sender of a command that died alone.

    Dead letters of other functions, and of this one, are counted and left where they are.
    Raises Malformed when the commands are unreadable, Unavailable when the log does not confirm.
    """
    if _MYSELF.search(letter.extensions.get("knativeerrordest", "")):
        count("knchat_dead_letters_total", became="my_own")
        return
    if letter.type != COMMANDS_ISSUED.type:
        count("knchat_dead_letters_total", became="kept")
        return
    commands = wire.parse(letter, pb.Commands).commands
    if not commands:
        raise Malformed("an event of commands without a command", field="commands")
    if len(commands) > 1:
        await backends.appends.append([writer.retry(command) for command in commands])
        count("knchat_dead_letters_total", became="retried")
        return
    (command,) = commands
    check_command(command)
    if command.key:  # a command without one is a watermark: nobody waits for it, and the next one says more
        lost = pb.Delivery(users=[command.user], lost=pb.Lost(message=command.id, key=command.key))
        await backends.appends.append(writer.deliveries([lost], await backends.reads.partitions(DELIVERIES)))
    count("knchat_dead_letters_total", became="told" if command.key else "kept")


@on_dead_letter
async def report_lost(letter: Event, backends: Backends) -> None:
    """Target: inbox `chat-dead-letters`. Never answers 422."""
    await report(letter, Writer("report_lost", letter), backends)
