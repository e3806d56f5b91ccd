"""One open WebSocket: messages out of frames, control frames and closes, strict about RFC 6455 and
bounded in memory.

`listener` makes one of each request that is admitted, and its handler gets it. It must not know
chat: no JSON, no message kinds, no tokens. Everything is a plain call on the event loop: no task a
frame, no lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from gateway.transport import framing
from gateway.transport.framing import (
    BAD_TEXT,
    BINARY,
    FIN,
    INTERNAL_ERROR,
    NO_CODE,
    NORMAL,
    OPCODE,
    PROTOCOL_ERROR,
    TEXT,
    ProtocolViolation,
)
from gateway.transport.interface import Handler, Limits

log = logging.getLogger(__name__)

# A close frame's payload holds 125 bytes, two of them the code (RFC 6455, 5.5).
REASON_BYTES: Final = 123


class Connection(Protocol):
    """The TCP connection under a WebSocket."""

    tcp: asyncio.Transport

    def linger(self) -> None:
        """Nothing more is written; what still comes is dropped."""


class WebSocket:
    """The `Socket` of one handler: messages out of frames, text that is text, control frames and
    closes.
    """

    __slots__ = (
        "_connection",
        "_early_bytes",
        "_fragments",
        "_fragments_are_text",
        "_frames",
        "_handler",
        "_limits",
        "_paused",
        "congested",
    )

    def __init__(self, connection: Connection, handler: Handler, limits: Limits) -> None:
        self._connection = connection
        self._handler: Handler | None = handler
        self._limits = limits
        self._frames = framing.Frames(limits.frame_bytes)
        # One buffer, not a list: empty and one-byte fragments would cost far more than the bytes
        # they carry.
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self._early_bytes = limits.early_bytes
        self._paused: asyncio.TimerHandle | None = None
        self.congested = False

    # The Socket.

    @property
    def buffered_bytes(self) -> int:
        """See `Socket`."""
        return 0 if self._handler is None else self._connection.tcp.get_write_buffer_size()

    def send(self, payload: bytes, *, text: bool) -> None:
        """See `Socket`."""
        if self._handler is not None:
            self._connection.tcp.write(
                framing.head(TEXT if text else BINARY, len(payload)) + payload
            )

    def ping(self) -> None:
        """See `Socket`."""
        self._control(framing.PING)

    def trust(self) -> None:
        """See `Socket`."""
        self._early_bytes = None

    def pause(self, seconds: float) -> None:
        """See `Socket`."""
        if self._handler is not None and self._paused is None:
            self._paused = asyncio.get_running_loop().call_later(seconds, self._go_on)
            self._connection.tcp.pause_reading()

    def close(self, code: int, reason: str = "") -> None:
        """See `Socket`."""
        self._end(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"), told=code)

    def _end(self, code: int, reason: str, *, told: int) -> None:
        if self._handler is not None:
            self._control(framing.CLOSE, code.to_bytes(2) + reason.encode())
            self.ended(told, reason)
            self._connection.linger()

    def _control(self, opcode: int, payload: bytes = b"") -> None:
        if self._handler is not None:
            self._connection.tcp.write(framing.head(opcode, len(payload)) + payload)

    # From the connection.

    def open(self) -> None:
        """The first call."""
        if self._handler is not None:
            self._tell(self._handler.on_open, self)

    def received(self, chunk: bytes) -> None:
        """What TCP has brought."""
        handler = self._handler
        if handler is None:
            return
        if self._early_bytes is not None:
            self._early_bytes -= len(chunk)
            if self._early_bytes < 0:
                self._tell(handler.on_flood)
                return
        self._frames.feed(chunk)
        self._take()

    def relieved(self) -> None:
        """The peer has taken enough of what waited for it."""
        self.congested = False
        if self._handler is not None:
            self._tell(self._handler.on_writable)

    def ended(self, code: int, reason: str) -> None:
        """Tell the handler, unless it has been told."""
        handler, self._handler, self._fragments = self._handler, None, None
        self._frames = _NO_FRAMES
        if self._paused is not None:
            self._go_on()
        if handler is not None:
            asyncio.get_running_loop().call_soon(self._tell, handler.on_close, code, reason)

    # Frames.

    def _take(self) -> None:
        """Take the frames that are there, until the socket ends or is told to pause."""
        try:
            while (handler := self._handler) is not None and self._paused is None:
                frame = self._frames.next()
                if frame is None:
                    return
                self._received(frame[0], frame[1], handler)
        except ProtocolViolation as rule:
            self.close(rule.code, rule.reason)
        except Exception:
            log.exception("socket handler failed")
            self.close(INTERNAL_ERROR)

    def _go_on(self) -> None:
        """The end of a pause."""
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
        if not self._connection.tcp.is_closing():
            self._connection.tcp.resume_reading()
            self._take()

    def _received(self, first: int, payload: bytes, handler: Handler) -> None:
        opcode, whole = first & OPCODE, first & FIN
        if opcode in (TEXT, BINARY):
            if self._fragments is not None:
                raise ProtocolViolation(PROTOCOL_ERROR, "a new message inside a fragmented one")
            if whole:
                _deliver(handler, payload, text=opcode == TEXT)
                return
            self._fragments = bytearray()
            self._fragments_are_text = opcode == TEXT
            self._continued(payload, handler, last=False)
        elif opcode == framing.CONTINUATION:
            self._continued(payload, handler, last=bool(whole))
        elif opcode == framing.CLOSE:
            code, reason = framing.closing(payload)
            self._end(NORMAL if code == NO_CODE else code, reason, told=code)
        else:
            # RFC 6455, 5.5.3: answering the newest ping is enough, so a peer that pings and does
            # not read costs no memory.
            if opcode == framing.PING and not self.congested:
                self._control(framing.PONG, payload)
            handler.on_activity()

    def _continued(self, payload: bytes, handler: Handler, *, last: bool) -> None:
        if self._fragments is None:
            raise ProtocolViolation(PROTOCOL_ERROR, "a continuation of nothing")
        self._fragments += payload
        if last:
            message, self._fragments = bytes(self._fragments), None
            self._frames.room_bytes = self._limits.frame_bytes
            _deliver(handler, message, text=self._fragments_are_text)
        else:
            self._frames.room_bytes = self._limits.frame_bytes - len(self._fragments)
            handler.on_activity()

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            log.exception("socket handler failed")
            self.close(INTERNAL_ERROR)


def _deliver(handler: Handler, payload: bytes, *, text: bool) -> None:
    if text and not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise ProtocolViolation(BAD_TEXT, "text that is not UTF-8") from None
    handler.on_message(payload, text=text)


_NO_FRAMES: Final = framing.Frames(0)
