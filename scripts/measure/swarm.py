"""The clients of a load run: many devices in one event loop, each with one WebSocket, driven by a
fixed schedule.

Client i talks to client i ^ 1. A device reconnects with its newest cursor and repeats every send
without an answer under its key, as any good client must; the checker counts what that cost. Nothing
is shared with the product's own client: it is a second reader of the protocol.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from measure.process import ahead_of_others
from measure.record import Record
from measure.schedule import Schedule, Timer
from measure.target import User

CONNECT_TIMEOUT_S = 10
RETRY_AFTER_S = 5.0
ASK_AFTER = 3
"""Failed attempts to connect after which a client asks where its gateway is: the one it knows may
be gone for good (protocol.md).
"""


class Frame(msgspec.Struct):
    """The fields of any server frame that matter here."""

    type: str
    re: int = 0
    n: int = 0
    cursor: str = ""
    message: str = ""
    version: str = ""
    key: str = ""
    sender: str = ""
    chat: str = ""
    code: str = ""
    temporary: bool = False
    result: str = ""
    url: str = ""


_FRAME = msgspec.json.Decoder(Frame)
_FRAMES = msgspec.json.Decoder(list[Frame])


class Device(Protocol):
    """One client of a swarm, whatever it speaks."""

    async def connect(self) -> None:
        """Opens the socket and waits until messages flow."""
        ...

    def send(self, row: int) -> None:
        """Sends the message of a row now."""
        ...

    def close(self) -> None:
        """Ends for good."""
        ...


class Relayed(WSListener):
    """A client of the raw relay: no log-in, no acknowledgement, no echo."""

    def __init__(self, url: str, number: int, record: Record, text: str) -> None:
        self._url, self._record, self._text = f"{url}/{number}", record, text
        self._transport: WSTransport | None = None

    async def connect(self) -> None:
        self._transport, _ = await ws_connect(lambda: self, self._url)

    def send(self, row: int) -> None:
        assert self._transport is not None  # noqa: S101 - connected before the schedule starts
        self._transport.send(WSMsgType.TEXT, f"{row} {self._text}".encode())
        self._record.acked[row] = time.monotonic_ns()
        self._record.echoed[row] = 1

    def on_ws_frame(
        self,
        transport: WSTransport,  # noqa: ARG002 - picows' signature
        frame: WSFrame,
    ) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._record.delivered[int(frame.get_payload_as_bytes().partition(b" ")[0])] = (
                time.monotonic_ns()
            )

    def close(self) -> None:
        if self._transport is not None:
            self._transport.disconnect()


class ChatDevice(WSListener):
    """A client of kn-chat, JSON subprotocol.

    `find` asks for the URL of its gateway; without it the client stays with the one it knows.
    """

    def __init__(
        self,
        url: str,
        user: User,
        peer: str,
        run: str,
        record: Record,
        text: str,
        *,
        find: Callable[[User], Awaitable[str]] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self.user, self._url, self._token = user.user, url, user.token
        self._find = None if find is None else partial(find, user)
        self.chat = f"d-{min(int(user.user), int(peer))}-{max(int(user.user), int(peer))}"
        self._device, self._run, self._record, self._text = f"load-{user.number}", run, record, text
        self._transport: WSTransport | None = None
        self._live, self._closed = asyncio.Event(), asyncio.Event()
        self._cursor, self._n, self._connecting, self._closing = "", 0, False, False
        self.unanswered: dict[int, float] = {}
        """Rows sent and without an answer -> when they were last sent (loop time)."""
        self.resets = 0
        self._reconnecting: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Opens the socket and waits until messages flow; told to go elsewhere or to come again it
        does.

        TimeoutError at last.
        """
        async with asyncio.timeout(self._connect_timeout_s):
            await self._connect()

    async def _try(self) -> None:
        self._live.clear()
        self._closed.clear()
        async with asyncio.timeout(self._connect_timeout_s):
            headers = {"Sec-WebSocket-Protocol": "knchat.v1.json"}
            self._transport, _ = await ws_connect(lambda: self, self._url, extra_headers=headers)
            hello: dict[str, Any] = {"type": "hello", "token": self._token, "device": self._device}
            if self._cursor:
                hello["resume"] = self._cursor
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(hello))
            ends = [asyncio.create_task(event.wait()) for event in (self._live, self._closed)]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        if not self._live.is_set():
            raise ConnectionError("closed before it was live")

    def send(self, row: int) -> None:
        self.unanswered[row] = asyncio.get_running_loop().time()
        if self._transport is not None and self._live.is_set():
            self._record.tries[row] += 1
            frame = (
                f'{{"type":"send","id":{row + 1},"key":"{self._run}-{row}","chat":"{self.chat}",'
                f'"text":"{row} {self._text}"}}'
            )
            self._transport.send(WSMsgType.TEXT, frame.encode())

    def repeat_unanswered(self, older_than_s: float) -> None:
        """Sends again, with the same keys, what has had no answer for so long."""
        before = asyncio.get_running_loop().time() - older_than_s
        for row in [row for row, at in self.unanswered.items() if at <= before]:
            self.send(row)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            now = time.monotonic_ns()
            payload = frame.get_payload_as_bytes()
            if payload[:1] == b"[":
                for one in _FRAMES.decode(payload):
                    self._take(one, now)
            else:
                self._take(_FRAME.decode(payload), now)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), b"")
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if transport is self._transport and not self._closing:
            self._closed.set()
            if self._live.is_set():
                self._live.clear()
                self._record.disconnects += 1
                if not self._connecting:
                    self._reconnecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        """Tries until it is live."""
        delay_s, self._connecting, failures = 0.05, True, 0
        try:
            while not self._closing:
                await asyncio.sleep(random.uniform(0, delay_s))  # noqa: S311 - full jitter
                if self._find is not None and failures and failures % ASK_AFTER == 0:
                    self._url = await self._find() or self._url
                try:
                    await self._try()
                except (OSError, WSError, TimeoutError):
                    if self._transport is not None:
                        self._transport.disconnect()
                    delay_s, failures = min(delay_s * 2, 2), failures + 1
                else:
                    self.repeat_unanswered(0)
                    return
        finally:
            self._connecting = False

    def _take(self, frame: Frame, now: int) -> None:
        record = self._record
        if frame.n:
            if frame.n != self._n + 1:
                record.jumps += 1
            self._n, self._cursor = frame.n, frame.cursor
        match frame.type:
            case "message":
                self._take_message(frame, now)
            case "ok":
                row = frame.re - 1
                self.unanswered.pop(row, None)
                record.acked[row] = record.acked[row] or now
                record.seen(row, int(frame.message))
            case "error":
                if frame.temporary:
                    record.temporary_errors += 1
                else:
                    self.unanswered.pop(frame.re - 1, None)
                    record.refused[frame.re - 1] = frame.code
            case "refused" | "failed":
                record.refused[int(frame.key.rpartition("-")[2])] = frame.code or frame.type
            case "welcome":
                self._n = 0
                self._cursor = frame.cursor
                self.resets += frame.result == "reset"
            case "live":
                self._cursor = frame.cursor
                self._live.set()
            case "cursor":
                self._cursor = frame.cursor
            case "moved":
                self._url = frame.url
            case _:
                pass

    def _take_message(self, frame: Frame, now: int) -> None:
        record = self._record
        run, _, row_text = frame.key.rpartition("-")
        if run != self._run:
            return  # of an earlier run on the same data
        row = int(row_text)
        if frame.chat != self.chat or not record.sent[row]:
            record.phantoms.append(frame.key)
            return
        record.seen(row, int(frame.message))
        if frame.sender == self.user:
            record.raw_duplicates += record.echoed[row]
            record.echoed[row] = 1
        elif record.delivered[row]:
            record.raw_duplicates += 1
        else:
            record.delivered[row] = now

    def close(self) -> None:
        self._closing = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        if self._transport is not None:
            self._transport.disconnect()


async def connect_all(devices: list[Any]) -> None:
    """Connects every device, 50 at a time."""
    gate = asyncio.Semaphore(50)

    async def one(device: Device) -> None:
        async with gate:
            await device.connect()

    await asyncio.gather(*(one(device) for device in devices))


async def drive(devices: list[Any], plan: Schedule, record: Record) -> None:
    """Sends every slot at its time, however late the answers are."""
    with ahead_of_others(timing=True):
        await _drive(devices, plan, record)


async def _drive(devices: list[Any], plan: Schedule, record: Record) -> None:
    timer = Timer()
    start = time.monotonic_ns() + 20_000_000
    repeats = asyncio.get_running_loop().create_task(_repeat(devices))
    try:
        for row, sender in enumerate(plan.senders):
            at = start + plan.offset_ns(row)
            record.due[row] = at
            if at > time.monotonic_ns():
                await timer.until(at)
            elif row % 64 == 0:
                await asyncio.sleep(0)  # behind its time: let the answers in
            record.sent[row] = time.monotonic_ns()
            devices[sender].send(row)
    finally:
        repeats.cancel()
        timer.close()


async def _repeat(devices: list[Any]) -> None:
    while True:
        await asyncio.sleep(1)
        for device in devices:
            if isinstance(device, ChatDevice):
                device.repeat_unanswered(RETRY_AFTER_S)


async def settle(devices: list[Any], record: Record, seconds: float) -> None:
    """Waits until everything is answered and delivered, at most so long."""
    deadline = time.monotonic() + seconds
    while record.outstanding and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        for device in devices:
            if isinstance(device, ChatDevice):
                device.repeat_unanswered(RETRY_AFTER_S / 2)
