"""`kn-chat mine`: what I want of a chat, on all my devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import command
from knchat.user import logins

if TYPE_CHECKING:
    from knchat_client import Mine

_EXAMPLES: Final = """\
examples:
  kn-chat mine bob                                    what is set
  kn-chat mine bob --mute-until 2030-01-01T00:00:00Z  --unmute: hear it again
  kn-chat mine --chat g-4611686018427387903 --pin     --no-pin: as any other
  kn-chat mine bob --archive                          until a message comes; --no-archive: now
  kn-chat mine bob --draft 'Dear Bob,'                --draft '': none

Prints the chat and what is set."""


@command(_EXAMPLES)
@click.argument("name", required=False, metavar="[NAME]", help="the other person's name or id")
@click.option("--chat", metavar="ID", help="a chat, instead of a name")
@click.option("--mute-until", metavar="TIME", help="until when (RFC 3339, UTC)")
@click.option("--unmute", is_flag=True, help="hear it again")
@click.option("--pin/--no-pin", "pinned", default=None, help="keep it at the top")
@click.option("--archive/--no-archive", "archived", default=None, help="put it away")
@click.option("--draft", metavar="TEXT", help="what I have begun to write")
@logins.options()
def run(
    name: str | None,
    chat: str | None,
    mute_until: str | None,
    unmute: bool,
    pinned: bool | None,
    archived: bool | None,
    draft: str | None,
    kept: logins.Kept,
) -> int:
    """Shows or changes what I want of a chat."""
    if (name is None) == (chat is None):
        raise exits.Ended("say with whom, or which --chat", exits.USAGE)
    if mute_until is not None and unmute:
        raise exits.Ended("--mute-until and --unmute do not go together", exits.USAGE)
    muted_until = "" if unmute else mute_until

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            where = chat or client.chat_with((await logins.person(client, name or "")).user)
            mine = await client.mine(where)
            if any(one is not None for one in (muted_until, pinned, archived, draft)):
                mine = await client.set_mine(
                    where,
                    version=mine.version,
                    muted_until=muted_until,
                    pinned=pinned,
                    archived=archived,
                    draft=draft,
                )
            print(_line(mine))

    return logins.act(work)


def _line(mine: Mine) -> str:
    said = [
        *([f"muted until {mine.muted_until}"] if mine.muted_until else ()),
        *(["pinned"] if mine.pinned else ()),
        *(["archived"] if mine.archived else ()),
        *([f"draft: {logins.shown(mine.draft)}"] if mine.draft else ()),
    ]
    return f"{mine.chat}  {', '.join(said) or 'nothing set'}"
