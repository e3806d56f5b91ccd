"""`kn-chat edit`: another text for a message of mine."""

from __future__ import annotations

from typing import Final

from knchat.command import command
from knchat.user import changing, logins

_EXAMPLES: Final = """\
examples:
  kn-chat edit bob 7265400000000000001 'Hello, Bob'
  kn-chat edit --chat d-1001-1002 7265400000000000001 Yes

Prints the version of the change once it is safe in the log."""


@command(_EXAMPLES)
@changing.options("TEXT")
def run(words: tuple[str, ...], chat: str | None, key: str | None, kept: logins.Kept) -> int:
    """Gives a message of mine another text."""
    return changing.act(
        kept,
        words,
        chat,
        lambda client, where, message: client.edit(where, message, words[-1], key=key),
        more=1,
    )
