"""One WebSocket, from the hello to the close: frames out, frames in, and whether the server still
answers.

`ReconnectingSession` opens one after the other, and knows what the frames mean.
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

from knchat_client.protocol import frames
from knchat_client.protocol.codec import CODECS
from knchat_client.protocol.errors import Malformed
from knchat_client.protocol.lenient import BadFrame, Unparsable
from knchat_client.reconnect_policy import ConnectionEnded

CLIENT: Final = frames.ClientInfo(name="kn-chat-python", version=version("kn-chat-client"))
_OPEN_TIMEOUT_S: Final = 10.0
# After its start a gateway may have to fill its replay buffer before it says welcome.
_WELCOME_TIMEOUT_S: Final = 20.0
_CLOSE_TIMEOUT_S: Final = 2.0
# The server pings an idle session every ping_s. Two and a half of them without a byte: the
# connection is dead.
_IDLE_PINGS: Final = 2.5


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that a session waits. Apps leave them as they are."""

    ping_after_s: float = 5.0
    """No answer for so long: does the server still answer? (A gateway may take 10 s and more to
    append while its log recovers.)
    """
    pong_timeout_s: float = 5.0
    poll_interval_s: float = 5.0
    """How late silence may be noticed where the machine was suspended: asyncio's timers do not
    count that.
    """
    min_renewal_interval_s: float = 3.0
    """Between two renewals of the token of an open session."""


TIMING: Final = Timing()
"""What apps get."""


def elapsed_s() -> float:
    """Seconds that pass while the machine is suspended too, where its system can tell."""
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic()
    )


class _Socket(ClientConnection):
    """Notes when anything arrived: the library answers pings itself, without a callback."""

    received_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.received_at = elapsed_s()
        super().data_received(data)


class Connection:
    """A WebSocket that has said hello. For one reader and any number of writers."""

    def __init__(self, socket: _Socket, subprotocol: str, timing: Timing) -> None:
        self._socket, self._timing = socket, timing
        self._codec = CODECS[subprotocol]
        self._idle_timeout_s = _WELCOME_TIMEOUT_S
        self._frame_bytes = frames.FRAME_BYTES
        self._moved: str | None = None
        self._drain: frames.Drain | None = None

    @classmethod
    async def open(
        cls, url: str, hello: frames.Hello, subprotocol: str, timing: Timing
    ) -> Connection:
        """Connects and says hello.

        Raises ConnectionEnded when the server does not answer, or refuses the handshake.
        """
        try:
            socket = await connect(
                url,
                subprotocols=[Subprotocol(subprotocol)],
                compression=None,
                max_size=frames.FRAME_BYTES,
                open_timeout=_OPEN_TIMEOUT_S,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=None,
                create_connection=_Socket,
            )
        except InvalidStatus as error:
            raise ConnectionEnded(
                None, error.response.reason_phrase, status=error.response.status_code
            ) from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise ConnectionEnded(
                None, f"{url} does not answer: {error or type(error).__name__}"
            ) from error
        assert isinstance(socket, _Socket)  # noqa: S101 - `create_connection` made it
        connection = cls(socket, subprotocol, timing)
        await connection.send(hello)
        return connection

    def set_limits(self, welcome: frames.Welcome) -> None:
        """Uses the server's own limits from now on."""
        self._idle_timeout_s = welcome.ping_s * _IDLE_PINGS
        self._frame_bytes = welcome.limits.frame_bytes

    async def send(self, frame: frames.ClientFrame) -> None:
        """Sends a frame.

        Raises ConnectionEnded when the connection has ended, Malformed too_large when the server
        would not take it.
        """
        payload = self._codec.encode(frame)
        if len(payload) > self._frame_bytes:
            raise Malformed(
                f"the frame has {len(payload)} bytes, {self._frame_bytes} are allowed",
                code="too_large",
            )
        try:
            await self._socket.send(payload, text=self._codec.text)
        except ConnectionClosed as error:
            raise self._ended(error) from error

    async def read(self) -> Sequence[frames.ServerFrame]:
        """The frames of the next WebSocket message, without those of later versions.

        Raises ConnectionEnded at the end, or after silence.
        """
        began_at = elapsed_s()
        while True:
            left_s = max(began_at, self._socket.received_at) + self._idle_timeout_s - elapsed_s()
            if left_s <= 0:
                self.abort()
                raise ConnectionEnded(None, f"nothing was heard for {self._idle_timeout_s:g} s")
            try:
                async with asyncio.timeout(min(left_s, self._timing.poll_interval_s)):
                    payload = await self._socket.recv(decode=False)
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                raise self._ended(error) from error
            try:
                known = [
                    frame
                    for part in self._codec.split(payload)
                    if (frame := self._codec.outgoing(part)) is not None
                ]
            except (Unparsable, BadFrame) as error:
                raise ConnectionEnded(None, f"the server sent what is no frame: {error}") from error
            self._note(known)
            return known

    async def ping(self) -> None:
        """Pings the server, and aborts the connection without a pong in time."""
        try:
            async with asyncio.timeout(self._timing.pong_timeout_s):
                await (await self._socket.ping())
        except (ConnectionClosed, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Ends the TCP connection without a close frame."""
        self._socket.transport.abort()

    async def close(self) -> None:
        """Sends a close frame, waits for the server's for at most 2 s."""
        await self._socket.close()

    def _note(self, known: Sequence[frames.ServerFrame]) -> None:
        for frame in known:
            match frame:
                case frames.Moved():
                    self._moved = frame.url
                case frames.Drain():
                    self._drain = frame
                case _:
                    pass

    def _ended(self, closed: ConnectionClosed) -> ConnectionEnded:
        code, reason = (
            (None, "the connection was cut")
            if closed.rcvd is None
            else (closed.rcvd.code, closed.rcvd.reason)
        )
        if self._drain is None:
            return ConnectionEnded(code, reason, url=self._moved)
        url = None if isinstance(self._drain.url, msgspec.UnsetType) else self._drain.url
        return ConnectionEnded(
            code, reason, url=self._moved or url, pause_s=self._drain.reconnect_after_ms / 1000
        )
