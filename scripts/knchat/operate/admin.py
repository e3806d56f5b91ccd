"""`kn-chat admin`: says which users are administrators, in the database itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import group
from knchat.operate import data_folder
from knchat.operate.recording import record
from schemas.ids import time_text

if TYPE_CHECKING:
    from backends.accounts import Profile
    from backends.wiring import Backends

_EXAMPLES: Final = """\
examples:
  kn-chat admin grant alice            on the database that the KNCHAT_ variables name
  kn-chat admin grant alice --data /srv/chat
  kn-chat admin list
  kn-chat admin revoke alice           at once

Administrators change the configuration while everything runs: kn-chat config. Who is logged in
already is one from the next access token on: `kn-chat config` fetches it by itself, other clients
have it within 15 minutes. It needs the database, not a server: a `dev` may run meanwhile."""

_NAME: Final = click.argument("name", metavar="NAME", help="a user name")


@group(_EXAMPLES)
def run() -> None:
    """Makes users administrators, and ends that."""


@run.command("grant", epilog=_EXAMPLES)
@_NAME
@data_folder.option
def _run_grant(name: str, folder: Path | None) -> int:
    """Makes a user an administrator."""

    async def work(backends: Backends) -> int:
        user = (await _user(name, backends)).user
        is_new = await backends.administrators.grant(user, now_ms=backends.clock.now_ms())
        if is_new:
            await record("administrator_granted", user, backends)
        print(f"{user}  {name.lower()} {'is' if is_new else 'was'} an administrator")
        return exits.OK

    return _act(folder, work)


@run.command("revoke", epilog=_EXAMPLES)
@_NAME
@data_folder.option
def _run_revoke(name: str, folder: Path | None) -> int:
    """Makes a user an administrator no longer."""

    async def work(backends: Backends) -> int:
        user = (await _user(name, backends)).user
        if not await backends.administrators.revoke(user):
            raise exits.Ended(f"{name.lower()} is no administrator")
        await record("administrator_revoked", user, backends)
        print(f"{user}  {name.lower()} is an administrator no longer")
        return exits.OK

    return _act(folder, work)


@run.command("list", epilog=_EXAMPLES)
@data_folder.option
def _run_list(folder: Path | None) -> int:
    """All administrators, and since when."""

    async def work(backends: Backends) -> int:
        found = await backends.administrators.all()
        profiles = await backends.accounts.profiles([one.user for one in found])
        for one in found:
            name = profiles[one.user].user_name if one.user in profiles else "(no account)"
            print(f"{one.user}  {name}  since {time_text(one.granted_ms)}")
        return exits.OK

    return _act(folder, work)


async def _user(name: str, backends: Backends) -> Profile:
    found = await backends.accounts.credentials(name.lower())
    if found is None:
        raise exits.Ended(f"there is no user {name.lower()}")
    return found[0]


def _act(folder: Path | None, work: Callable[[Backends], Awaitable[int]]) -> int:
    return data_folder.run(data_folder.settings_of(folder), work)
