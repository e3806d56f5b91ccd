"""`kn-chat privacy`: what I let others do and see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from knchat.command import command
from knchat.user import logins

if TYPE_CHECKING:
    from knchat_client import Privacy

_EXAMPLES: Final = """\
examples:
  kn-chat privacy                                as it is
  kn-chat privacy --who-may-write contacts       strangers are refused
  kn-chat privacy --no-receipts                  who has read what: told to none, and by none
  kn-chat privacy --last-seen none

Prints a line for each. A change counts within 5 s."""


@command(_EXAMPLES)
@click.option("--who-may-write", type=click.Choice(["everyone", "contacts"]), help="to you")
@click.option("--receipts/--no-receipts", default=None, help="whether you show and see receipts")
@click.option(
    "--last-seen",
    type=click.Choice(["everyone", "contacts", "none"]),
    help="who sees when you were last here",
)
@logins.options()
def run(
    who_may_write: str | None, receipts: bool | None, last_seen: str | None, kept: logins.Kept
) -> int:
    """Shows or changes who may write to you, and what others see of you."""
    asked = {"who_may_write": who_may_write, "receipts": receipts, "last_seen": last_seen}
    change = {name: value for name, value in asked.items() if value is not None}

    async def work() -> None:
        from msgspec.structs import replace  # noqa: PLC0415 - not for `--help`

        async with kept.client(listen=False, background=True) as client:
            privacy = await client.privacy()
            if change:
                privacy = await client.change_privacy(replace(privacy, **change))
            print(*_lines(privacy), sep="\n")

    return logins.act(work)


def _lines(privacy: Privacy) -> list[str]:
    return [
        f"who may write: {privacy.who_may_write}",
        f"receipts: {'yes' if privacy.receipts else 'no'}",
        f"last seen: {privacy.last_seen}",
    ]
