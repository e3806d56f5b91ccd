"""`kn-chat history`: what was said in a chat, at any point in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import command, exclusive
from knchat.user import logins

if TYPE_CHECKING:
    from knchat_client import Client
    from knchat_client.protocol.frames import HistoryMessage

_PAGE: Final = 256

limit_option: Final = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    metavar="N",
    help="at most so many (default 50)",
)
"""Of a command that prints messages, which gets `limit`."""
json_option: Final = click.option("--json", is_flag=True, help="one JSON object a line")
"""The same, which gets `json`."""

_EXAMPLES: Final = """\
examples:
  kn-chat history bob                                  the newest 50
  kn-chat history bob --limit 1000
  kn-chat history bob --around 2026-01-31T12:00:00Z    about half before it, half after
  kn-chat history bob --pinned                         what is pinned
  kn-chat history bob --before 7265400000000000001 --limit 20
  kn-chat history bob --after 2026-01-31T00:00:00Z --json | jq -r .text

Oldest first: time, id, who, text. --json prints each message as the server has it, one a line."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which messages: one of the three points at most, each an id or a time; or those pinned."""

    before: str | None
    after: str | None
    around: str | None
    limit: int
    pinned: bool


@command(_EXAMPLES)
@exclusive("before", "after", "around", "pinned")
@click.argument(
    "with_whom",
    required=False,
    metavar="NAME",
    help="the other person's name or id, unless --chat says it",
)
@click.option("--chat", metavar="ID", help="a chat")
@click.option("--before", metavar="ID|TIME")
@click.option("--after", metavar="ID|TIME")
@click.option("--around", metavar="ID|TIME")
@click.option("--pinned", is_flag=True, help="those that are pinned, the newest pin last")
@limit_option
@json_option
@logins.options()
def run(
    with_whom: str | None,
    chat: str | None,
    before: str | None,
    after: str | None,
    around: str | None,
    pinned: bool,
    limit: int,
    json: bool,
    kept: logins.Kept,
) -> int:
    """Messages of a chat: the newest, or those before, after or around an id or a time (RFC 3339,
    UTC).
    """
    if (with_whom is None) == (chat is None):
        raise exits.Ended("say with whom, or which --chat", exits.USAGE)
    wanted = _Wanted(before, after, around, limit, pinned)

    async def work() -> None:
        import msgspec  # noqa: PLC0415 - `--help` does without

        async with kept.client(listen=False, background=True) as client:
            asked = chat or client.chat_with((await logins.person(client, with_whom or "")).user)
            await client.connect()
            messages = await _messages(client, asked, wanted)
            if json:
                for message in messages:
                    print(msgspec.json.encode(message).decode())
                return
            names = await names_of(client, [message.sender for message in messages])
            for message in messages:
                print(
                    f"{message.time}  {message.message}  {names[message.sender]}: "
                    f"{logins.said(message)}"
                )

    return logins.act(work)


async def names_of(client: Client, users: list[str]) -> dict[str, str]:
    """User id -> user name; the id where there is no such user any more."""
    ids = sorted(set(users))
    known = {
        profile.user: profile.user_name
        for start in range(0, len(ids), _PAGE)
        for profile in await client.profiles(ids[start : start + _PAGE])
    }
    return {user: known.get(user, user) for user in ids}


async def _pinned(client: Client, chat: str, limit: int) -> list[HistoryMessage]:
    """The newest pin last; without what I have deleted for me."""
    pins = [pin.message for pin in (await client.pins(chat))[:limit]]
    pages = [await client.history(chat, around=message, limit=1) for message in reversed(pins)]
    return [message for page in pages for message in page.messages if message.message in pins]


async def _messages(client: Client, chat: str, wanted: _Wanted) -> list[HistoryMessage]:
    """Oldest first.

    A page ends at 256 messages or 48 KiB, so more may be needed; what lies around a point is one
    page.
    """
    if wanted.pinned:
        return await _pinned(client, chat, wanted.limit)
    if wanted.around is not None:
        page = await client.history(chat, around=wanted.around, limit=min(wanted.limit, _PAGE))
        return page.messages[::-1]
    found: list[HistoryMessage] = []
    before, after = wanted.before, wanted.after
    while len(found) < wanted.limit:
        page = await client.history(
            chat, before=before, after=after, limit=min(wanted.limit - len(found), _PAGE)
        )
        messages = page.messages[::-1]
        found = found + messages if after is not None else messages + found
        if not messages or not (page.more_after if after is not None else page.more_before):
            break
        before, after = (
            (None, messages[-1].message) if after is not None else (messages[0].message, None)
        )
    return found
