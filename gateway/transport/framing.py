"""WebSocket frames as bytes (RFC 6455, section 5): a client's out of what TCP brings, and the heads
of ours.

No I/O. `websocket` makes messages of them. Nothing is held but the bytes of a frame that has not
come whole.
"""

from __future__ import annotations

from typing import Final

from websockets.speedups import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN: Final = 0x80
OPCODE: Final = 0x0F
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL: Final = 0x8
_LENGTH: Final = 0x7F
# Of these seven bits the last two values announce a length of 16 or 64 bits.
_LENGTH_16, _LENGTH_64 = 126, 127
_CONTROL_BYTES: Final = 125

# RFC 6455, 7.4.1.
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_CODE, VANISHED, BAD_TEXT, TOO_BIG, INTERNAL_ERROR = (
    1000,
    1001,
    1002,
    1005,
    1006,
    1007,
    1009,
    1011,
)

# What a close frame may carry: the registered codes without those that only an API may show, and
# those for libraries and applications.
_REGISTERED: Final = frozenset(
    {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
)
_FREE_CODES: Final = range(3000, 5000)


class ProtocolViolation(Exception):
    """The peer broke a rule of RFC 6455: close with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Frames:
    """The frames of one client."""

    __slots__ = ("_bytes", "_read", "room_bytes")

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        """The longest payload of a data frame. More is refused when its head is there."""
        self._bytes = b""
        self._read = 0

    def feed(self, chunk: bytes) -> None:
        """What TCP has brought. Call `next` until it has no more."""
        self._bytes = self._bytes + chunk if self._bytes else chunk

    def next(self) -> tuple[int, bytes] | None:
        """First byte (FIN, OPCODE) and payload of the next frame; None when it has not come whole.

        Raises Broken.
        """
        data, begin = self._bytes, self._read
        there = len(data) - begin
        if there < 2:
            return self._wait()
        first, second = data[begin], data[begin + 1]
        size = second & _LENGTH
        _check(first, second, size)
        start = begin + 6
        if size >= _LENGTH_16:
            more = 2 if size == _LENGTH_16 else 8
            if there < 2 + more:
                return self._wait()
            size = int.from_bytes(data[begin + 2 : begin + 2 + more])
            start += more
            if size < (_LENGTH_16 if more == 2 else 2**16) or size >= 2**63:
                raise ProtocolViolation(PROTOCOL_ERROR, "a length that is not in its shortest form")
        if size > self.room_bytes and not first & _CONTROL:
            raise ProtocolViolation(
                TOO_BIG, f"more than the {self.room_bytes} bytes that there is room for"
            )
        end = start + size
        if end > len(data):
            return self._wait()
        self._read = end
        return first, apply_mask(data[start:end], data[start - 4 : start]) if size else b""

    def _wait(self) -> tuple[int, bytes] | None:
        if self._read:
            self._bytes, self._read = self._bytes[self._read :], 0
        return None


def _check(first: int, second: int, length: int) -> None:
    """What the first two bytes must be. Raises Broken."""
    opcode = first & OPCODE
    if first & _RESERVED:
        raise ProtocolViolation(PROTOCOL_ERROR, "reserved bits without an extension")
    if opcode > PONG or BINARY < opcode < CLOSE:
        raise ProtocolViolation(PROTOCOL_ERROR, "an opcode that does not exist")
    if not second & _MASKED:
        raise ProtocolViolation(PROTOCOL_ERROR, "a client must mask its frames")
    if opcode & _CONTROL and (not first & FIN or length > _CONTROL_BYTES):
        raise ProtocolViolation(
            PROTOCOL_ERROR, "a control frame is whole and has at most 125 bytes"
        )


def head(opcode: int, size: int) -> bytes:
    """What goes in front of a payload of ours: one frame, whole, not masked."""
    if size < _LENGTH_16:
        return bytes((FIN | opcode, size))
    if size < 2**16:
        return bytes((FIN | opcode, _LENGTH_16)) + size.to_bytes(2)
    return bytes((FIN | opcode, _LENGTH_64)) + size.to_bytes(8)


def closing(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame; NO_CODE when it has none.

    Raises Broken for what must not be sent.
    """
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in _REGISTERED or code in _FREE_CODES):
        raise ProtocolViolation(PROTOCOL_ERROR, "a close code that must not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(BAD_TEXT, "a reason that is not UTF-8") from None
