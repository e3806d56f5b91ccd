"""`kn-chat login`: logs this machine in as a user, so that the other
subcommands need no password.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Final

import click

from knchat import exits
from knchat.command import command
from knchat.user import logins

_DEVICES: Final = 2
"""One for a command that stays (`chat`, `tail`), one for those beside it."""

_EXAMPLES: Final = """\
examples:
  kn-chat login alice                        asks for the password
  kn-chat login alice --password-file FILE   for scripts; -: from stdin
  kn-chat login alice --devices 4            four commands can run at once
  kn-chat login alice --http https://chat.example.org

Tokens are kept in $XDG_CONFIG_HOME/kn-chat (else ~/.config/kn-chat), readable by you alone, and
renewed by use. The server and the user become the defaults of the other commands; --profile keeps
sets of log-ins apart. Prints the user's id."""


@command(_EXAMPLES)
@click.argument("user_name", metavar="NAME")
@click.option(
    "--devices",
    type=click.IntRange(1, 16),
    default=_DEVICES,
    metavar="N",
    help=f"commands at once (1-16, default {_DEVICES})",
)
@logins.password()
@logins.options(user=False)
def run(user_name: str, devices: int, password: str, kept: logins.Kept) -> int:
    """Logs this machine in as a user."""
    user_name = user_name.lower()

    async def work() -> None:
        user = ""
        for path in _devices(kept, user_name, devices):
            user = await _log_in(kept.http, path, user_name, password) or user
        if not user:
            raise exits.Ended(
                f"all {devices} devices of {user_name} are busy here, and so logged in"
            )
        kept.remember(user_name)
        print(user)
        logins.note(f"logged in as {user_name} at {kept.http}")

    return logins.act(work)


def _devices(kept: logins.Kept, user_name: str, count: int) -> list[Path]:
    """Files of so many devices, those that are there already first."""
    there = kept.devices(user_name)[:count]
    new = [
        kept.new_device(user_name, f"kn-chat-{secrets.token_hex(4)}")
        for _ in range(count - len(there))
    ]
    return there + new


async def _log_in(http: str, path: Path, user_name: str, password: str) -> str | None:
    """The user's id; None when another command uses the device and so is logged in."""
    from knchat_client import Client  # noqa: PLC0415 - `--help` does without

    if (tokens := logins.take(path)) is None:
        return None
    async with Client(http, tokens=tokens, device=path.stem) as client:
        return (
            await client.log_in(
                user_name, password, device_name=f"kn-chat on {socket.gethostname()}"[:64]
            )
        ).user
