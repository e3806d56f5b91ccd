"""What a WebSocket is to the gateway: a `Socket` to write to and a `Handler` that is called back,
with the limits of both.

The contract between `websocket`, which keeps it, and `gateway/sessions`. No I/O, no library, and
nothing of chat in here.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost."""

    frame_bytes: int = 65_536
    """A whole message, its fragments summed. More is close 1009."""
    write_high_bytes: int = 262_144
    """A socket with more than this unsent in user space is congested ..."""
    write_low_bytes: int = 65_536
    """... until no more than this waits."""
    early_bytes: int | None = None
    """What may come of a WebSocket, frames' heads included, before `Socket.trust`; None: as much as
    it likes.
    """
    asking: int = 1_000
    """Connections whose request is not there yet; where there are more, the oldest of them ends."""
    handshake_timeout_s: float = 5.0
    """From TCP accept to the end of the request, and as long as an HTTP answer may take."""
    linger_s: float = 1.0
    """How long TCP stays after the close frame, so that the code arrives (protocol.md, section 2).
    """


@dataclass(frozen=True, slots=True)
class Request:
    """A GET without body, at most 8 KiB, as it came: nothing in it has been believed yet."""

    path: str
    query: str
    headers: Mapping[str, str]
    """Names in small letters.

    The values of a repeated name stand behind each other, with commas between them.
    """
    subprotocols: tuple[str, ...]
    """What a WebSocket client offers, in its order."""
    client: str
    """IP address of the TCP peer, which may be a proxy. Empty when it has gone already."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole HTTP answer. The connection ends after it."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Socket(Protocol):
    """One open WebSocket. After its end, by either side, every call does nothing."""

    def send(self, payload: bytes, *, text: bool) -> None:
        """One message to the peer: copied, never waits, never refuses.

        The bound is the caller's, who looks at `congested`.
        """

    def ping(self) -> None:
        """Send a ping; `Handler.on_activity` is called when something comes."""

    def trust(self) -> None:
        """The peer may say more than `Limits.early_bytes` from now on."""

    def pause(self, seconds: float) -> None:
        """Take no more frames for so long: nothing is lost, what the peer sends waits in the
        kernel, and then at the peer.
        """

    def close(self, code: int, reason: str = "") -> None:
        """Send the close frame and end. `reason` is cut to 123 bytes, at a character's border.

        For up to `linger_s` what the peer still sends is read and dropped, since TCP answers unread
        bytes with a reset, which destroys the code on its way. Then the connection ends, whatever
        is still unsent.
        """

    @property
    def buffered_bytes(self) -> int:
        """What waits in user space for a slow peer."""

    @property
    def congested(self) -> bool:
        """Too much waits (`Limits.write_high_bytes`).

        `Handler.on_writable` is called when it no longer does.
        """


class Handler(Protocol):
    """What becomes of one WebSocket.

    An exception in it is logged and closes this socket, no other, with 1011.
    """

    def on_open(self, socket: Socket) -> None:
        """The first call."""

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """One message, fragments joined, at most `Limits.frame_bytes`; text is valid UTF-8.

        None comes after a close frame of ours.
        """

    def on_writable(self) -> None:
        """The socket was congested and is no longer."""

    def on_activity(self) -> None:
        """A frame without a message: a pong, asked for or not, a ping (which has been answered), a
        fragment that is not the last.
        """

    def on_flood(self) -> None:
        """More than `Limits.early_bytes` has come before `Socket.trust`, and is not looked at: the
        handler closes.
        """

    def on_close(self, code: int, reason: str) -> None:
        """The last call, once, never from inside a call to the socket: the peer's code, or ours, or
        that of the rule it broke.

        1005: the peer closed without a code. 1006: it vanished without a close frame.
        """


@dataclass(frozen=True, slots=True)
class Accept:
    """The peer becomes a WebSocket. `subprotocol` is one of those offered, or None."""

    handler: Handler
    subprotocol: str | None = None


Admit = Callable[[Request], Accept | Response]
"""Decides on each well-formed WebSocket request."""

Answer = Callable[[Request], Awaitable[Response]]
"""Answers a plain HTTP request."""
