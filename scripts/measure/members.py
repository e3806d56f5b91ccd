"""The members of groups under load, with a session each: a process of its own, `python -m
measure.members`.

It reads a task as JSON on each line of standard input, does it, and answers with a line. `groups`
starts it. A member who is told `newer` asks for the chat's history, at a random moment of the next
second and never twice at once, as the protocol says.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
import time
from collections import Counter
from typing import Any, Final

import msgspec
import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from measure.process import ahead_of_others
from measure.schedule import Timer
from schemas.ids import first_id_at

MAX_CONNECTING: Final = 50
CONNECT_TIMEOUT_S: Final = 30.0
PULL_INTERVAL_S: Final = 1.0
PULL: Final = 1_000_000
"""The number of a question; those of messages are lower."""
POLL_INTERVAL_S: Final = 0.05


class Frame(msgspec.Struct):
    """The fields of any server frame that matter here."""

    type: str = ""
    chat: str = ""
    message: str = ""
    key: str = ""
    newest: str = ""
    messages: list[Frame] = []
    more_after: bool = False
    re: int = 0
    code: str = ""
    temporary: bool = False
    url: str = ""


_FRAME: Final = msgspec.json.Decoder(Frame)
_FRAMES: Final = msgspec.json.Decoder(list[Frame])


class Said:
    """The messages of one task: who has got which, and when all had one."""

    def __init__(self, chat: str, count: int, members: int) -> None:
        self.chat, self.run = chat, secrets.token_hex(4)
        self.due_ns = [0] * count
        self.reached_ns = [0] * count
        self.missing = [members] * count
        self.ids: list[set[str]] = [set() for _ in range(count)]
        self.counts: Counter[str] = Counter()

    def number_of(self, key: str) -> int | None:
        """Which of them this is; None: none of them."""
        run, _, number = key.rpartition("-")
        return int(number) if run == self.run else None

    def note(self, number: int, message: str, got: bytearray, now_ns: int) -> None:
        """A member has got it, who has what `got` says."""
        self.ids[number].add(message)
        if got[number]:
            self.counts["again"] += 1
            return
        got[number] = 1
        self.missing[number] -= 1
        self.reached_ns[number] = now_ns

    def figures(self) -> dict[str, Any]:
        """What became of them."""
        return {
            "sent": len(self.due_ns),
            "missing": sum(self.missing),
            "two_ids": sum(len(ids) > 1 for ids in self.ids),
            "ids": [min(ids, default="") for ids in self.ids],
            "to_all_ms": [
                (reached - due) / 1e6 if not left else None
                for due, reached, left in zip(
                    self.due_ns, self.reached_ns, self.missing, strict=True
                )
            ],
            **self.counts,
        }


class Member(WSListener):
    """One session."""

    def __init__(self, number: int, user: str, token: str, gateway: str) -> None:
        self.user, self._url = user, gateway
        self._hello = {"type": "hello", "token": token, "device": f"load-{number}"}
        self._transport: WSTransport | None = None
        self._moved = ""
        self._live = asyncio.Event()
        self._said: Said | None = None
        self._got = bytearray()
        self._last = 0
        self._told: set[int] = set()
        self._asking: asyncio.TimerHandle | bool = False

    async def open(self) -> None:
        """Connects, and waits until it is live; sent elsewhere it goes there."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            while True:
                self._moved = ""
                self._live.clear()
                self._transport, _ = await ws_connect(
                    lambda: self,
                    self._url,
                    extra_headers={"Sec-WebSocket-Protocol": "knchat.v1.json"},
                )
                self.say(self._hello)
                await self._live.wait()
                if not self._moved:
                    return
                self._url = self._moved

    def listen(self, said: Said) -> None:
        """What comes of these from now on is noted."""
        self._said, self._got = said, bytearray(len(said.due_ns))
        self._last = first_id_at(int(time.time() * 1_000) - 1_000)
        self._told.clear()

    def say(self, frame: dict[str, Any]) -> None:
        """Sends a frame."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, json.dumps(frame).encode())

    def send(self, number: int, text: str) -> None:
        """Sends a message of those that are listened to."""
        said = self._said
        assert said is not None  # noqa: S101 - it listens
        key = f"{said.run}-{number}"
        self.say({"type": "send", "id": number + 1, "key": key, "chat": said.chat, "text": text})

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Notes what comes."""
        if frame.msg_type == WSMsgType.CLOSE and not self._moved and self._said is not None:
            self._said.counts["closed"] += 1
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        if frame.msg_type != WSMsgType.TEXT:
            return
        now_ns, payload = time.monotonic_ns(), frame.get_payload_as_bytes()
        frames = _FRAMES.decode(payload) if payload[:1] == b"[" else (_FRAME.decode(payload),)
        for one in frames:
            self._take(one, now_ns)

    def _take(self, frame: Frame, now_ns: int) -> None:
        said = self._said
        if frame.type == "live":
            self._live.set()
        elif frame.type == "moved":
            self._moved = frame.url
            self._live.set()
        elif said is None:
            return
        elif frame.type == "message":
            said.counts["pushes"] += 1
            self._note(said, frame, now_ns)
        elif frame.type == "newer" and frame.chat == said.chat:
            said.counts["newer"] += 1
            self._told.add(int(frame.newest))
            self._pull_soon(said)
        elif frame.type == "page":
            said.counts["pages"] += 1
            self._asking = False
            for message in frame.messages:
                self._note(said, message, now_ns)
                # What is pushed, of one's own, may lie above what was not asked for yet.
                self._last = max(self._last, int(message.message))
                self._told.discard(int(message.message))
            if frame.more_after:
                self._pull(said)
            else:
                self._pull_soon(said)
        elif frame.type == "error" and frame.temporary and frame.re == PULL:
            said.counts["asked_again"] += 1
            self._asking = False
            self._pull_soon(said)
        elif frame.type in {"error", "refused", "failed"}:
            said.counts[f"{frame.type} {frame.code}"] += 1

    def _note(self, said: Said, frame: Frame, now_ns: int) -> None:
        if (number := said.number_of(frame.key)) is not None:
            said.note(number, frame.message, self._got, now_ns)

    def _pull_soon(self, said: Said) -> None:
        if not self._asking and self._told:
            self._asking = asyncio.get_running_loop().call_later(
                random.uniform(0, PULL_INTERVAL_S),  # noqa: S311 - jitter
                self._pull,
                said,
            )

    def _pull(self, said: Said) -> None:
        self._asking = True
        after = min([self._last, *(message - 1 for message in self._told)])
        self.say(
            {
                "type": "history",
                "id": PULL,
                "chat": said.chat,
                "after": str(after),
                "limit": 256,
            }
        )

    def close(self) -> None:
        """Ends."""
        if isinstance(self._asking, asyncio.TimerHandle):
            self._asking.cancel()
        if self._transport is not None:
            self._transport.disconnect()


class Members:
    """All of them."""

    def __init__(self, users: list[list[str]], text: str) -> None:
        self._text = text
        self._all = [Member(number, *user) for number, user in enumerate(users)]

    async def connect(self) -> None:
        """Opens a session for each."""
        gate = asyncio.Semaphore(MAX_CONNECTING)

        async def one(member: Member) -> None:
            async with gate:
                await member.open()

        await asyncio.gather(*(one(member) for member in self._all))

    async def talk(self, task: dict[str, Any]) -> dict[str, Any]:
        """Sends so many messages to a chat at a rate, one member after the other, and waits until
        all have all, so many seconds at most.
        """
        members = [self._all[number] for number in task["members"]]
        senders = [self._all[number] for number in task["senders"]]
        said = Said(task["chat"], task["count"], len(members))
        for member in members:
            member.listen(said)
        timer, start_ns = Timer(), time.monotonic_ns() + 20_000_000
        for number in range(task["count"]):
            due_ns = said.due_ns[number] = start_ns + int(number * 1e9 / task["rate"])
            if due_ns > time.monotonic_ns():
                await timer.until(due_ns)
            senders[number % len(senders)].send(number, self._text)
        timer.close()
        until_s = time.monotonic() + task["wait_s"]
        while any(said.missing) and time.monotonic() < until_s:  # noqa: ASYNC110 - no event
            await asyncio.sleep(POLL_INTERVAL_S)
        return said.figures()

    def close(self) -> None:
        """All end."""
        for member in self._all:
            member.close()


async def work() -> None:
    """Does one task after the other, until standard input ends."""
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    first: dict[str, Any] = json.loads(await reader.readline())
    members = Members(first["users"], first["text"])
    try:
        await members.connect()
    except (OSError, TimeoutError, WSError) as error:
        raise SystemExit(f"a member could not connect: {error!r}") from error
    print(json.dumps({}), flush=True)
    while line := await reader.readline():
        print(json.dumps(await members.talk(json.loads(line))), flush=True)
    members.close()


if __name__ == "__main__":
    with ahead_of_others():
        uvloop.run(work())
