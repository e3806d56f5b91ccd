"""One WebSocket, from the hello to the close: frames out, frames in, and whether the other side is
still there.

`Link` opens one after the other; what the frames mean is its business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from knchat_client.comeback import Over
from knchat_client.protocol import frames
from knchat_client.protocol.errors import Malformed
from knchat_client.protocol.lenient import BadFrame, Unparsable

CLIENT: Final = frames.ClientInfo(name="kn-chat-python", version=version("kn-chat-client"))
_OPEN_S: Final = 10.0
# After its start a gateway may have to fill its replay buffer before it says welcome.
_WELCOME_S: Final = 20.0
_CLOSE_S: Final = 2.0
_PONG_S: Final = 5.0
# The server pings an idle session every ping_s. Two and a half of them without a byte: the line is
# dead.
_SILENCE_PINGS: Final = 2.5
# How late silence may be noticed where the machine was suspended: asyncio's timers do not count
# that.
_SLICE_S: Final = 5.0


def elapsed_s() -> float:
    """Seconds that pass while the machine is suspended too, where its system can tell."""
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic()
    )


class _Heard(ClientConnection):
    """Notes when anything arrived: the library answers pings itself and tells nobody."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = elapsed_s()
        super().data_received(data)


class Session:
    """A WebSocket that has said hello. For one reader and any number of writers."""

    def __init__(self, connection: _Heard, subprotocol: str) -> None:
        self._connection = connection
        self._codec = frames.CODECS[subprotocol]
        self._silence_s = _WELCOME_S
        self._frame_bytes = frames.FRAME_BYTES
        self._moved: str | None = None
        self._drain: frames.Drain | None = None

    @classmethod
    async def open(cls, url: str, hello: frames.Hello, subprotocol: str) -> Session:
        """Connects and says hello.

        Raises Over when nobody is there, or the handshake is refused.
        """
        try:
            connection = await connect(
                url,
                subprotocols=[Subprotocol(subprotocol)],
                compression=None,
                max_size=frames.FRAME_BYTES,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                ping_interval=None,
                create_connection=_Heard,
            )
        except InvalidStatus as error:
            raise Over(
                None, error.response.reason_phrase, status=error.response.status_code
            ) from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise Over(None, f"{url} does not answer: {error or type(error).__name__}") from error
        assert isinstance(connection, _Heard)  # noqa: S101 - `create_connection` made it
        session = cls(connection, subprotocol)
        await session.say(hello)
        return session

    def welcomed(self, welcome: frames.Welcome) -> None:
        """From now on the server's own limits count."""
        self._silence_s = welcome.ping_s * _SILENCE_PINGS
        self._frame_bytes = welcome.limits.frame_bytes

    async def say(self, frame: frames.ClientFrame) -> None:
        """Sends a frame.

        Raises Over when the session has ended, Malformed too_large when the server would not take
        it.
        """
        payload = self._codec.encode(frame)
        if len(payload) > self._frame_bytes:
            raise Malformed(
                f"the frame has {len(payload)} bytes, {self._frame_bytes} are allowed",
                code="too_large",
            )
        try:
            await self._connection.send(payload, text=self._codec.text)
        except ConnectionClosed as error:
            raise self._over(error) from error

    async def read(self) -> Sequence[frames.ServerFrame]:
        """The frames of the next WebSocket message, without those of later versions.

        Raises Over at the end, or after silence.
        """
        began_at = elapsed_s()
        while True:
            left_s = max(began_at, self._connection.heard_at) + self._silence_s - elapsed_s()
            if left_s <= 0:
                self.cut()
                raise Over(None, f"nothing was heard for {self._silence_s:g} s")
            try:
                async with asyncio.timeout(min(left_s, _SLICE_S)):
                    payload = await self._connection.recv(decode=False)
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                raise self._over(error) from error
            try:
                known = [
                    frame
                    for part in self._codec.split(payload)
                    if (frame := self._codec.outgoing(part)) is not None
                ]
            except (Unparsable, BadFrame) as error:
                raise Over(None, f"the server sent what is no frame: {error}") from error
            self._note(known)
            return known

    async def check(self) -> None:
        """Asks the other side for a sign of life, and cuts the line when there
        is none within 5 s.
        """
        try:
            async with asyncio.timeout(_PONG_S):
                await (await self._connection.ping())
        except (ConnectionClosed, TimeoutError):
            self.cut()

    def cut(self) -> None:
        """Ends the TCP connection without a word."""
        self._connection.transport.abort()

    async def close(self) -> None:
        """Says goodbye, waits for at most 2 s."""
        await self._connection.close()

    def _note(self, known: Sequence[frames.ServerFrame]) -> None:
        for frame in known:
            match frame:
                case frames.Moved():
                    self._moved = frame.url
                case frames.Drain():
                    self._drain = frame
                case _:
                    pass

    def _over(self, closed: ConnectionClosed) -> Over:
        code, reason = (
            (None, "the line was cut")
            if closed.rcvd is None
            else (closed.rcvd.code, closed.rcvd.reason)
        )
        if self._drain is None:
            return Over(code, reason, url=self._moved)
        url = None if isinstance(self._drain.url, msgspec.UnsetType) else self._drain.url
        return Over(
            code, reason, url=self._moved or url, pause_s=self._drain.reconnect_after_ms / 1000
        )
