"""The gateway's socket: WebSockets and small HTTP answers on one TCP port, strict about RFC 6455 and bounded in memory.

`server` listens with it; who converses gets a `Socket` for each `Handler` it gives. The only file that knows picows; it must not
know chat: no JSON, no message kinds, no tokens. Everything is a plain call on the event loop: no task a frame, no lock.
"""

import asyncio
import logging
import socket as tcp
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from gateway.handshake import asks_for_websocket, check_upgrade, read_request, write_response
from gateway.sockets import Admit, Answer, Handler, Limits, Request, Response

if TYPE_CHECKING:

    class WSProtocol(asyncio.BufferedProtocol):
        """What picows makes for each TCP connection inside its `ws_create_server`; its type hints leave it out."""

        transport: WSTransport

        def __init__(self, **arguments: object) -> None: ...
        def connection_made(self, transport: object) -> None:
            """As asyncio's; whatever can write and be asked will do for a transport."""

else:
    from picows.picows import WSProtocol

log = logging.getLogger(__name__)

# RFC 6455, 7.4.1.
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, VANISHED, BAD_TEXT, TOO_BIG, INTERNAL_ERROR = 1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011

# RFC 6455, 7.4: what a close frame may carry; of those below 3000 picows lets only registered ones through, and these.
LOWEST_CODE, HIGHEST_CODE, NEVER_SENT = 1000, 4999, frozenset({NO_CODE, VANISHED})

TEXT, BINARY = WSMsgType.TEXT, WSMsgType.BINARY

# A close frame's payload holds 125 bytes, two of them the code (RFC 6455, 5.5).
REASON_BYTES = 123

# After a restart every client comes back at once; the kernel's own maximum is 4,096 too.
BACKLOG = 4096

# The smallest read buffer picows takes. An idle connection costs 6.4 KB in all; with picows' default this buffer alone is 16 KiB.
READ_BUFFER_BYTES = 2048

# picows doubles its read buffer whenever one read fills it and never gives it back. Left alone, a flood of tiny frames grew it
# to 2 MB a connection; with at most 16 KiB a read it stays below 128 KiB, and only where 64 KiB frames come.
READ_BYTES = 16_384

# For either direction of a connection. Linux would go up to 4 MiB for what we send and 32 MiB for what we get: memory that a stuck
# peer costs, and bytes that `congested` cannot see. 128 KiB carry over 1 MB/s at 100 ms, more than a chat needs.
KERNEL_BUFFER_BYTES = 131_072

# Above 8 KiB picows hands the transport a pointer into a buffer that it uses again for the next frame, which a transport that
# queues would send: such payloads go another way.
COPIED_BYTES = 8192
# Room for a frame's header in front of a payload, as picows wants it.
HEADER_ROOM = bytes(14)


class Listener:
    """A listening port and the connections that came through it."""

    def __init__(self, admit: Admit, http: Answer, limits: Limits) -> None:
        """Only `listen` makes one."""
        self.admit = admit
        self.http = http
        self.limits = limits
        self.port = 0
        self.links: set[_Link] = set()
        self.emptied = asyncio.Event()
        self._server: asyncio.Server

    async def start(self, host: str, port: int) -> None:
        """See `listen`."""
        family = tcp.AF_INET6 if ":" in host else tcp.AF_INET
        listening = tcp.create_server((host, port), family=family, backlog=BACKLOG)
        # Accepted sockets inherit both.
        listening.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, KERNEL_BUFFER_BYTES)
        listening.setsockopt(tcp.SOL_SOCKET, tcp.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        self.port = listening.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Link(self), sock=listening, backlog=BACKLOG)

    def stop_accepting(self) -> None:
        """New connections are refused from now on; those there are stay."""
        self._server.close()

    async def close(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close every WebSocket, and wait until all connections have ended: about `linger_s` at most.

        Await it before the loop ends: uvloop hangs in its own close over a connection whose peer does not take its bytes.
        """
        self.stop_accepting()
        for link in tuple(self.links):
            link.close(code, reason)
        while self.links:
            self.emptied.clear()
            await self.emptied.wait()


async def listen(
    host: str,
    port: int,
    *,
    admit: Admit,
    http: Answer,
    limits: Limits | None = None,
) -> Listener:
    """A port that serves; `Listener.port` is the real one when `port` is 0.

    `admit` decides on each well-formed WebSocket request, `http` answers every other GET. A failure in either is logged and
    answered with 500. Errors: OSError when the port is taken or the host is not ours.
    """
    listener = Listener(admit, http, limits or Limits())
    await listener.start(host, port)
    return listener


class _Link(WSProtocol):
    """One TCP connection: first picows' (the request, then frames), at last detached from it, lingering or answering HTTP.

    picows ends TCP 10 ms after it has refused a frame, with the peer's bytes unread, so that the close code is often lost, and
    goes on parsing until then. Hence it gets `_Outside` as its transport, and only this class ends TCP.
    """

    __slots__ = ("_answering", "_detached", "_listener", "_outside", "_socket", "_tcp", "_timer")

    def __init__(self, listener: Listener) -> None:
        self._outside = _Outside(self)
        super().__init__(
            host_port=None,
            ws_path=None,
            is_client_side=False,
            ws_listener_factory=self._negotiate,
            logger=self._outside,
            disconnect_on_exception=True,
            # Ours: picows would leave a future with an exception that nobody reads.
            websocket_handshake_timeout=None,
            enable_auto_ping=False,
            auto_ping_idle_timeout=None,
            auto_ping_reply_timeout=None,
            auto_ping_strategy=WSAutoPingStrategy.PING_WHEN_IDLE,
            # Ours: picows would answer pings with reserved bits, and pile up pongs for a peer that does not read.
            enable_auto_pong=False,
            max_frame_size=listener.limits.frame_bytes,
            extra_headers=None,
            read_buffer_init_size=READ_BUFFER_BYTES,
        )
        self._listener = listener
        self._tcp: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._socket: _WebSocket | None = None
        self._answering: asyncio.Task[None] | None = None
        self._detached = False

    # From the event loop.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio's own protocols narrow it too
        self._tcp = transport
        limits = self._listener.limits
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_low_bytes)
        self._end_in(limits.handshake_timeout_s)
        self._outside.tcp = transport
        super().connection_made(self._outside)
        self._listener.links.add(self)

    def get_buffer(self, sizehint: int) -> memoryview | bytearray:
        if self._detached:
            return _DROPPED
        free: memoryview = super().get_buffer(sizehint)  # type: ignore[assignment]  # asyncio says Buffer, picows gives this
        return free if len(free) <= READ_BYTES else free[:READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        if not self._detached:
            super().buffer_updated(nbytes)

    def eof_received(self) -> bool:
        if self._owes_answer:
            return True  # a client that has ended its side after the request still reads the answer
        if self._socket is not None and not self._detached:
            self._socket.ended(VANISHED, "")
            self._detached = True
            # Returning False ends TCP when all is sent, which a peer that does not read would put off for ever.
            self._end_in(self._listener.limits.linger_s)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_in(None)
        if self._answering is not None:
            self._answering.cancel()
        if self._socket is not None:
            self._socket.ended(VANISHED, "")
            self._socket.link = None
        self._outside.link = None
        super().connection_lost(exc)
        self._listener.links.discard(self)
        if not self._listener.links:
            self._listener.emptied.set()

    # From picows and the socket.

    def _negotiate(self, upgrade: WSUpgradeRequest) -> WSUpgradeResponseWithListener | None:
        """The request is there. None makes picows write a 404 and end: by then we have answered ourselves, and `_Outside` drops it."""
        request = read_request(upgrade.path, upgrade.headers, self._tcp.get_extra_info("peername"))
        if not asks_for_websocket(upgrade.headers):
            self._detached = True
            self._answering = asyncio.get_running_loop().create_task(self._answer_later(request))
            return None
        try:
            verdict = check_upgrade(upgrade.headers) or self._listener.admit(request)
        except Exception:
            log.exception("admission failed", extra={"path": request.path})
            verdict = _FAILED
        if isinstance(verdict, Response):
            self._answer(verdict)
            return None
        # picows knows only one spelling of these (Firefox says "keep-alive, Upgrade"), and keeps them as long as the connection.
        upgrade.headers = CIMultiDict({name: upgrade.headers[name] for name in ("Sec-WebSocket-Version", "Sec-WebSocket-Key")})
        upgrade.headers.update({"Upgrade": "websocket", "Connection": "upgrade"})
        chosen = verdict.subprotocol
        response = WSUpgradeResponse.create_101_response({} if chosen is None else {"Sec-WebSocket-Protocol": chosen})
        self._socket = _WebSocket(self, verdict.handler, self._listener.limits.frame_bytes)
        self._end_in(None)
        return WSUpgradeResponseWithListener(response, self._socket)

    def linger(self, at_most_s: float | None = None) -> None:
        """Nothing more is written. Drop what comes until the peer ends its side or the time (`linger_s`) is over."""
        self._detached = True
        if not self._tcp.is_closing():
            if self._tcp.is_reading():
                self._tcp.write_eof()
            else:  # the peer has ended its side before we answered
                self._tcp.close()
            self._end_in(at_most_s or self._listener.limits.linger_s)

    def refused(self, code: WSCloseCode, reason: str) -> None:
        """A frame has broken a rule that picows knows."""
        if self._socket is not None:
            self._socket.refuse(code.value, reason)

    def given_up(self) -> None:
        """Called when picows wants TCP to end: after a request it cannot read, or 10 ms after a bad frame, when we linger already."""
        if not self._detached:
            self.linger()

    def close(self, code: int, reason: str) -> None:
        """End whatever it is: a WebSocket with a code, a request unanswered."""
        if self._socket is not None:
            self._socket.close(code, reason)
        elif self._owes_answer or not self._detached:
            self._tcp.abort()

    def write(self, data: bytes) -> None:
        """What picows writes, through `_Outside`."""
        if not self._detached:
            self._tcp.write(data)

    @property
    def _owes_answer(self) -> bool:
        return self._answering is not None and not self._answering.done()

    async def _answer_later(self, request: Request) -> None:
        try:
            response = await self._listener.http(request)
        except Exception:
            log.exception("HTTP answer failed", extra={"path": request.path})
            response = _FAILED
        self._answer(response)

    def _answer(self, response: Response) -> None:
        self._tcp.write(write_response(response))
        self.linger(self._listener.limits.handshake_timeout_s)

    def _end_in(self, seconds: float | None) -> None:
        """Set, move or (None) take away the time at which TCP ends without asking."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._tcp.abort)


class _Outside:
    """All that picows sees of the world: TCP that it may not end nor write to once the link is detached, and a log.

    In the log it tells that a frame broke a rule, before it sends the close frame and nowhere else. Silent otherwise: its log
    has lines for every connection and every bad peer.
    """

    __slots__ = ("link", "tcp")

    def __init__(self, link: _Link) -> None:
        # None at the end, as in the socket: picows' objects refer to us, and circles would wait for the garbage collector.
        self.link: _Link | None = link
        self.tcp: asyncio.Transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tcp, name)

    def write(self, data: bytes) -> None:
        if self.link is not None:
            self.link.write(data)

    def close(self) -> None:
        if self.link is not None:
            self.link.given_up()

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  # as in logging
        return False

    def info(self, *_: object) -> None: ...
    def debug(self, *_: object) -> None: ...

    def error(self, _text: str, refusal: tuple[WSCloseCode, str]) -> None:
        if self.link is not None:
            self.link.refused(*refusal)

    exception = staticmethod(log.exception)


class _Broken(Exception):
    """The peer broke a rule of RFC 6455: close with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class _WebSocket(WSListener):
    """The `Socket` of one handler: what picows leaves to its user, that is messages, text, reserved bits and close codes."""

    __slots__ = ("_fragments", "_fragments_are_text", "_handler", "_limit_bytes", "_transport", "congested", "link")

    def __init__(self, link: _Link, handler: Handler, limit_bytes: int) -> None:
        self.link: _Link | None = link
        self._handler: Handler | None = handler
        self._limit_bytes = limit_bytes
        # One buffer, not a list: empty and one-byte fragments would cost far more than the bytes they carry.
        self._fragments: bytearray | None = None
        self._fragments_are_text = False
        self.congested = False

    # The Socket.

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._handler is None else self._transport.underlying_transport.get_write_buffer_size()

    def send(self, payload: bytes, *, text: bool) -> None:
        if self._handler is None:
            return
        if len(payload) <= COPIED_BYTES:
            self._transport.send(TEXT if text else BINARY, payload)
        else:
            self._transport.send_reuse_external_bytearray(TEXT if text else BINARY, bytearray(HEADER_ROOM) + payload, len(HEADER_ROOM))

    def ping(self) -> None:
        if self._handler is not None:
            self._transport.send_ping()

    def close(self, code: int, reason: str = "") -> None:
        self._end(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"), told=code)

    def _end(self, code: int, reason: str, *, told: int) -> None:
        link = self.link
        if link is not None and self._handler is not None:
            self._transport.send_close(code, reason)  # type: ignore[arg-type]  # picows takes any number
            self.ended(told, reason)
            link.linger()

    def ended(self, code: int, reason: str) -> None:
        """Tell the handler, unless it has been told."""
        handler, self._handler, self._fragments = self._handler, None, None
        if handler is not None:
            asyncio.get_running_loop().call_soon(self._tell, handler.closed, code, reason)

    def refuse(self, code: int, reason: str) -> None:
        """Close for a frame that picows does not pass on.

        It reads one frame ahead: when the frame before that one was a close, it has not been told yet, and counts.
        """
        handshake = self._transport.close_handshake
        if handshake is None or handshake.recv is None:
            self.close(code, reason)
        else:
            self._closed_by_peer(handshake.recv.code.value or None, handshake.recv.reason or "")

    # From picows.

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # Kept by picows as long as the connection, and of no more use.
        transport.request.headers.clear()
        transport.response.headers.clear()
        if self._handler is not None:
            self._tell(self._handler.opened, self)

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        if self._handler is None:
            return  # more frames of the read that ended it
        try:
            self._received(frame, self._handler)
        except _Broken as rule:
            self.close(rule.code, rule.reason)
        except Exception:
            log.exception("socket handler failed")
            self.close(INTERNAL_ERROR)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False
        if self._handler is not None:
            self._tell(self._handler.writable)

    def _received(self, frame: WSFrame, handler: Handler) -> None:
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            raise _Broken(PROTOCOL_ERROR, "reserved bits without an extension")
        kind = frame.msg_type
        if kind is TEXT or kind is BINARY:
            if self._fragments is not None:
                raise _Broken(PROTOCOL_ERROR, "a new message inside a fragmented one")
            payload = frame.get_payload_as_bytes()
            if frame.fin:
                _deliver(handler, payload, text=kind is TEXT)
            else:
                self._fragments = bytearray(payload)
                self._fragments_are_text = kind is TEXT
        elif kind is WSMsgType.CONTINUATION:
            self._continued(frame, handler)
        elif kind is WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            self._closed_by_peer(int.from_bytes(payload[:2]) if payload else None, payload[2:].decode())
        else:
            # RFC 6455, 5.5.3: answering the newest ping is enough, so a peer that pings and does not read costs no memory.
            if kind is WSMsgType.PING and not self.congested:
                self._transport.send_pong(frame.get_payload_as_bytes())
            handler.pong()

    def _continued(self, frame: WSFrame, handler: Handler) -> None:
        if self._fragments is None:
            raise _Broken(PROTOCOL_ERROR, "a continuation of nothing")
        # picows knows the limit of a frame only.
        if len(self._fragments) + frame.payload_size > self._limit_bytes:
            raise _Broken(TOO_BIG, f"a message of more than {self._limit_bytes} bytes")
        self._fragments += frame.get_payload_as_memoryview()
        if frame.fin:
            payload, self._fragments = bytes(self._fragments), None
            _deliver(handler, payload, text=self._fragments_are_text)

    def _closed_by_peer(self, code: int | None, reason: str) -> None:
        """What picows has not refused: a payload of one byte, a reason in bad UTF-8, most of the codes that must not be sent."""
        if code is None:
            self._end(NORMAL, reason, told=NO_CODE)
        elif code in NEVER_SENT or not LOWEST_CODE <= code <= HIGHEST_CODE:
            self.close(PROTOCOL_ERROR, "a close code that must not be sent")
        else:
            self._end(code, reason, told=code)

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
            raise _Broken(BAD_TEXT, "text that is not UTF-8") from None
    handler.frame(payload, text=text)


_FAILED = Response(500, b"internal error\n")
# Where dropped bytes go, of all connections.
_DROPPED = bytearray(65_536)
