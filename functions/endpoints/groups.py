"""Groups over HTTP: what the target `chats` serves besides chats and their history.

Who may do what is decided where it is done (backends/groups). Rules on top, endpoints below.
Source: protocol.md sections 1 and 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

from msgspec import UNSET

from backends import groups as port
from functions.domain.policy import verdict_of
from functions.runtime.context import Context
from functions.runtime.http_endpoint import endpoint
from schemas import costs, groups
from schemas.chat_queries import MembersQuery
from schemas.errors import Refused
from schemas.ids import (
    ChatId,
    MessageId,
    UserId,
    parse_chat,
    parse_id,
    parse_user,
    random_id,
    time_text,
    unix_ms_of,
)
from schemas.names import checked_name
from schemas.tokens import Claims

if TYPE_CHECKING:
    from backends.wiring import Backends

_MANY: Final = costs.Cost(12)
"""Up to 100 users are looked up, and a row is written for each."""


async def create(
    body: groups.NewGroup, caller: Claims, context: Context
) -> tuple[port.Group, bool]:
    """A new group of the caller's, and true; or that of an earlier call with the key.

    Raises Malformed, Refused unknown_user, blocked, forbidden, key_reused, too_many, Unavailable.
    """
    members = _users(body.members or ())
    await _check_may_add(members, caller, context.backends)
    asked = port.Group(
        chat=ChatId(f"g-{random_id()}"),
        name=checked_name(body.name, field="name"),
        avatar=body.avatar or "",
        history=body.history or "all",
        members=0,
        created=MessageId(0),
        version=0,
    )
    change = await context.group_changes.by(caller)
    made = await context.backends.groups.create(asked, members, change, key=body.key)
    await context.group_changes.publish()
    return made


async def add(
    chat: ChatId, users: Collection[UserId], role: port.Role, caller: Claims, context: Context
) -> list[port.Member]:
    """These users as members of the caller's group; those who are in it keep their roles.

    Raises as `Groups.add` does, and Refused unknown_user, blocked and forbidden.
    """
    backends = context.backends
    await backends.groups.membership(chat, caller.user)  # before strangers hear of users
    await _check_may_add(users, caller, backends)
    change = await context.group_changes.by(caller)
    members = await backends.groups.add(chat, users, change, role=role)
    await context.group_changes.publish()
    return list(members)


async def set_member(
    chat: ChatId, user: UserId, role: port.Role, caller: Claims, context: Context
) -> port.Member:
    """The user as a member with this role, new or changed. Raises as `Groups` does."""
    if await context.backends.groups.member(chat, user) is None:
        [member] = await add(chat, [user], role, caller, context)
        if member.role == role:
            return member
    change = await context.group_changes.by(caller)
    member = await context.backends.groups.set_role(chat, user, role, change)
    await context.group_changes.publish()
    return member


def _users(texts: Iterable[str]) -> list[UserId]:
    return list(dict.fromkeys(parse_user(text, name="members") for text in texts))


async def _check_may_add(users: Collection[UserId], caller: Claims, backends: Backends) -> None:
    """Users may be added by those who may write to them. Raises Refused."""
    pairs = [(caller.user, user) for user in users if user != caller.user]
    for (_, user), relation in sorted((await backends.relations.between(pairs)).items()):
        match verdict_of(relation).refused:
            case "":
                pass
            case "unknown_user":
                raise Refused("unknown_user", f"no such user: {user}", field="members")
            case code:
                raise Refused(code, f"you may not add the user {user}", field="members")


def _group(group: port.Group, role: str, answer: type[groups.Group] = groups.Group) -> groups.Group:
    return answer(
        chat=group.chat,
        name=group.name,
        avatar=group.avatar or UNSET,
        members=group.members,
        role=role,
        history=group.history,
        created=time_text(unix_ms_of(group.created)),
        version=str(group.version),
    )


def _member(member: port.Member) -> groups.Member:
    return groups.Member(
        user=str(member.user),
        role=member.role,
        joined=time_text(unix_ms_of(member.joined)),
        version=str(member.version),
    )


# ---- endpoints -----------------------------------------------------------------------------------

_PRIVATE: Final = ("unknown_chat", "not_member")


@endpoint(
    "POST",
    "/v1/chats",
    cost=_MANY,
    status=201,
    repeat_status=200,
    errors=("unknown_user", "blocked", "forbidden", "key_reused", "too_many", "not_found"),
)
async def create_group(body: groups.NewGroup, caller: Claims, context: Context) -> groups.Group:
    """Makes a group, which I own. A repeat of the key answers 200 with the same group."""
    group, is_new = await create(body, caller, context)
    if is_new:
        return _group(group, "owner")
    mine = await context.backends.groups.membership(group.chat, caller.user)
    return _group(mine.group, mine.member.role, groups.SameGroup)


@endpoint("GET", "/v1/chats/{chat}", cost=costs.ONE, errors=_PRIVATE)
async def get_group(chat: str, caller: Claims, context: Context) -> groups.Group:
    """A group that I am in."""
    mine = await context.backends.groups.membership(parse_chat(chat), caller.user)
    return _group(mine.group, mine.member.role)


@endpoint(
    "PATCH",
    "/v1/chats/{chat}",
    cost=costs.WRITE,
    errors=(*_PRIVATE, "forbidden", "stale", "not_found"),
)
async def change_group(
    chat: str, body: groups.GroupChange, caller: Claims, context: Context
) -> groups.Group:
    """Changes a group's name, avatar or history. Admins and the owner may."""
    mine = await context.backends.groups.change(
        parse_chat(chat),
        await context.group_changes.by(caller),
        version=parse_id(body.version, name="version"),
        name=None if body.name is None else checked_name(body.name, field="name"),
        avatar=body.avatar,
        history=body.history,
    )
    await context.group_changes.publish()
    return _group(mine.group, mine.member.role)


@endpoint("DELETE", "/v1/chats/{chat}", cost=costs.WRITE, errors=(*_PRIVATE, "forbidden"))
async def delete_group(chat: str, caller: Claims, context: Context) -> None:
    """Deletes a group. Its owner may."""
    change = await context.group_changes.by(caller)
    await context.backends.groups.delete(parse_chat(chat), change)
    await context.group_changes.publish()


@endpoint("GET", "/v1/chats/{chat}/members", cost=costs.PAGE, errors=_PRIVATE)
async def list_members(
    chat: str, query: MembersQuery, caller: Claims, context: Context
) -> groups.Members:
    """The members of a group that I am in, by their ids."""
    stored, group = context.backends.groups, parse_chat(chat)
    await stored.membership(group, caller.user)
    after = UserId(0) if query.after is None else parse_user(query.after, name="after")
    members, more = await stored.members(group, after=after, limit=query.limit)
    shown = [_member(member) for member in members]
    if more:
        return groups.Members(members=shown, after=shown[-1].user)
    return groups.Members(members=shown)


@endpoint(
    "POST",
    "/v1/chats/{chat}/members",
    cost=_MANY,
    errors=(*_PRIVATE, "forbidden", "blocked", "unknown_user", "too_many"),
)
async def add_members(
    chat: str, body: groups.NewMembers, caller: Claims, context: Context
) -> groups.Members:
    """Adds users to a group; those who are in it stay what they are. Admins and the owner may."""
    role, users = body.role or "member", _users(body.members)
    members = await add(parse_chat(chat), users, role, caller, context)
    return groups.Members(members=[_member(member) for member in members])


@endpoint(
    "PUT",
    "/v1/chats/{chat}/members/{user}",
    cost=costs.WRITE,
    errors=(*_PRIVATE, "forbidden", "blocked", "unknown_user", "too_many"),
)
async def put_member(
    chat: str, user: str, body: groups.MemberChange, caller: Claims, context: Context
) -> groups.Member:
    """Adds a user to a group, or changes a member's role; a new owner takes the place of mine."""
    place = parse_chat(chat), parse_user(user, name="user")
    return _member(await set_member(*place, body.role, caller, context))


@endpoint(
    "DELETE",
    "/v1/chats/{chat}/members/{user}",
    cost=costs.WRITE,
    errors=(*_PRIVATE, "forbidden", "unknown_user"),
)
async def remove_member(chat: str, user: str, caller: Claims, context: Context) -> None:
    """Takes a member out of a group; myself: I leave. The owner hands over before leaving."""
    place = parse_chat(chat), parse_user(user, name="user")
    await context.backends.groups.remove(*place, await context.group_changes.by(caller))
    await context.group_changes.publish()
