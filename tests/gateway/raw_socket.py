"""A WebSocket client that does as it is told: raw bytes over TCP, so that tests can break every
rule; and a handler that records.

Used by the tests of the socket and by the conformance run.
"""

import asyncio
import itertools
import socket
from collections.abc import Iterable

from gateway.transport.interface import Socket

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
# The pair of RFC 6455, 1.3.
KEY, ACCEPT = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
MASK = b"\x37\xfa\x21\x3d"

# Nothing here takes a second; what takes longer hangs.
TIMEOUT_S = 10


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    """The bytes of one frame, as a client sends it unless told otherwise."""
    return header(opcode, len(payload), fin=fin, reserved=reserved, masked=masked) + (
        mask(payload) if masked else payload
    )


def header(
    opcode: int, length: int, *, fin: bool = True, reserved: int = 0, masked: bool = True
) -> bytes:
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    flag = 0x80 if masked else 0
    if length < 126:
        size = bytes([flag | length])
    elif length < 65_536:
        size = bytes([flag | 126]) + length.to_bytes(2)
    else:
        size = bytes([flag | 127]) + length.to_bytes(8)
    return bytes([first]) + size + (MASK if masked else b"")


def mask(payload: bytes) -> bytes:
    pad = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(len(payload))


def fragments(opcode: int, parts: Iterable[bytes]) -> bytes:
    """One message in as many frames as parts."""
    whole = list(parts)
    opcodes = itertools.chain([opcode], itertools.repeat(CONTINUATION))
    return b"".join(
        frame(code, part, fin=number == len(whole))
        for number, (code, part) in enumerate(zip(opcodes, whole, strict=False), 1)
    )


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason.encode())


def request(path: str = "/", **changes: str | None) -> bytes:
    """An upgrade request; headers by keyword replace, add or (None) leave out."""
    headers: dict[str, str | None] = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [
        f"GET {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items() if value is not None),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RawSocket:
    """One TCP connection to a server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def dial(cls, port: int, *, receive_bytes: int | None = None) -> "RawSocket":
        """TCP only. A small `receive_bytes` makes a peer that soon has no room."""
        raw = socket.socket()
        if receive_bytes is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port))
        except OSError:
            raw.close()
            raise
        return cls(*await asyncio.open_connection(sock=raw, limit=4096))

    @classmethod
    async def connect(
        cls, port: int, path: str = "/", *, receive_bytes: int | None = None, **headers: str | None
    ) -> "RawSocket":
        """A WebSocket whose handshake succeeded."""
        peer = await cls.dial(port, receive_bytes=receive_bytes)
        peer.send(request(path, **headers))
        status, _ = await peer.response_head()
        assert status == 101
        return peer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def end(self) -> None:
        """No more bytes from this side, without a close frame."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Vanish as a crashed peer does."""
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
        self._writer.transport.abort()

    async def hang_up(self) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def response_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers, names in small letters."""
        async with asyncio.timeout(TIMEOUT_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in head[1:] if line)
        return int(head[0].split(" ")[1]), {name.lower(): value for name, _, value in fields}

    async def rest(self) -> bytes:
        """All that comes until the server ends its side."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self._reader.read()

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame, which must be whole, unmasked and plain, as all of
        ours are.
        """
        async with asyncio.timeout(TIMEOUT_S):
            first, second = await self._reader.readexactly(2)
            assert first & 0xF0 == 0x80
            length = second
            if second >= 126:
                length = int.from_bytes(await self._reader.readexactly(2 if second == 126 else 8))
            return first & 0xF, await self._reader.readexactly(length)

    async def closing(self) -> tuple[int, str]:
        """Code and reason of the close frame, after which nothing comes but the end of TCP."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, f"opcode {opcode} instead of a close frame"
        assert await self.rest() == b""
        await self.hang_up()
        return int.from_bytes(payload[:2]), payload[2:].decode()


class Recorder:
    """A handler that keeps what it is told, and acts on it as a test wants: `fails` names the calls
    that raise.
    """

    def __init__(self, *, echo: bool = True, fails: str = "") -> None:
        self.socket: Socket
        self.messages: list[tuple[bytes, bool]] = []
        self.ends: list[tuple[int, str]] = []
        self._echo = echo
        self._fails = fails
        self._calls: asyncio.Queue[str] = asyncio.Queue()

    def on_open(self, socket: Socket) -> None:
        self.socket = socket
        self._told("opened")

    def on_message(self, payload: bytes, *, text: bool) -> None:
        self.messages.append((payload, text))
        self._told("frame")
        if self._echo:
            self.socket.send(payload, text=text)

    def on_writable(self) -> None:
        self._told("writable")

    def on_activity(self) -> None:
        self._told("heard")

    def on_flood(self) -> None:
        self._told("flooded")

    def on_close(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))
        self._told("closed")

    async def until(self, call: str) -> None:
        """Wait for the next call of that name; those before it are passed over."""
        async with asyncio.timeout(TIMEOUT_S):
            while await self._calls.get() != call:
                pass

    def _told(self, call: str) -> None:
        self._calls.put_nowait(call)
        if call == self._fails:
            raise RuntimeError(f"{call} fails as told")
