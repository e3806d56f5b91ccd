"""Many users with a session each, who watch each other: a process of its own, `python -m
measure.watchers`.

It reads a task as JSON on each line of standard input, does it, and answers with a line. Tokens are
signed with the key of the product's folder, so no user needs an account. `presence` starts it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from backends.settings import Settings
from backends.signing import SigningKey
from measure.process import ahead_of_others
from schemas.ids import UserId
from schemas.tokens import claims_of

FIRST_USER: Final = 1_000_000
TOO_SOON_S: Final = 0.7
"""Two messages of presence so close are more than one a second: the gateway looks four times a
second whose turn it is.
"""
MAX_CONNECTING: Final = 64
CONNECT_TIMEOUT_S: Final = 30.0


class Watcher(WSListener):
    """One session. What it is told is counted, and dropped; sent elsewhere it goes there."""

    def __init__(self, hello: bytes, counts: Counter[str]) -> None:
        self._hello = hello
        self._counts = counts
        self._transport: WSTransport | None = None
        self._told_s = 0.0
        self._moved = ""
        self._welcomed = asyncio.Event()

    async def open(self, url: str) -> None:
        """Connects, says hello and whom it watches, and waits until it is live."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._open(url)
            if self._moved:
                await self._open(self._moved)

    async def _open(self, url: str) -> None:
        self._welcomed.clear()
        self._transport, _ = await ws_connect(
            lambda: self, url, extra_headers={"Sec-WebSocket-Protocol": "knchat.v1.json"}
        )
        self._transport.send(WSMsgType.TEXT, self._hello)
        await self._welcomed.wait()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Counts."""
        if frame.msg_type == WSMsgType.CLOSE:
            self._counts["closed"] += not self._moved
            transport.disconnect()
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        if frame.msg_type != WSMsgType.TEXT:
            return
        payload = frame.get_payload_as_bytes()
        if presences := payload.count(b'"type":"presence"'):
            now_s = time.monotonic()
            self._counts["too_soon"] += now_s - self._told_s < TOO_SOON_S
            self._told_s = now_s
            self._counts["messages"] += 1
            self._counts["presences"] += presences
            self._counts["bytes"] += len(payload)
        elif b'"type":"live"' in payload:
            self._moved = ""
            self._welcomed.set()
        elif b'"type":"moved"' in payload:
            self._moved = json.loads(payload)["url"]
            self._welcomed.set()
        elif b'"type":"error"' in payload:
            self._counts["errors"] += 1

    def cut(self) -> None:
        """Ends without a word."""
        if self._transport is not None:
            self._transport.disconnect()


class Watchers:
    """All of them."""

    def __init__(self, folder: Path, url: str, sessions: int) -> None:
        self._url = url
        self._key = SigningKey.of(Settings(data=folder))
        self._sessions = sessions
        self._counts = Counter[str]()
        self._watchers: list[Watcher] = []
        now_ms = int(time.time() * 1_000)
        self._tokens = [self._token(number, now_ms) for number in range(sessions)]
        """Who comes back has the token of before: one lasts longer than a connection."""

    async def connect(self, watched: int, within_s: float) -> None:
        """All are cut at once, and connect one after the other within so many seconds; each watches
        the next users.
        """
        watchers = [
            Watcher(self._hello(number, watched), self._counts) for number in range(self._sessions)
        ]
        self.cut()
        self._watchers = watchers
        gate, began_s = asyncio.Semaphore(MAX_CONNECTING), time.monotonic()

        async def one(number: int, watcher: Watcher) -> None:
            at_s = began_s + within_s * number / self._sessions
            await asyncio.sleep(max(0.0, at_s - time.monotonic()))
            async with gate:
                try:
                    await watcher.open(self._url)
                except (OSError, TimeoutError, WSError) as error:
                    self._counts[f"failed: {type(error).__name__}"] += 1

        await asyncio.gather(*(one(*each) for each in enumerate(self._watchers)))

    def _token(self, number: int, now_ms: int) -> str:
        user = UserId(FIRST_USER + number)
        return self._key.sign(claims_of(user, "phone", issued_ms=now_ms, token_s=3_600))

    def _hello(self, number: int, watched: int) -> bytes:
        hello = {"type": "hello", "token": self._tokens[number], "device": "phone"}
        others = [str(FIRST_USER + (number + n) % self._sessions) for n in range(1, watched + 1)]
        watch = {"type": "watch", "users": others}
        return json.dumps([hello, watch] if watched else hello).encode()

    def cut(self) -> None:
        """All end."""
        for watcher in self._watchers:
            watcher.cut()

    def pop_counts(self) -> dict[str, int]:
        """What was told since the last time."""
        counts = dict(self._counts)
        self._counts.clear()
        return counts


async def work() -> None:
    """Does one task after the other, until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    first: dict[str, Any] = json.loads(await reader.readline())
    watchers = Watchers(Path(first["folder"]), first["url"], first["sessions"])
    while line := await reader.readline():
        task = json.loads(line)
        began_s = time.monotonic()
        if "watched" in task:
            await watchers.connect(task["watched"], task["within_s"])
        took_s = time.monotonic() - began_s
        print(json.dumps({"took_s": took_s} | watchers.pop_counts()), flush=True)
    watchers.cut()


if __name__ == "__main__":
    with ahead_of_others():
        uvloop.run(work())
