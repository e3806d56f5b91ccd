"""Commands: who may ask for what, and who is told.

`send` is the one way from what clients want to what is so. Deliveries are appended and confirmed
first, outcomes after them: who finds an outcome in chat-messages may take it that people were told.
Verdicts are per command (design.md D11b): one that cannot be decided now, or ever, never holds up
others. What has to wait does so in chat-retries, whose source is another's: there only those wait
for each other that cannot be decided.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from backends.telemetry.metrics import count
from functions.domain.policy import check_known, members_of
from functions.domain.records import Writer, was_parked
from functions.runtime.event_handler import on_event, reason_of
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.commands import check_command, spec_of, taken_back
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import UserId
from schemas.kinds import CHANGES
from schemas.topics import COMMANDS, DELIVERIES, MAX_BATCH_BYTES, RETRIES

if TYPE_CHECKING:
    from functions.runtime.context import Context

log = logging.getLogger(__name__)


async def decide(
    commands: Sequence[pb.Command], writer: Writer, context: Context, *, again: bool = False
) -> None:
    """Decides each command, appends what follows, and returns when the log has confirmed it.

    A command that cannot be decided now, because a store does not answer or the message that it
    changes is still on its way to history, goes alone to chat-retries; one that came alone from
    there (`again`) raises Unavailable. One that raises anything else goes there too when others
    came with it; alone in its event it raises here. Raises Unavailable when the log does not
    confirm: then everything is done again, with the same ids.
    """
    if not commands:
        raise Malformed("an event of commands without a command", field="commands")
    meant = [_others(command) for command in commands]
    people = {person for others in meant if not isinstance(others, Refused) for person in others}
    known = await context.policy.known(people, context.backends.accounts, wait=again)
    changes = [
        command
        for command, others in zip(commands, meant, strict=True)
        if command.WhichOneof("body") in CHANGES and not isinstance(others, Refused)
    ]
    check = await context.changes.checks(changes) if changes else _nothing
    deliveries: list[pb.Delivery] = []
    outcomes: list[pb.Outcome] = []
    parked: list[pb.Command] = []
    for command, others in zip(commands, meant, strict=True):
        try:
            told, refused = _decide(command, others, known, check)
        except Exception as error:
            if len(commands) == 1 and (again or not isinstance(error, Unavailable)):
                raise
            _log_parked(command, error)
            parked.append(command)
        else:
            deliveries += told
            outcomes.append(pb.Outcome(command=command, refused=refused))
    partitions = await context.backends.reads.partitions(DELIVERIES)
    records = [*writer.deliveries(deliveries, partitions), *map(writer.retry, parked)]
    await context.backends.appends.append(records, then=writer.outcomes(outcomes))
    for became, number in Counter(outcome.refused or "accepted" for outcome in outcomes).items():
        count("knchat_commands_total", number, became=became)
    count("knchat_commands_total", len(parked), became="set_aside")


def _others(command: pb.Command) -> list[UserId] | Refused:
    """Whom the command is for besides who asks; what is wrong with it, for when its turn comes."""
    try:
        return [
            member
            for member in members_of(check_command(command), UserId(command.user))
            if member != command.user
        ]
    except Refused as refusal:
        return refusal


def _nothing(_command: pb.Command) -> None:
    """Nothing is changed, so nothing is checked."""


def _decide(
    command: pb.Command,
    others: list[UserId] | Refused,
    known: Mapping[UserId, bool | None],
    check: Callable[[pb.Command], None],
) -> tuple[list[pb.Delivery], str]:
    """Who is told what, and the code of the refusal, empty when there is none.

    Raises Malformed for what no gateway writes, Unavailable when a store has to be asked and does
    not answer.
    """
    if command.ByteSize() > MAX_BATCH_BYTES:
        raise Malformed("the command is greater than a whole batch may be")
    try:
        if isinstance(others, Refused):
            raise others
        check_known(others, known)
        check(command)
    except Malformed:
        raise
    except Refused as refusal:
        told = _refused(command, refusal.code)
        if (back := taken_back(command, refusal.code)) is not None and not isinstance(
            others, Refused
        ):
            told.append(spec_of(back).deliver(back, [UserId(command.user), *others]))
        return told, refusal.code
    return [spec_of(command).deliver(command, [UserId(command.user), *others])], ""


def _refused(command: pb.Command, code: str) -> list[pb.Delivery]:
    if not command.key:
        return []  # a watermark: its client has nothing to show and nothing to send again
    refused = pb.Refused(chat=command.chat, message=command.id, key=command.key, code=code)
    return [pb.Delivery(users=[command.user], refused=refused)]


def _log_parked(command: pb.Command, error: Exception) -> None:
    place = {"command": command.id, "user_id": command.user}
    match error:
        case Unavailable():
            log.info("command parked for retry", extra={**place, "why": error.message})
        case Refused():
            log.warning(
                "command parked for retry, it can never be right",
                extra={**place, "reason": reason_of(error)},
            )
        case _:
            log.error("bug: command parked for retry", extra=place, exc_info=error)


@on_event(pb.Commands, COMMANDS, RETRIES)
async def send(commands: pb.Commands, event: Event, context: Context) -> None:
    """Target: inboxes `chat-commands` and `chat-retries`.

    Tells people, and writes what became of each command.
    """
    await decide(commands.commands, Writer("send", event), context, again=was_parked(event))
