"""What the commands share that change a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import Callback, declared
from knchat.user import logins

if TYPE_CHECKING:
    from knchat_client import Client

TIMEOUT_S: Final = 30.0


def options(what: str) -> Callable[[Callback], Callback]:
    """[NAME] MESSAGE and what follows as `words`; --chat, --key and the log-in."""

    def of(act: Callback) -> Callback:
        return declared(
            logins.options()(act),
            click.argument(
                "words",
                nargs=-1,
                required=True,
                metavar=f"[NAME] MESSAGE{f' {what}' if what else ''}",
                help="with whom, unless --chat says it; the message's id, as `history` prints it",
            ),
            click.option("--chat", metavar="ID", help="a chat"),
            click.option(
                "--key",
                metavar="KEY",
                help="the change's key; the same key is done once (default: a random one)",
            ),
        )

    return of


def act(
    kept: logins.Kept,
    words: tuple[str, ...],
    chat: str | None,
    change: Callable[[Client, str, str], Awaitable[str]],
    *,
    more: int = 0,
) -> int:
    """Runs a change of the client, which gets chat and message, and prints its version.

    `words` are [NAME] MESSAGE and so many more.
    """
    if len(words) != (1 if chat else 2) + more:
        raise exits.Ended("say with whom, or which --chat, and which message", exits.USAGE)

    async def work() -> None:
        async with kept.client(listen=False, background=True) as client:
            where = chat or client.chat_with((await logins.person(client, words[0])).user)
            await client.connect(timeout_s=TIMEOUT_S)
            print(await change(client, where, words[0 if chat else 1]))

    return logins.act(work)
