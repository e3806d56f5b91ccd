"""`kn-chat block`: whom I do not want to hear from."""

from __future__ import annotations

from typing import Final

import click

from knchat import exits
from knchat.command import command
from knchat.user import logins
from knchat.user.history import names_of

_EXAMPLES: Final = """\
examples:
  kn-chat block                   whom you block
  kn-chat block mallory
  kn-chat block mallory --undo

Within 5 s neither of the two can write to the other. The other one is not told of it: messages to
you are refused as they are by privacy."""


@command(_EXAMPLES)
@click.argument("name", required=False, metavar="NAME", help="a user's name or id")
@click.option("--undo", is_flag=True, help="block the user no longer")
@logins.options()
def run(name: str | None, undo: bool, kept: logins.Kept) -> int:
    """Blocks a user, or lists whom you block."""
    if undo and name is None:
        raise exits.Ended("say whom: kn-chat block NAME --undo", exits.USAGE)

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            if name is not None:
                user = (await logins.person(client, name)).user
                await (client.unblock(user) if undo else client.block(user))
                return
            blocks = list(await client.blocks())
            names = await names_of(client, blocks)
            for user in blocks:
                print(f"{user}  {names[user]}")

    return logins.act(work)
