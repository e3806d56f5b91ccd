"""`kn-chat send`: one message."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from knchat import exits
from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat send bob 'Hello, Bob'
  kn-chat send --to bob 'Hello, Bob'           the same
  fortune | kn-chat send bob -                 text from stdin
  kn-chat send bob 'Pay the rent' --key rent-2026-12
                                               sent once, however often this is run within 24 h
  kn-chat send --chat d-1001-1002 --reply-to 7265400000000000001 Yes

Prints the message's id and time once it is safe in the log. Code 5: the outcome is unknown; run it again with the key that is printed."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "send",
        help="send a message",
        description="Sends one message. Lost lines are met by repeating, so it arrives once.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="[NAME] TEXT", help="to whom, unless --to or --chat says it, and what; -: stdin")
    whereto = parser.add_mutually_exclusive_group()
    whereto.add_argument("--to", metavar="NAME", help="a user's name or id")
    whereto.add_argument("--chat", metavar="ID", help="a chat")
    parser.add_argument("--reply-to", metavar="ID", help="the message that this one answers")
    parser.add_argument("--key", help="the message's key; the same key is sent once (default: a random one)")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S", help="give up after so many seconds (default 30)")
    logins.add_options(parser)


def run(args: argparse.Namespace) -> int:
    to, words = (args.to, args.words) if args.to or args.chat else (args.words[0], args.words[1:])
    if not words:
        raise exits.Ended("there is nothing to send: kn-chat send NAME TEXT", exits.USAGE)
    text = sys.stdin.read().rstrip("\n") if words == ["-"] else " ".join(words)

    async def work() -> None:
        async with logins.Kept(args).client(args, listen=False, background=True) as client:
            user = None if to is None else (await logins.person(client, to)).user
            await client.connect(timeout_s=args.timeout)
            sent = await client.send(text, to=user, chat=args.chat, key=args.key, reply_to=args.reply_to, timeout_s=args.timeout)
        print(sent.message, sent.time)
        if sent.duplicate:
            logins.note("this key had been sent before; this is that message")

    return logins.act(work)
