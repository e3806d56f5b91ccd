"""`kn-chat tail`: everything that is pushed to a user, one JSON object a line, for scripts."""

from __future__ import annotations

import asyncio
from typing import Final

import click

from knchat.command import command, exclusive
from knchat.user import logins

_EXAMPLES: Final = """\
examples:
  kn-chat tail                                          from now until Ctrl-C
  kn-chat tail --count 1 --timeout 10                   the next one, or code 5 after 10 s
  kn-chat tail --types message | jq -r .text            messages alone
  kn-chat tail --recent                                 begin with the pushes of the last minutes
  kn-chat tail --resume CURSOR                          go on after an earlier line, by its `cursor`

Lines have the fields of the protocol. {"type": "reload"} means: more was missed than the server
still holds, read history. What happens to the connection (connected, lost) is told on stderr."""


@command(_EXAMPLES)
@exclusive("recent", "resume")
@click.option("--count", type=int, metavar="N", help="end after so many lines")
@click.option(
    "--timeout",
    type=float,
    metavar="S",
    help="end after so many seconds, with code 5 if --count was not reached",
)
@click.option("--types", metavar="T,T", help="these types of push alone")
@click.option(
    "--recent",
    is_flag=True,
    help="begin with what the server pushes again to a new session: some minutes",
)
@click.option("--resume", metavar="CURSOR", help="begin after the push that had this cursor")
@logins.options()
def run(
    count: int | None,
    timeout: float | None,
    types: str | None,
    recent: bool,
    resume: str | None,
    kept: logins.Kept,
) -> int:
    """Messages, receipts, unread counts and refusals as they come.

    Survives lost connections without loss or copies.
    """
    chosen = None if types is None else set(types.split(","))

    async def work() -> None:
        from knchat_client import Unavailable  # noqa: PLC0415 - `--help` does without

        try:
            async with asyncio.timeout(timeout):
                await _tail(kept, chosen, count=count, recent=recent, resume=resume)
        except TimeoutError:
            if count is not None:
                raise Unavailable(
                    f"there was less to print within {timeout:g} s than --count says"
                ) from None

    return logins.act(work)


async def _tail(
    kept: logins.Kept,
    types: set[str] | None,
    *,
    count: int | None,
    recent: bool,
    resume: str | None,
) -> None:
    import msgspec  # noqa: PLC0415 - `--help` does without

    from knchat_client import (  # noqa: PLC0415 - see above
        Connected,
        Disconnected,
        Reload,
        Replaced,
        frames,
    )

    printed, listening = 0, recent or resume is not None
    async with kept.client(resume=resume) as client:
        await client.connect()
        async for event in client.events():
            match event:
                case Connected():
                    logins.note(f"connected: {event.result}")
                case Disconnected():
                    logins.note(
                        f"connection lost ({event.reason}), reconnecting in {event.pause_s:.1f} s"
                    )
                case frames.Live():
                    listening = True
                case _ if not listening:
                    pass
                case Reload() | Replaced():
                    fields = msgspec.to_builtins(event)
                    print(
                        msgspec.json.encode(
                            {"type": type(event).__name__.lower()} | fields
                        ).decode(),
                        flush=True,
                    )
                case _:
                    line = msgspec.json.encode(event).decode()
                    if types is None or msgspec.json.decode(line)["type"] in types:
                        print(line, flush=True)
                        printed += 1
            if printed == count:
                return
