"""`kn-chat pin`: a message among the pins of its chat, or away."""

from __future__ import annotations

from typing import Final

import click

from knchat.command import command
from knchat.user import changing, logins

_EXAMPLES: Final = """\
examples:
  kn-chat pin bob 7265400000000000001
  kn-chat pin bob 7265400000000000001 --remove

Prints the version of the change once it is safe in the log."""


@command(_EXAMPLES)
@click.option("--remove", is_flag=True, help="take it away")
@changing.options("")
def run(
    words: tuple[str, ...], chat: str | None, key: str | None, remove: bool, kept: logins.Kept
) -> int:
    """Pins a message, or takes it from the pins."""
    return changing.act(
        kept,
        words,
        chat,
        lambda client, where, message: (client.unpin if remove else client.pin)(
            where, message, key=key
        ),
    )
