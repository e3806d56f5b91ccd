"""A WebSocket of a server, by `websockets`: frames as plain dicts, each checked by its row in
`rows.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import websockets
from websockets.asyncio.client import ClientConnection

from tests.conformance.protocol import rows
from tests.conformance.protocol.expectations import Failed, Seen, check, expect, has
from tests.conformance.protocol.shapes import faults, text

JSON, MSGPACK = "knchat.v1.json", "knchat.v1.msgpack"
TIMEOUT_S: Final = 15.0


class Socket:
    """One WebSocket."""

    def __init__(self, connection: ClientConnection, seen: Seen, *, packed: bool) -> None:
        self.connection = connection
        self.packed = packed
        self.pushes: list[dict[str, Any]] = []
        """Durable ones, in order."""
        self.cursor = ""
        self.welcome: dict[str, Any] = {}
        self._seen = seen
        self._waiting: list[dict[str, Any]] = []
        self._number = 0

    async def say(self, *frames: dict[str, Any] | list[Any]) -> None:
        """One WebSocket message each."""
        for frame in frames:
            for one in frame if isinstance(frame, list) else [frame]:
                if isinstance(one, dict):
                    self._seen.frame("client", one)
            await self.raw(self.encode(frame))

    def encode(self, frame: object) -> str | bytes:
        return msgspec.msgpack.encode(frame) if self.packed else json.dumps(frame)

    async def raw(self, payload: str | bytes) -> None:
        """A message as it is; that the server has closed meanwhile is seen where it is read."""
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.connection.send(payload)

    def bytes(self, data: bytes) -> None:
        """Bytes past the WebSocket library, to break its rules."""
        self.connection.transport.write(data)

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The reply to a frame with a number."""
        self._number += 1
        await self.say({"type": kind, "id": self._number, **fields})
        return await self.hear(re=self._number)

    async def done(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The `ok` of a frame."""
        reply = await self.ask(kind, **fields)
        expect(f"reply to {kind}", "ok", reply["type"])
        return reply

    async def refused(
        self,
        kind: str,
        code: str,
        *,
        field: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """The `error` of a frame."""
        reply = await self.ask(kind, **fields)
        self.check_error(reply, code, field=field, what=f"{kind} {fields}"[:200])
        return reply

    @staticmethod
    def check_error(
        reply: Mapping[str, Any], code: str, *, what: str, field: str | None = None
    ) -> None:
        """Fails unless it is this error."""
        has(reply, f"reply to {what}", type="error", code=code)
        expect(f"temporary of {code}", rows.ERROR_CODES[code][1], reply["temporary"])
        if field is not None:
            expect(f"details.field of {what}", field, reply.get("details", {}).get("field"))

    async def hear(
        self,
        kind: str | None = None,
        *,
        where: Callable[[dict[str, Any]], bool] = lambda _: True,
        **fields: Any,
    ) -> dict[str, Any]:
        """The next frame of this type, with these fields and of which that is so; those between
        stay for later.
        """
        wanted = fields | ({} if kind is None else {"type": kind})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    for index, frame in enumerate(self._waiting):
                        if all(
                            frame.get(name) == value for name, value in wanted.items()
                        ) and where(frame):
                            return self._waiting.pop(index)
                    self._take(await self.connection.recv())
        except TimeoutError:
            raise Failed(
                f"expected a frame with {wanted!r} within {TIMEOUT_S:.0f} s, "
                f"came {self._waiting!r}"[:1_000]
            ) from None
        except websockets.ConnectionClosed as end:
            self._note(end)
            raise Failed(f"expected a frame with {wanted!r}, came {end}") from None

    async def silent(self, kind: str, *, within_s: float, **fields: Any) -> None:
        """Fails when such a frame comes within so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    self._take(await self.connection.recv())
        wanted = fields | {"type": kind}
        came = [
            frame
            for frame in self._waiting
            if all(frame.get(name) == value for name, value in wanted.items())
        ]
        check(not came, f"no {kind}", came)

    async def closed(self, code: int, *, within_s: float = TIMEOUT_S) -> None:
        """Fails unless the server closes with this code in time."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self._take(await self.connection.recv())
        except TimeoutError:
            raise Failed(f"expected close {code} within {within_s:.0f} s, came nothing") from None
        except websockets.ConnectionClosed as end:
            self._note(end)
            came = None if end.rcvd is None else end.rcvd.code
            expect("close code", code, came)

    def forget(self) -> None:
        """What has come counts as heard."""
        self._waiting.clear()

    async def close(self) -> None:
        await self.connection.close()

    def _note(self, end: websockets.ConnectionClosed) -> None:
        if end.rcvd is not None:
            self._seen.rows.add(f"close {int(end.rcvd.code)}")

    def _take(self, payload: str | bytes) -> None:
        expect("opcode of a frame", self.packed, isinstance(payload, bytes))
        check(len(payload) <= 2**16, "at most 64 KiB", len(payload))
        heard = msgspec.msgpack.decode(payload) if self.packed else json.loads(payload)
        frames = heard if isinstance(heard, list) else [heard]
        check(0 < len(frames) <= 64, "1 to 64 frames in an array", len(frames))
        for frame in frames:
            self._check(frame)
            self._waiting.append(frame)

    def _check(self, frame: Any) -> None:
        check(isinstance(frame, dict) and text(frame.get("type")), "a frame", frame)
        check(None not in frame.values(), "absent fields to be left out", frame)
        kind = frame["type"]
        self._seen.frame("server", frame)
        if kind in rows.SERVER_FRAMES:  # types and fields may be added
            self._seen.objects(frame, rows.SERVER_FRAMES[kind])
            wrong = faults(frame, rows.SERVER_FRAMES[kind])
            check(not wrong, f"{kind} as the page has it", wrong)
        if kind == "error":
            check(frame["code"] in rows.ERROR_CODES, "a code of the page", frame)
            self._seen.rows.add(f"error {frame['code']}")
        if kind == "refused":
            check(frame["code"] in rows.ERROR_CODES, "a code of the page", frame)
            self._seen.rows.add(f"error {frame['code']}")
        if "n" in frame:
            expect("n", len(self.pushes) + 1, frame["n"])
            self.pushes.append(frame)
        self.cursor = frame.get("cursor", self.cursor)
