"""The demo users of `kn-chat dev`: made at its start, and closed where others may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from functions.domain import token_rotation
from functions.domain.passwords import DUMMY_HASH
from functions.endpoints import devices
from functions.endpoints.accounts import register
from knchat.develop import say
from schemas.demo import DEMO_USERS
from schemas.endpoints import NewUser
from schemas.errors import Refused

if TYPE_CHECKING:
    from functions.runtime.context import Context


ADMINISTRATOR: Final = "alice"
"""The demo user who may change the configuration."""


async def ensure(context: Context, *, wanted: bool) -> bool:
    """Makes sure that the demo users exist, if they are wanted; whether they do.

    Their passwords are public, so they exist only where connections come from this machine alone.
    """
    backends = context.backends
    if backends.settings.host not in {"127.0.0.1", "::1", "localhost"}:
        await _close(context)
        if wanted:
            say("no demo users: KNCHAT_HOST lets other machines in, and their passwords are public")
        return False
    if not wanted:
        return False
    for name, user in DEMO_USERS.items():
        kept = await backends.accounts.password_hash(user)
        if kept is None:
            body = NewUser(user_name=name, password=password_of(name), display_name=name.title())
            try:
                await register(body, context, user=user)
            except Refused:
                say(f"no demo users: the name {name} is taken")
                return False
        elif kept == DUMMY_HASH:
            await backends.accounts.set_password_hash(
                user, await context.passwords.hash(password_of(name)), was=DUMMY_HASH
            )
    await backends.administrators.grant(DEMO_USERS[ADMINISTRATOR], now_ms=backends.clock.now_ms())
    return True


async def _close(context: Context) -> None:
    """Takes the known passwords from those that an earlier start has left, and ends their log-ins.

    What they wrote stays.
    """
    backends = context.backends
    await backends.administrators.revoke(DEMO_USERS[ADMINISTRATOR])
    for name, user in DEMO_USERS.items():
        kept = await backends.accounts.password_hash(user)
        if kept is None or not await context.passwords.check_change(user, password_of(name), kept):
            continue
        nothing, _ = token_rotation.new_device(user, "none", "", now_ms=backends.clock.now_ms())
        changed = await backends.log_ins.change_password(user, DUMMY_HASH, was=kept, kept=nothing)
        if changed is not None:
            await devices.publish_ended([changed[1]], context, why="password")
            await devices.log_out(
                user, "none", context, why="removed", now_ms=backends.clock.now_ms()
            )


def password_of(name: str) -> str:
    """The public password of a demo user."""
    return f"{name}-demo-password"
