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
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.telemetry.metrics import count
from functions.domain.group_commands import GroupView, others_of_mark, told_of_event, view_of
from functions.domain.policy import Verdict, is_told, members_of
from functions.domain.records import Writer, was_parked
from functions.runtime.event_handler import on_event, reason_of
from schemas import chat_pb2 as pb
from schemas.cloudevents import Event
from schemas.commands import changed_message, check_command, spec_of, taken_back
from schemas.errors import Malformed, Refused, Unavailable
from schemas.ids import ChatId, UserId
from schemas.kinds import CHANGES
from schemas.topics import COMMANDS, DELIVERIES, MAX_BATCH_BYTES, RETRIES

if TYPE_CHECKING:
    from backends.groups import Roster
    from backends.relations import HiddenReceipts, Pair
    from functions.runtime.context import Context
    from schemas.configuration import Values

log = logging.getLogger(__name__)

Decided = tuple[list[pb.Delivery], pb.Outcome]
"""What is told to whom, and the outcome, with the code of the refusal where there is one."""


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
    values = await _configured(commands, context)
    meant = [_others(command) for command in commands]
    pairs = {
        (UserId(command.user), other)
        for command, others in zip(commands, meant, strict=True)
        if not isinstance(others, Refused)
        for other in others
    }
    in_groups = await _InGroups.of(commands, context, wait=again)
    hidden = await in_groups.hidden(commands, context, most=_most_with_receipts(values))
    verdicts = await context.policy.verdicts(pairs, wait=again)
    changes = [
        command
        for command, others in zip(commands, meant, strict=True)
        if command.WhichOneof("body") in CHANGES and not isinstance(others, Refused)
    ]
    check = await context.changes.checks(changes) if changes else _nothing
    decided: list[Decided] = []
    parked: list[pb.Command] = []
    for command, others in zip(commands, meant, strict=True):
        try:
            one = _decide(command, others, verdicts, in_groups, hidden, check, values)
        except Exception as error:
            if len(commands) == 1 and (again or not isinstance(error, Unavailable)):
                raise
            _log_parked(command, error)
            parked.append(command)
        else:
            decided.append(one)
    decided, late = await _with_files(decided, context, wait=again)
    parked += late
    partitions = await context.backends.reads.partitions(DELIVERIES)
    deliveries = [delivery for told, _ in decided for delivery in told]
    outcomes = [outcome for _, outcome in decided]
    records = [*writer.deliveries(deliveries, partitions), *map(writer.retry, parked)]
    await context.backends.appends.append(records, then=writer.outcomes(outcomes))
    for became, number in Counter(outcome.refused or "accepted" for outcome in outcomes).items():
        count("knchat_commands_total", number, became=became)
    count("knchat_commands_total", len(parked), became="set_aside")


async def _with_files(
    decided: list[Decided], context: Context, *, wait: bool
) -> tuple[list[Decided], list[pb.Command]]:
    """The same, with the files that messages bring; and the commands that have to wait, because
    that cannot be told now. Nothing is asked where no message has a file.

    Raises Unavailable when one that came alone has to wait again.
    """
    sent = [one for one in decided if one[1].command.send.HasField("file") and not one[1].refused]
    deletions = [
        outcome.command
        for _, outcome in decided
        if outcome.command.HasField("delete")
        and not outcome.refused
        and context.changes.took_file(outcome.command)
    ]
    if not sent and not deletions:
        return decided, []
    try:
        refused = await context.sent_files.settle(sent, deletions, wait=wait)
    except Unavailable as error:
        if wait:
            raise
        late = [*(outcome.command for _, outcome in sent), *deletions]
        for command in late:
            _log_parked(command, error)
        waiting = {command.id for command in late}
        return [one for one in decided if one[1].command.id not in waiting], late
    for place, (_, outcome) in enumerate(decided):
        if outcome.command.id in refused:
            outcome.refused = "not_found"
            decided[place] = _refused(outcome.command, outcome.refused), outcome
    return decided, []


class _InGroups(NamedTuple):
    """What is known of the groups of some commands."""

    rosters: Mapping[ChatId, Roster | None]
    former: Container[tuple[str, int]]

    @classmethod
    async def of(cls, commands: Sequence[pb.Command], context: Context, *, wait: bool) -> _InGroups:
        """Nothing is asked where no command is of a group."""
        versions: dict[ChatId, int] = {}
        for command in commands:
            if command.chat.startswith("g-"):
                chat = ChatId(command.chat)
                versions[chat] = max(versions.get(chat, 0), command.group_event.version)
        if not versions:
            return cls({}, ())
        groups = context.backends.groups
        known = cls(await context.rosters.of(versions, groups, wait=wait), ())
        # A user may have joined, or got another role, since: nothing is refused by memory.
        if doubtful := {
            ChatId(command.chat): versions[ChatId(command.chat)]
            for command in commands
            if known._would_refuse(command)
        }:
            newest = await context.rosters.of(doubtful, groups, wait=wait, ttl_s=0)
            sure = {chat: one for chat, one in known.rosters.items() if chat not in doubtful}
            known = cls({**sure, **newest}, ())
        strangers = {
            (ChatId(command.chat), UserId(command.user))
            for command in commands
            if (roster := known.rosters.get(ChatId(command.chat))) is not None
            and command.user not in roster.members
        }
        if not strangers:
            return known
        try:
            return cls(known.rosters, await groups.former(strangers))
        except Unavailable:
            return cls({**known.rosters, **dict.fromkeys(chat for chat, _ in strangers)}, ())

    def _would_refuse(self, command: pb.Command) -> bool:
        """By what is remembered of a group that there is."""
        roster = self.rosters.get(ChatId(command.chat))
        if roster is None or command.HasField("group_event"):
            return False
        try:
            view_of(command, roster, was_member=False)
        except Refused:
            return True
        return False

    async def hidden(
        self, commands: Sequence[pb.Command], context: Context, *, most: int
    ) -> Mapping[ChatId, HiddenReceipts | None]:
        """Whose receipts are not told, in the groups of marks that others may be told of; None:
        unknown. Nothing is asked where there is no such mark.
        """
        if not self.rosters:
            return {}
        rosters = {
            ChatId(command.chat): roster
            for command in commands
            if (roster := self.rosters.get(ChatId(command.chat))) is not None
            and others_of_mark(command, roster, most=most)
        }
        return await context.group_receipts.hidden(rosters) if rosters else {}

    def roster(self, command: pb.Command) -> Roster | None:
        """None: there is no such group. Raises Unavailable when SQL is, for too long."""
        chat = ChatId(command.chat)
        roster = self.rosters.get(chat)
        if roster is None and chat in self.rosters:
            raise Unavailable("the groups store does not answer")
        return roster

    def view(self, command: pb.Command) -> GroupView:
        """The group as the command's user has it. Raises Refused, or Unavailable."""
        return view_of(
            command,
            self.roster(command),
            was_member=(command.chat, command.user) in self.former,
        )


async def _configured(commands: Sequence[pb.Command], context: Context) -> Values:
    """What the configuration says. Messages go by nothing of it, and so wait for no first read."""
    configuration = context.backends.configuration
    if all(command.HasField("send") for command in commands):
        return configuration.values
    return await configuration.known()


def _most_with_receipts(values: Values) -> int:
    """Up to so many members of a group are told each other's receipts."""
    return values.groups.receipts_members if values.signals.receipts else 0


def _others(command: pb.Command) -> list[UserId] | Refused:
    """Whom the command of a direct chat is for besides who asks; what is wrong with it, for when
    its turn comes. None in a group.
    """
    try:
        chat = check_command(command)
        if chat.startswith("g-"):
            return []
        return [
            member for member in members_of(chat, UserId(command.user)) if member != command.user
        ]
    except Refused as refusal:
        return refusal


def _nothing(_command: pb.Command, *, is_admin: bool = False) -> None:
    """Nothing is changed, so nothing is checked."""


def _decide(
    command: pb.Command,
    others: list[UserId] | Refused,
    verdicts: Mapping[Pair, Verdict | None],
    in_groups: _InGroups,
    hidden: Mapping[ChatId, HiddenReceipts | None],
    check: Callable[..., None],
    values: Values,
) -> Decided:
    """What is told to whom, and the outcome, with the code of the refusal where there is one.

    Raises Malformed for what no gateway writes, Unavailable when a store has to be asked and does
    not answer.
    """
    if command.ByteSize() > MAX_BATCH_BYTES:
        raise Malformed("the command is greater than a whole batch may be")
    users: Sequence[UserId] = ()
    outcome = pb.Outcome(command=command)
    try:
        if isinstance(others, Refused):
            raise others
        if command.chat.startswith("g-"):
            if command.HasField("group_event"):
                roster = in_groups.roster(command)
                outcome.members = 0 if roster is None else len(roster.members)
                return told_of_event(command, roster), outcome
            view = in_groups.view(command)
            outcome.members, outcome.since = len(view.roster.members), view.member.joined
            if command.HasField("mark"):
                users = _sharing(command, view.roster, hidden, most=_most_with_receipts(values))
                return view.told(command, users), outcome
            # Who does not see a message is not told how it was changed.
            users = view.seeing(changed_message(command) or command.id)
            check(command, is_admin=view.is_admin)
            return view.told(command, users), outcome
        users = [UserId(command.user), *_told(command, others, verdicts)]
        if not values.signals.receipts and command.HasField("mark"):
            users = [UserId(command.user)]
        check(command)
    except Malformed:
        raise
    except Refused as refusal:
        outcome.refused = refusal.code
        told = _refused(command, refusal.code)
        if (back := taken_back(command, refusal.code)) is not None and users:
            told.append(spec_of(back).deliver(back, users))
        return told, outcome
    return [spec_of(command).deliver(command, users)], outcome


def _told(
    command: pb.Command, others: list[UserId], verdicts: Mapping[Pair, Verdict | None]
) -> list[UserId]:
    """Which of the others in a direct chat are told of it. Raises Refused, or Unavailable."""
    user = UserId(command.user)
    told: list[UserId] = []
    for other in others:
        verdict = verdicts[user, other]
        # As with nearly all; of the others the kind of command decides too.
        if verdict != _ALL_TOLD:
            spec = spec_of(command)
            if not is_told(verdict, is_mine=spec.is_mine(getattr(command, spec.body))):
                continue
        told.append(other)
    return told


_ALL_TOLD: Final = Verdict()


def _sharing(
    command: pb.Command,
    roster: Roster,
    hidden: Mapping[ChatId, HiddenReceipts | None],
    *,
    most: int,
) -> list[UserId]:
    """The user of a mark in a group, and those who are told of it. Raises Unavailable."""
    user = UserId(command.user)
    others = others_of_mark(command, roster, most=most)
    if not others:
        return [user]
    of_group = hidden[ChatId(command.chat)]
    if of_group is None:
        raise Unavailable("the relations store does not answer")
    return [user, *(other for other in others if not of_group.between(user, other))]


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
