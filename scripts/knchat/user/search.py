"""`kn-chat search`: finds messages by what they say."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

import click

from knchat.command import command
from knchat.user import logins
from knchat.user.history import json_option, limit_option, names_of

if TYPE_CHECKING:
    from knchat_client import Client, FoundMessage

_PAGE: Final = 256
_FROM: Final = re.compile(r"from:(\S+)")
_BOLD: Final = "\x1b[1m{}\x1b[0m"

_EXAMPLES: Final = """\
examples:
  kn-chat search lunch
  kn-chat search 'lunch "next week"'               a word and a phrase, anywhere in the text
  kn-chat search lunch from:bob --with alice       what bob has said to both of you
  kn-chat search lunch before:2026-01-31T00:00:00Z
  kn-chat search --limit 1000 --json lunch | jq -r .text

Newest first: time, id, chat, who, text. Parts of words are found, in any case; in: a chat's id,
has:file, before: and after: an id or a time narrow it. --json prints each message as the server
has it, one a line."""


@command(_EXAMPLES)
@click.argument("words", nargs=-1, required=True, metavar="WORDS", help="what to look for")
@click.option("--chat", metavar="ID", help="in this chat alone")
@click.option("--with", "with_whom", metavar="NAME", help="in the chat with this user alone")
@limit_option
@json_option
@logins.options()
def run(
    words: tuple[str, ...],
    chat: str | None,
    with_whom: str | None,
    limit: int,
    json: bool,
    kept: logins.Kept,
) -> int:
    """Messages of your chats that hold all of these words and "phrases"."""

    async def work() -> None:
        import msgspec  # noqa: PLC0415 - `--help` does without

        async with kept.client(listen=False, background=True) as client:
            asked = chat
            if with_whom is not None:
                asked = client.chat_with((await logins.person(client, with_whom)).user)
            text = await _with_ids(client, " ".join(words))
            messages = await _messages(client, text, asked, limit)
            if json:
                for message in messages:
                    print(msgspec.json.encode(message).decode())
                return
            names = await names_of(client, [message.sender for message in messages])
            for message in messages:
                who = names[message.sender]
                print(
                    f"{message.time}  {message.message}  {message.chat}  {who}: {_marked(message)}"
                )

    return logins.act(work)


async def _with_ids(client: Client, text: str) -> str:
    """The text with `from:` of user names turned into ids, which the server knows alone."""
    for name in dict.fromkeys(_FROM.findall(text)):
        if not name.isdecimal():
            user = (await logins.person(client, name)).user
            text = re.sub(rf"(?<!\S)from:{re.escape(name)}(?!\S)", f"from:{user}", text)
    return text


async def _messages(client: Client, text: str, chat: str | None, limit: int) -> list[FoundMessage]:
    found: list[FoundMessage] = []
    before: str | None = None
    while len(found) < limit:
        part = await client.search(
            text, chat=chat, before=before, limit=min(limit - len(found), _PAGE)
        )
        found += part.messages
        before = part.last
        if not part.more or before is None:
            break
    return found


def _marked(message: FoundMessage) -> str:
    """Its text, with what was found in bold on a terminal."""
    if not sys.stdout.isatty():
        return logins.said(message)
    text = message.text if isinstance(message.text, str) else ""
    parts: list[str] = []
    at = 0
    for start, end in message.highlights:
        parts += [logins.shown(text[at:start]), _BOLD.format(logins.shown(text[start:end]))]
        at = end
    return "".join([*parts, logins.shown(text[at:])])
