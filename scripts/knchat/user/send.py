"""`kn-chat send`: one message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from knchat import exits
from knchat.command import command, exclusive
from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat send bob 'Hello, Bob'
  kn-chat send --to bob 'Hello, Bob'           the same
  fortune | kn-chat send bob -                 text from stdin
  kn-chat send bob 'Pay the rent' --key rent-2026-12
                                               sent once, however often this is run within 24 h
  kn-chat send bob -- -5                       a text that begins with -
  kn-chat send --chat g-4611686018427387903 'Bob?' --mention bob
  kn-chat send --chat d-1001-1002 --reply-to 7265400000000000001 Yes
  kn-chat send bob --file photo.png 'Look'     with a file, which is uploaded first; or without text

Prints the message's id and time once it is safe in the log. Code 5: the outcome is unknown; run it
again with the key that is printed."""


@command(_EXAMPLES)
@exclusive("to", "chat")
@click.argument(
    "words",
    nargs=-1,
    metavar="[NAME] TEXT",
    help="to whom, unless --to or --chat says it, and what; -: stdin",
)
@click.option("--to", metavar="NAME", help="a user's name or id")
@click.option("--chat", metavar="ID", help="a chat")
@click.option(
    "--file",
    "path",
    metavar="PATH",
    type=click.Path(exists=True, dir_okay=False),
    help="uploads this file and sends it",
)
@click.option("--reply-to", metavar="ID", help="the message that this one answers")
@click.option(
    "--mention", "mentions", multiple=True, metavar="NAME", help="names a member; may be repeated"
)
@click.option(
    "--key",
    metavar="KEY",
    help="the message's key; the same key is sent once (default: a random one)",
)
@click.option(
    "--timeout",
    type=float,
    default=30.0,
    metavar="S",
    help="give up after so many seconds (default 30)",
)
@logins.options()
def run(
    words: tuple[str, ...],
    to: str | None,
    chat: str | None,
    path: str | None,
    reply_to: str | None,
    mentions: tuple[str, ...],
    key: str | None,
    timeout: float,
    kept: logins.Kept,
) -> int:
    """Sends one message. A lost connection is met by repeating, so it arrives once."""
    if not (to or chat):
        if not words:
            raise click.UsageError("Missing argument '[NAME] TEXT'.", click.get_current_context())
        to, words = words[0], words[1:]
    if not words and path is None:
        raise exits.Ended("there is nothing to send: kn-chat send NAME TEXT", exits.USAGE)
    text = sys.stdin.read().rstrip("\n") if words == ("-",) else " ".join(words) or None

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            user = None if to is None else (await logins.person(client, to)).user
            named = [(await logins.person(client, name)).user for name in mentions]
            file = None if path is None else (await client.upload(Path(path))).file
            await client.connect(timeout_s=timeout)
            sent = await client.send(
                text,
                to=user,
                chat=chat,
                file=file,
                key=key,
                reply_to=reply_to,
                mentions=named,
                timeout_s=timeout,
            )
        print(sent.message, sent.time)
        if sent.duplicate:
            logins.note("this key had been sent before; this is that message")

    return logins.act(work)
