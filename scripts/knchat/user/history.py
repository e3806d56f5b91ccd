"""`kn-chat history`: what was said in a chat, at any point in time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from knchat import exits
from knchat.user import logins

if TYPE_CHECKING:
    from knchat_client import Client
    from knchat_client.protocol.frames import HistoryMessage

_PAGE: Final = 256

_EXAMPLES: Final = """\
examples:
  kn-chat history bob                                  the newest 50
  kn-chat history bob --limit 1000
  kn-chat history bob --around 2026-01-31T12:00:00Z    about half before it, half after
  kn-chat history bob --before 7265400000000000001 --limit 20
  kn-chat history bob --after 2026-01-31T00:00:00Z --json | jq -r .text

Oldest first: time, id, who, text. --json prints each message as the server has it, one a line."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "history",
        help="read what was said",
        description="Messages of a chat: the newest, or those before, after or around an id or a time (RFC 3339, UTC).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("with_whom", nargs="?", metavar="NAME", help="the other person's name or id, unless --chat says it")
    parser.add_argument("--chat", metavar="ID", help="a chat")
    position = parser.add_mutually_exclusive_group()
    for name in ("before", "after", "around"):
        position.add_argument(f"--{name}", metavar="ID|TIME")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default 50)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    logins.add_options(parser)


def run(args: argparse.Namespace) -> int:
    if (args.with_whom is None) == (args.chat is None):
        raise exits.Ended("say with whom, or which --chat", exits.USAGE)
    if args.limit < 1:
        raise exits.Ended("--limit is at least 1", exits.USAGE)

    async def work() -> None:
        from msgspec import json  # noqa: PLC0415 - `--help` does without

        async with logins.Kept(args).client(args, listen=False, background=True) as client:
            chat = args.chat or client.chat_with((await logins.person(client, args.with_whom)).user)
            await client.connect()
            messages = await _messages(client, chat, args)
            if args.json:
                for message in messages:
                    print(json.encode(message).decode())
                return
            names = await names_of(client, [message.sender for message in messages])
            for message in messages:
                print(f"{message.time}  {message.message}  {names[message.sender]}: {logins.shown(message.text)}")

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


async def _messages(client: Client, chat: str, args: argparse.Namespace) -> list[HistoryMessage]:
    """Oldest first. A page ends at 256 messages or 48 KiB, so more may be needed; what lies around a point is one page."""
    if args.around is not None:
        page = await client.history(chat, around=args.around, limit=min(args.limit, _PAGE))
        return page.messages[::-1]
    found: list[HistoryMessage] = []
    before, after = args.before, args.after
    while len(found) < args.limit:
        page = await client.history(chat, before=before, after=after, limit=min(args.limit - len(found), _PAGE))
        messages = page.messages[::-1]
        found = found + messages if after is not None else messages + found
        if not messages or not (page.more_after if after is not None else page.more_before):
            break
        before, after = (None, messages[-1].message) if after is not None else (messages[0].message, None)
    return found
