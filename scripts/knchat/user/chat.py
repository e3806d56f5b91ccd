"""`kn-chat chat`: talk with another user, line by line, on a terminal or through pipes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import click

from knchat import exits
from knchat.command import command
from knchat.user import logins
from schemas.ids import LATEST, time_of

if TYPE_CHECKING:
    from knchat_client import Client, Event, Profile
    from knchat_client.protocol.frames import HistoryMessage, Message

_LINES_WAITING: Final = 100
_TYPING_S: Final = 6.0

_EXAMPLES: Final = """\
examples:
  kn-chat chat bob                    what was said last, then live; type and press Enter
  kn-chat chat bob --user carol       as another user who is logged in here
  printf 'one\\ntwo\\n' | kn-chat chat bob
                                      sends two messages and ends

/quit or Ctrl-D ends; a text that begins with / is typed with two. A lost connection is made again;
what was typed meanwhile is sent then."""


@command(_EXAMPLES)
@click.argument("with_whom", metavar="NAME", help="the other person's name or id")
@click.option(
    "--limit",
    type=click.IntRange(0, 256),
    default=20,
    metavar="N",
    help="show the last N messages first (0-256, default 20)",
)
@logins.options()
def run(with_whom: str, limit: int, kept: logins.Kept) -> int:
    """Shows what was said last and what is said now, and sends what you type."""

    async def work() -> None:
        async with kept.client() as client:
            peer = await logins.person(client, with_whom)
            await client.connect()
            await _Talk(client, peer).run(limit)

    return logins.act(work)


class _Talk:
    """One chat on the screen."""

    def __init__(self, client: Client, peer: Profile) -> None:
        self._client = client
        self._peer = peer
        self._chat = client.chat_with(peer.user)
        self._names = {peer.user: peer.user_name, client.login.user: client.login.user_name}
        self._from_history: set[str] = set()
        self._oldest = 0
        self._live = False
        self._mine: set[str] = set()
        self._tty = sys.stdin.isatty()
        self._receipt = 0
        self._read = asyncio.Event()
        self._newest_read = 0
        self._typing_until_s = 0.0

    async def run(self, limit: int) -> None:
        """Until the input ends, `/quit`, or the server says no."""
        logins.note(f"chat with {self._peer.display_name} ({self._peer.user_name}); /quit ends")
        messages = (await self._client.history(self._chat, limit=limit)).messages if limit else []
        for message in reversed(messages):
            self._from_history.add(message.message)
            self._show(message)
        # A new session is first told what was pushed in the last minutes; of that, only what
        # history did not know yet is news.
        self._oldest = int(messages[-1].message) if messages else 0 if limit else LATEST
        tasks = [asyncio.create_task(part) for part in (self._type(), self._listen(), self._mark())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.result()

    async def _type(self) -> None:
        lines = _lines()
        while (line := await lines.get()) is not None:
            text = line.strip()
            if text == "/quit":
                return
            if text.startswith("/") and not text.startswith("//"):
                logins.note(
                    f"{text.split()[0]} is no command; /quit ends, and // begins a text with /"
                )
            elif text:
                await self._send(text.removeprefix("/"))

    async def _send(self, text: str) -> None:
        from knchat_client import ChatError  # noqa: PLC0415 - `--help` does without

        key = os.urandom(16).hex()
        self._mine.add(key)
        try:
            sent = await self._client.send(text, chat=self._chat, key=key)
        except ChatError as error:
            self._mine.discard(key)
            logins.note(f"not sent: {text!r}: {exits.line_of(error)} ({error.code})")
        else:
            # A terminal shows already what was typed.
            print(
                f"  sent {_clock(sent.message)}"
                if self._tty
                else f"{_clock(sent.message)} {self._client.login.user_name}: {text}",
                flush=True,
            )

    async def _listen(self) -> None:
        async for event in self._client.events():
            await self._heard(event)

    async def _heard(self, event: Event) -> None:
        from knchat_client import (  # noqa: PLC0415 - `--help` does without
            Connected,
            Disconnected,
            Reload,
            Replaced,
            frames,
        )

        match event:
            case frames.Message() if event.chat != self._chat:
                logins.note(f"({await self._name(event.sender)} writes in another chat)")
            case frames.Message() if event.message in self._from_history or event.key in self._mine:
                self._mine.discard(event.key)
            case frames.Message() if not self._live and int(event.message) < self._oldest:
                pass
            case frames.Message():
                self._show(event)
            case frames.Changed() if event.chat == self._chat:
                if self._live and event.by != self._client.login.user:
                    what = logins.shown(event.text) or logins.shown(event.emoji)
                    print(
                        f"  {self._names.get(event.by, event.by)}: {event.op} "
                        f"{_clock(event.message)} {what}".rstrip(),
                        flush=True,
                    )
            case frames.Live():
                self._live = True
            case frames.Receipt() if (
                event.chat == self._chat
                and event.user == self._peer.user
                and isinstance(event.read, str)
            ):
                if self._live and int(event.read) > self._receipt:
                    self._receipt = int(event.read)
                    print(
                        f"  {self._peer.user_name} has read up to {_clock(event.read)}", flush=True
                    )
            case frames.Refused() if event.chat == self._chat:
                print(
                    f"  refused ({event.code}): the message of {_clock(event.message)}", flush=True
                )
            case frames.Failed():
                print(
                    f"  failed: the message of {_clock(event.message)}; it may yet be delivered",
                    flush=True,
                )
            case frames.IsTyping() if event.chat == self._chat:
                self._note_typing()
            case Replaced() if event.chat == self._chat:
                print("  (the next one is a copy of one above)", flush=True)
            case Reload():
                logins.note("(too much was missed; end and start again to see it)")
            case Disconnected():
                logins.note(
                    f"(connection lost: {event.reason}; reconnecting in {event.pause_s:.1f} s)"
                )
            case Connected() if event.result != "new":
                logins.note("(connected again)")
            case _:
                pass

    def _note_typing(self) -> None:
        """Once, until six seconds have passed without another word of it."""
        now_s = time.monotonic()
        if now_s >= self._typing_until_s:
            logins.note(f"({self._peer.user_name} is typing)")
        self._typing_until_s = now_s + _TYPING_S

    def _show(self, message: Message | HistoryMessage) -> None:
        print(
            f"{_clock(message.message)} {self._names.get(message.sender, message.sender)}: "
            f"{logins.said(message)}",
            flush=True,
        )
        if message.sender != self._client.login.user:
            self._typing_until_s = 0.0
            self._newest_read = max(self._newest_read, int(message.message))
            self._read.set()

    async def _mark(self) -> None:
        """Tells the other side what has been shown; the newest is enough."""
        from knchat_client import ChatError  # noqa: PLC0415 - `--help` does without

        while True:
            await self._read.wait()
            self._read.clear()
            with contextlib.suppress(ChatError):  # the next message brings another try
                await self._client.mark(self._chat, read=str(self._newest_read))

    async def _name(self, user: str) -> str:
        if user not in self._names:
            self._names[user] = next(
                (profile.user_name for profile in await self._client.profiles([user])), user
            )
        return self._names[user]


def _clock(message: str) -> str:
    return f"{time_of(int(message)).astimezone():%H:%M:%S}"


def _lines() -> asyncio.Queue[str | None]:
    """Lines of stdin, None at its end, at most _LINES_WAITING ahead.

    A terminal, a pipe and a file alike, so a thread reads. It reads with os.read: a thread that
    waits in sys.stdin holds a lock that Python wants at its end.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue(_LINES_WAITING)

    def put(line: str | None) -> None:
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        rest = b""
        with contextlib.suppress(RuntimeError, asyncio.CancelledError):  # the loop has ended
            while data := os.read(sys.stdin.fileno(), 65_536):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    put(line.decode(errors="replace"))
            if rest:
                put(rest.decode(errors="replace"))
            put(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return lines
