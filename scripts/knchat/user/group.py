"""`kn-chat group`: groups, who is in them, and what each may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click

from knchat.command import group
from knchat.user import logins
from knchat.user.history import names_of
from schemas.ids import time_text, unix_ms_of

if TYPE_CHECKING:
    from knchat_client import Client, Group

_ROLES: Final = click.Choice(["owner", "admin", "member", "reader"])
_EXAMPLES: Final = """\
examples:
  kn-chat group create Walks bob carol         prints the group's id
  kn-chat send --chat g-4611686018427387903 'Hello, all'
  kn-chat group add g-4611686018427387903 dave --role reader
  kn-chat group role g-4611686018427387903 bob owner
  kn-chat group history g-4611686018427387903 from_join
  kn-chat group leave g-4611686018427387903

Who is in a group is told of each change of it: kn-chat tail."""

_CHAT: Final = click.argument("chat", metavar="CHAT")
_USERS: Final = click.argument("users", nargs=-1, required=True, metavar="NAME...")


@group(_EXAMPLES)
def run() -> None:
    """Makes groups, and changes them."""


@run.command("create", epilog=_EXAMPLES)
@click.argument("name", metavar="TITLE")
@click.argument("users", nargs=-1, metavar="[NAME]...")
@click.option("--from-join", is_flag=True, help="members see what is said after they have joined")
@click.option(
    "--key",
    metavar="KEY",
    help="the group's key; the same key makes one group (default: a random one)",
)
@logins.options()
def _run_create(
    name: str, users: tuple[str, ...], from_join: bool, key: str | None, kept: logins.Kept
) -> int:
    """A new group, which I own; prints its id."""

    async def work(client: Client) -> None:
        made = await client.create_group(
            name, await _ids(client, users), history="from_join" if from_join else "all", key=key
        )
        print(made.chat)

    return _act(kept, work)


@run.command("show", epilog=_EXAMPLES)
@_CHAT
@logins.options()
def _run_show(chat: str, kept: logins.Kept) -> int:
    """A group, who is in it, and how far they have read, of those who show receipts."""

    async def work(client: Client) -> None:
        _print(await client.group(chat))
        members = await client.members(chat)
        read = {one.user: int(one.read) for one in await client.receipts(chat)}
        names = await names_of(client, [member.user for member in members])
        for member in members:
            upto = read.get(member.user, 0)
            line = f"{member.role:<7} {names[member.user]}"
            print(f"{line}  read up to {time_text(unix_ms_of(upto))}" if upto else line)

    return _act(kept, work)


@run.command("rename", epilog=_EXAMPLES)
@_CHAT
@click.argument("name", metavar="TITLE")
@logins.options()
def _run_rename(chat: str, name: str, kept: logins.Kept) -> int:
    """Gives a group another name."""

    async def work(client: Client) -> None:
        version = (await client.group(chat)).version
        _print(await client.change_group(chat, version=version, name=name))

    return _act(kept, work)


@run.command("history", epilog=_EXAMPLES)
@_CHAT
@click.argument("history", type=click.Choice(["all", "from_join"]), metavar="all|from_join")
@logins.options()
def _run_history(chat: str, history: str, kept: logins.Kept) -> int:
    """Says whether members see what was said before they joined."""

    async def work(client: Client) -> None:
        version = (await client.group(chat)).version
        _print(await client.change_group(chat, version=version, history=history))

    return _act(kept, work)


@run.command("add", epilog=_EXAMPLES)
@_CHAT
@_USERS
@click.option("--role", type=_ROLES, default="member", help="what they are (default: member)")
@logins.options()
def _run_add(chat: str, users: tuple[str, ...], role: str, kept: logins.Kept) -> int:
    """Adds users to a group."""

    async def work(client: Client) -> None:
        await client.add_members(chat, await _ids(client, users), role=role)

    return _act(kept, work)


@run.command("remove", epilog=_EXAMPLES)
@_CHAT
@_USERS
@logins.options()
def _run_remove(chat: str, users: tuple[str, ...], kept: logins.Kept) -> int:
    """Takes members out of a group."""

    async def work(client: Client) -> None:
        for user in await _ids(client, users):
            await client.remove_member(chat, user)

    return _act(kept, work)


@run.command("role", epilog=_EXAMPLES)
@_CHAT
@click.argument("name", metavar="NAME")
@click.argument("role", type=_ROLES, metavar="ROLE")
@logins.options()
def _run_role(chat: str, name: str, role: str, kept: logins.Kept) -> int:
    """Makes a member owner (in my place), admin, member or reader."""

    async def work(client: Client) -> None:
        [user] = await _ids(client, (name,))
        await client.set_role(chat, user, role)

    return _act(kept, work)


@run.command("leave", epilog=_EXAMPLES)
@_CHAT
@logins.options()
def _run_leave(chat: str, kept: logins.Kept) -> int:
    """Takes me out of a group."""
    return _act(kept, lambda client: client.leave_group(chat))


@run.command("delete", epilog=_EXAMPLES)
@_CHAT
@logins.options()
def _run_delete(chat: str, kept: logins.Kept) -> int:
    """Ends a group that I own, for all."""
    return _act(kept, lambda client: client.delete_group(chat))


def _act(kept: logins.Kept, work: Callable[[Client], Awaitable[None]]) -> int:
    async def with_client() -> None:
        async with kept.client(listen=False, background=True) as client:
            await work(client)

    return logins.act(with_client)


async def _ids(client: Client, names: tuple[str, ...]) -> list[str]:
    return [(await logins.person(client, name)).user for name in names]


def _print(shown: Group) -> None:
    members = f"{shown.members} members" if shown.members != 1 else "1 member"
    print(f"{shown.chat}  {logins.shown(shown.name)}  {members}, I am {shown.role}")
