"""`kn-chat react`: an emoji to a message, or away."""

from __future__ import annotations

from typing import Final

import click

from knchat.command import command
from knchat.user import changing, logins

_EXAMPLES: Final = """\
examples:
  kn-chat react bob 7265400000000000001 👍
  kn-chat react bob 7265400000000000001 👍 --remove
  kn-chat react --chat d-1001-1002 7265400000000000001 ❤️

Prints the version of the change once it is safe in the log."""


@command(_EXAMPLES)
@click.option("--remove", is_flag=True, help="take it away")
@changing.options("EMOJI")
def run(
    words: tuple[str, ...], chat: str | None, key: str | None, remove: bool, kept: logins.Kept
) -> int:
    """Puts an emoji to a message, or takes it away."""
    return changing.act(
        kept,
        words,
        chat,
        lambda client, where, message: (client.unreact if remove else client.react)(
            where, message, words[-1], key=key
        ),
        more=1,
    )
