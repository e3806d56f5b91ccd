"""A listening port: WebSockets and small HTTP answers on one TCP port.

`app` listens with it. It must not know chat: no JSON, no message kinds, no tokens.
"""

from __future__ import annotations

import asyncio
import logging
import socket as tcp
from typing import Final

from gateway.transport.framing import GOING_AWAY, VANISHED
from gateway.transport.handshake import (
    asks_for_websocket,
    check_upgrade,
    read_request,
    write_response,
    write_upgrade,
)
from gateway.transport.interface import Admit, Answer, Limits, Request, Response
from gateway.transport.websocket import WebSocket
from gateway.turns import Turns

log = logging.getLogger(__name__)

# After a restart every client comes back at once; the kernel's own maximum is 4,096 too.
BACKLOG: Final = 4096

# What one read takes, into one buffer for all connections of a listener: a connection keeps only
# what is not yet a whole frame.
READ_BYTES: Final = 16_384

# Of a request without its end.
HEAD_BYTES: Final = 8_192

# For either direction of a connection. Linux would go up to 4 MiB for what we send and 32 MiB for
# what we get: memory that a stuck peer costs, and bytes that `congested` cannot see. 128 KiB carry
# over 1 MB/s at 100 ms, more than a chat needs.
KERNEL_BUFFER_BYTES: Final = 131_072


class Listener:
    """A listening port and the connections that came through it."""

    def __init__(self, admit: Admit, http: Answer, limits: Limits) -> None:
        """Only `listen` makes one."""
        self.admit = admit
        self.http = http
        self.limits = limits
        self.port = 0
        self.connections: set[_Connection] = set()
        self.asking: dict[_Connection, None] = {}
        """Those whose request is not there yet, in the order in which they came."""
        self.emptied = asyncio.Event()
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.turns: Turns
        """For what many connections do at once."""
        self._server: asyncio.Server

    async def start(self, host: str, port: int) -> None:
        """See `listen`."""
        family = tcp.AF_INET6 if ":" in host else tcp.AF_INET
        listening = tcp.create_server((host, port), family=family, backlog=BACKLOG)
        # Accepted sockets inherit both.
        listening.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, KERNEL_BUFFER_BYTES)
        listening.setsockopt(tcp.SOL_SOCKET, tcp.SO_SNDBUF, KERNEL_BUFFER_BYTES)
        self.port = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        self.turns = Turns(loop.call_soon, loop.time)
        self._server = await loop.create_server(
            lambda: _Connection(self), sock=listening, backlog=BACKLOG
        )

    def stop_accepting(self) -> None:
        """New connections are refused from now on; those there are stay."""
        self._server.close()

    async def close(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close every WebSocket, and wait until all connections have ended: about
        `linger_s` at most.

        Await it before the loop ends: uvloop hangs in its own close over a connection whose peer
        does not take its bytes.
        """
        self.stop_accepting()
        for connection in tuple(self.connections):
            connection.close(code, reason)
        while self.connections:
            self.emptied.clear()
            await self.emptied.wait()

    def came(self, connection: _Connection) -> None:
        """A connection without a request yet.

        Where too many hold one back, the oldest of them ends.
        """
        self.connections.add(connection)
        self.asking[connection] = None
        if len(self.asking) > self.limits.asking:
            next(iter(self.asking)).close(GOING_AWAY, "")

    def went(self, connection: _Connection) -> None:
        """Its TCP connection has ended."""
        self.connections.discard(connection)
        self.asking.pop(connection, None)
        if not self.connections:
            self.emptied.set()


async def listen(
    host: str,
    port: int,
    *,
    admit: Admit,
    http: Answer,
    limits: Limits | None = None,
) -> Listener:
    """A port that serves; `Listener.port` is the real one when `port` is 0.

    `admit` decides on each well-formed WebSocket request, `http` answers every other GET. A failure
    in either is logged and answered with 500. Errors: OSError when the port is taken or the host is
    not ours.
    """
    listener = Listener(admit, http, limits or Limits())
    await listener.start(host, port)
    return listener


class _Connection(asyncio.BufferedProtocol):
    """One TCP connection: first a request, then a WebSocket or an HTTP answer; at last detached,
    dropping what still comes.
    """

    __slots__ = ("_answering", "_detached", "_head", "_listener", "_socket", "_timer", "tcp")

    def __init__(self, listener: Listener) -> None:
        self.tcp: asyncio.Transport
        self._listener = listener
        self._head = b""
        self._timer: asyncio.TimerHandle | None = None
        self._socket: WebSocket | None = None
        self._answering: asyncio.Task[None] | None = None
        self._detached = False

    # From the event loop. Like asyncio's own protocols it narrows the type of its transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.tcp = transport
        limits = self._listener.limits
        transport.set_write_buffer_limits(high=limits.write_high_bytes, low=limits.write_low_bytes)
        self._end_in(limits.handshake_timeout_s)
        self._listener.came(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._listener.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._detached:
            return
        chunk = bytes(self._listener.buffer[:nbytes])
        if self._socket is None:
            self._read_head(chunk)
        else:
            self._socket.received(chunk)

    def eof_received(self) -> bool:
        if self._owes_answer:
            return True  # a client that has ended its side after the request still reads the answer
        if self._socket is not None and not self._detached:
            self._detached = True
            self._listener.turns.call(self._hang_up)
            return True
        return False

    def _hang_up(self) -> None:
        """The peer has ended its side: so do we."""
        if self._socket is not None:
            self._socket.ended(VANISHED, "")
            # TCP ends when all is sent, which a peer that does not read would put off without end.
            self._end_in(self._listener.limits.linger_s)
            self.tcp.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end_in(None)
        if self._answering is not None:
            self._answering.cancel()
        if self._socket is not None:
            self._socket.ended(VANISHED, "")
            self._socket = None
        self._listener.went(self)

    def pause_writing(self) -> None:
        if self._socket is not None:
            self._socket.congested = True

    def resume_writing(self) -> None:
        if self._socket is not None:
            self._socket.relieved()

    # The request.

    def _read_head(self, chunk: bytes) -> None:
        self._head += chunk
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end and len(head) <= HEAD_BYTES:
            return
        self._head = b""
        self._listener.asking.pop(self, None)
        if len(head) > HEAD_BYTES:
            self._answer(Response(431, b"the request is too long\n"))
            return
        request = read_request(head, self.tcp.get_extra_info("peername"))
        if isinstance(request, Response):
            self._answer(request)
        elif asks_for_websocket(request):
            self._upgrade(request, rest)
        else:
            self._detached = True
            self._answering = asyncio.get_running_loop().create_task(self._answer_later(request))

    def _upgrade(self, request: Request, rest: bytes) -> None:
        try:
            verdict = check_upgrade(request) or self._listener.admit(request)
        except Exception:
            log.exception("admission failed", extra={"path": request.path})
            verdict = _FAILED
        if isinstance(verdict, Response):
            self._answer(verdict)
            return
        self.tcp.write(write_upgrade(request, verdict.subprotocol))
        self._end_in(None)
        self._socket = WebSocket(self, verdict.handler, self._listener.limits)
        self._socket.open()
        if rest and not self._detached:
            self._socket.received(rest)

    async def _answer_later(self, request: Request) -> None:
        try:
            response = await self._listener.http(request)
        except Exception:
            log.exception("HTTP answer failed", extra={"path": request.path})
            response = _FAILED
        self._answer(response)

    def _answer(self, response: Response) -> None:
        self.tcp.write(write_response(response))
        self.linger(self._listener.limits.handshake_timeout_s)

    @property
    def _owes_answer(self) -> bool:
        return self._answering is not None and not self._answering.done()

    # The end.

    def close(self, code: int, reason: str) -> None:
        """End whatever it is: a WebSocket with a code, a request unanswered."""
        if self._socket is not None:
            self._socket.close(code, reason)
        elif self._owes_answer or not self._detached:
            self._listener.asking.pop(self, None)
            self.tcp.abort()

    def linger(self, at_most_s: float | None = None) -> None:
        """Nothing more is written.

        Drop what comes until the peer ends its side or the time (`linger_s`) is over.
        """
        self._detached = True
        if not self.tcp.is_closing():
            if self.tcp.is_reading():
                self.tcp.write_eof()
            else:  # the peer has ended its side before we answered
                self.tcp.close()
            self._end_in(at_most_s or self._listener.limits.linger_s)

    def _end_in(self, seconds: float | None) -> None:
        """Set, move or (None) take away the time at which TCP ends without asking."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            None
            if seconds is None
            else asyncio.get_running_loop().call_later(seconds, self.tcp.abort)
        )


_FAILED: Final = Response(500, b"internal error\n")
