"""`kn-chat delete`: a message away."""

from __future__ import annotations

from typing import Final

import click

from knchat.command import command
from knchat.user import changing, logins

_EXAMPLES: Final = """\
examples:
  kn-chat delete bob 7265400000000000001                 from my own devices
  kn-chat delete bob 7265400000000000001 --for-all       one of mine, for all: it is final

Prints the version of the change once it is safe in the log."""


@command(_EXAMPLES)
@click.option("--for-all", is_flag=True, help="for all who see it; else for me alone")
@changing.options("")
def run(
    words: tuple[str, ...], chat: str | None, key: str | None, for_all: bool, kept: logins.Kept
) -> int:
    """Deletes a message, for me or for all."""
    return changing.act(
        kept,
        words,
        chat,
        lambda client, where, message: client.delete(where, message, for_all=for_all, key=key),
    )
