"""What a command in a group does: whether its user may, and which members are told what.

`send` asks, with the roster that it has. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from functions.domain.group_events import event_of_pin, key_of
from schemas import chat_pb2 as pb
from schemas.commands import changed_message, spec_of
from schemas.errors import Refused
from schemas.ids import UserId, unix_ms_of
from schemas.kinds.newer import MAX_WITH_BODY

if TYPE_CHECKING:
    from backends.groups import Group, Member, Roster

MAX_WITH_UNREAD: Final = 32
"""Members up to which each is told what is unread after a deletion."""
MAX_AHEAD_MS: Final = 1_000
"""So far the id of a command may lie before the event by which its user joined, since two processes
made them.
"""


_FOR_READERS: Final = frozenset({"mark"})
_FOR_ADMINS: Final = frozenset({"pin", "unpin"})


class GroupView(NamedTuple):
    """A group as one of its members has it."""

    roster: Roster
    member: Member

    @property
    def is_admin(self) -> bool:
        """The owner is one too."""
        return self.member.role in {"admin", "owner"}

    def seeing(self, message: int) -> list[UserId]:
        """The members who may see what has this id: history shows them the same."""
        return _seeing(message, self.roster)

    def told(self, command: pb.Command, users: Sequence[UserId]) -> list[pb.Delivery]:
        """What these members are told of an accepted command."""
        deliver = spec_of(command).deliver
        if command.HasField("send"):
            return _message(command, deliver(command, []), self.roster)
        told = [deliver(command, users)]
        if (event := event_of_pin(command)) is not None:
            told += _message(event, _event_message(event), self.roster)
        return told


def others_of_mark(command: pb.Command, roster: Roster | None, *, most: int) -> list[UserId]:
    """Whom a mark in a group may be told besides its user, where both show receipts: the other
    members of a group of up to `most` members, none of a larger one.
    """
    if roster is None or not command.HasField("mark"):
        return []
    members = roster.members
    if len(members) > most or command.user not in members:
        return []
    return [user for user in members if user != command.user]


def view_of(command: pb.Command, roster: Roster | None, *, was_member: bool) -> GroupView:
    """The group as the command's user has it, who may do this in it.

    `roster` None: there is no such group. Raises Refused: unknown_chat to strangers, not_member to
    who was in it, or was not when the command was given; forbidden to who lacks the role,
    unknown_message for what was there before the user, unknown_user for a mention of who is no
    member.
    """
    user = UserId(command.user)
    member = None if roster is None else roster.members.get(user)
    if roster is None or member is None:
        if was_member:
            raise Refused("not_member", "you are in this group no longer", field="chat")
        raise Refused("unknown_chat", "no such chat", field="chat")
    if _came_later(member, command):
        raise Refused("not_member", "you were not in this group then", field="chat")
    view = GroupView(roster, member)
    body = command.WhichOneof("body") or ""
    is_own = body in _FOR_READERS or (body == "delete" and command.delete.for_me)
    if member.role == "reader" and not is_own:
        raise Refused("forbidden", "you may read this group, not write to it", field="chat")
    if body in _FOR_ADMINS and not view.is_admin:
        raise Refused("forbidden", "only admins and the owner may pin", field="chat")
    named = [roster.members.get(UserId(user)) for user in command.send.mentions]
    if any(one is None or _came_later(one, command) for one in named):
        raise Refused("unknown_user", "a message names members of its chat", field="mentions")
    message = changed_message(command)
    if message and roster.group.history == "from_join" and message < member.joined:
        raise Refused("unknown_message", "no such message", field="message")
    return view


def _came_later(member: Member, command: pb.Command) -> bool:
    """Whether the command may have been refused because of that: a replay does not make it a
    message of today.
    """
    return unix_ms_of(command.id) < unix_ms_of(member.joined) - MAX_AHEAD_MS


def told_of_event(command: pb.Command, roster: Roster | None) -> list[pb.Delivery]:
    """What a change of the group tells: the event as a message, and the group as it is now, to all
    members; to those whom it is about, what became of their membership.

    The roster is of the change's version or a later one, so whatever is told twice, or late, is
    the newest.
    """
    event = command.group_event
    if roster is None:
        return []
    group, members = roster.group, roster.members
    told = []
    if event.kind != "deleted":
        told = _message(command, _event_message(command), roster)
    by_role: dict[str, list[int]] = {}
    for user, member in members.items():
        by_role.setdefault(member.role, []).append(user)
    told += [
        pb.Delivery(users=users, chat=group_part(group, role)) for role, users in by_role.items()
    ]
    gone = []
    for user in map(UserId, event.users):
        found = members.get(user)
        if found is None:
            gone.append(user)
        else:
            told.append(pb.Delivery(users=[user], chat=_member_part(group, found)))
    if gone:
        deleted = pb.ChatPart(chat=group.chat, version=group.version, deleted=True)
        told.append(pb.Delivery(users=gone, chat=deleted))
    return told


def _event_message(command: pb.Command) -> pb.Delivery:
    """An event as a message of the group, for no one yet."""
    message = pb.Message(
        id=command.id,
        chat=command.chat,
        sender=command.user,
        key=key_of(command.id),
        device=command.device,
        event=command.group_event,
    )
    return pb.Delivery(message=message)


def _message(command: pb.Command, whole: pb.Delivery, roster: Roster) -> list[pb.Delivery]:
    """The message for all who may see it; above MAX_WITH_BODY members for its sender alone, and
    for the others that it is there.
    """
    users = _seeing(command.id, roster)
    if len(roster.members) <= MAX_WITH_BODY:
        whole.users.extend(users)
        return [whole]
    others = [user for user in users if user != command.user]
    newer = pb.Newer(chat=command.chat, newest=command.id)
    told = [pb.Delivery(users=others, newer=newer)]
    if command.user in roster.members:
        whole.users.append(command.user)
        told.append(whole)
    return told


def _seeing(message: int, roster: Roster) -> list[UserId]:
    if roster.group.history == "all":
        return list(roster.members)
    return [user for user, member in roster.members.items() if member.joined <= message]


def group_part(group: Group, role: str) -> pb.ChatPart:
    """The group as it is now, for a member with this role."""
    return pb.ChatPart(
        chat=group.chat,
        version=group.version,
        group=pb.Group(
            name=group.name,
            avatar=group.avatar,
            members=group.members,
            role=role,
            history=group.history,
            created=group.created,
        ),
    )


def _member_part(group: Group, member: Member) -> pb.ChatPart:
    return pb.ChatPart(
        chat=group.chat,
        version=member.version,
        member=pb.Member(user=member.user, role=member.role, joined=member.joined),
    )
