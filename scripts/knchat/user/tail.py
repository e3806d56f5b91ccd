"""`kn-chat tail`: everything that is pushed to a user, one JSON object a line, for scripts."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat tail                                          from now until Ctrl-C
  kn-chat tail --count 1 --timeout 10                   the next one, or code 5 after 10 s
  kn-chat tail --types message | jq -r .text            messages alone
  kn-chat tail --recent                                 begin with what was pushed in the last minutes
  kn-chat tail --resume CURSOR                          go on after a line of an earlier run: its `cursor`

Lines have the fields of the protocol. {"type": "reload"} means: more was missed than the server still holds, read history. What happens
to the line (connected, lost) is told on stderr."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "tail",
        help="print everything that is pushed, as JSON lines",
        description="Messages, receipts, unread counts and refusals as they come. Survives lost lines without loss or copies.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, metavar="N", help="end after so many lines")
    parser.add_argument("--timeout", type=float, metavar="S", help="end after so many seconds, with code 5 if --count was not reached")
    parser.add_argument("--types", metavar="T,T", help="these types of push alone")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--recent", action="store_true", help="begin with what the server pushes again to a new session: some minutes")
    start.add_argument("--resume", metavar="CURSOR", help="begin after the push that had this cursor")
    logins.add_options(parser)


def run(args: argparse.Namespace) -> int:
    async def work() -> None:
        from knchat_client import Unavailable  # noqa: PLC0415 - `--help` does without

        try:
            async with asyncio.timeout(args.timeout):
                await _tail(args)
        except TimeoutError:
            if args.count is not None:
                raise Unavailable(f"there was less to print within {args.timeout:g} s than --count says") from None

    return logins.act(work)


async def _tail(args: argparse.Namespace) -> None:
    import msgspec  # noqa: PLC0415 - `--help` does without

    from knchat_client import Connected, Disconnected, Reload, Replaced, frames  # noqa: PLC0415 - see above

    types = None if args.types is None else set(args.types.split(","))
    printed, listening = 0, args.recent or args.resume is not None
    async with logins.Kept(args).client(args, resume=args.resume) as client:
        await client.connect()
        async for event in client.events():
            match event:
                case Connected():
                    logins.note(f"connected: {event.result}")
                case Disconnected():
                    logins.note(f"line lost ({event.reason}), coming back in {event.pause_s:.1f} s")
                case frames.Live():
                    listening = True
                case _ if not listening:
                    pass
                case Reload() | Replaced():
                    fields = msgspec.to_builtins(event)
                    print(msgspec.json.encode({"type": type(event).__name__.lower()} | fields).decode(), flush=True)
                case _:
                    line = msgspec.json.encode(event).decode()
                    if types is None or msgspec.json.decode(line)["type"] in types:
                        print(line, flush=True)
                        printed += 1
            if printed == args.count:
                return
