"""The decoder and encoder of all frames, one for JSON and one for MessagePack.

The gateway decodes what clients send and encodes what they are sent; the Python client does the
reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

import msgspec

from schemas.frames import FRAMES_IN_ARRAY, ClientFrame, ServerFrame
from schemas.kinds import CLIENT_FRAMES, SERVER_FRAMES
from schemas.lenient import BROKEN, Lenient, Part, UnknownType, Unparsable, json_of

JSON: Final = "knchat.v1.json"
MSGPACK: Final = "knchat.v1.msgpack"


def _union(kinds: Mapping[str, type[msgspec.Struct]]) -> Any:
    """The union as a decoder wants it: `type` says which one a frame is."""
    return reduce(or_, kinds.values())


class Codec:
    """Encodes and decodes the frames of both directions, as JSON or as MessagePack.

    Stateless: the process has one of each (`CODECS`).
    """

    def __init__(self, *, text: bool) -> None:
        module = msgspec.json if text else msgspec.msgpack
        self.text = text
        """True: frames are WebSocket text."""
        self.encode: Callable[[object], bytes] = module.Encoder().encode
        """Bytes of any frame or list of frames."""
        self._incoming: Callable[[Part], ClientFrame] = module.Decoder(_union(CLIENT_FRAMES)).decode
        self._outgoing: Callable[[Part], ServerFrame] = module.Decoder(_union(SERVER_FRAMES)).decode
        self._array: Callable[[bytes], list[msgspec.Raw]] = module.Decoder(list[msgspec.Raw]).decode
        self._lenient_incoming: Callable[[Part], Any] = Lenient(CLIENT_FRAMES, text=text).read
        self._lenient_outgoing: Callable[[Part], Any] = Lenient(SERVER_FRAMES, text=text).read

    def split(self, payload: bytes) -> Sequence[Part]:
        """The frames of one WebSocket message: the object that it is, or the elements of its array,
        at most FRAMES_IN_ARRAY.

        Raises Unparsable.
        """
        if not self._is_array(payload):
            return (payload,)
        parts: Sequence[Part]
        try:
            parts = self._array(payload)
        except BROKEN as error:
            try:
                parts = (
                    [part if isinstance(part, dict) else b"" for part in json_of(payload)]
                    if self.text
                    else ()
                )
            except (ValueError, RecursionError):
                parts = ()
            if not parts:
                raise Unparsable("not an object or an array of objects") from error
        if len(parts) > FRAMES_IN_ARRAY:
            raise Unparsable(f"an array holds at most {FRAMES_IN_ARRAY} frames")
        return parts

    def incoming(self, frame: Part) -> ClientFrame:
        """One client frame. Raises Unparsable, UnknownType or BadFrame."""
        try:
            return self._incoming(frame)
        except (*BROKEN, TypeError):
            return self._lenient_incoming(frame)  # type: ignore[no-any-return]  # one of its kinds

    def outgoing(self, frame: Part) -> ServerFrame | None:
        """One server frame, for clients; None for a type that this client does not know yet.

        Raises Unparsable or BadFrame.
        """
        try:
            return self._outgoing(frame)
        except (*BROKEN, TypeError):
            pass
        try:
            return self._lenient_outgoing(frame)  # type: ignore[no-any-return]  # one of its kinds
        except UnknownType:
            return None

    def array(self, parts: Sequence[bytes]) -> bytes:
        """One WebSocket message that holds 1 to FRAMES_IN_ARRAY encoded frames."""
        if len(parts) == 1:
            return parts[0]
        if self.text:
            return b"[" + b",".join(parts) + b"]"
        head = bytes([0x90 | len(parts)]) if len(parts) < 16 else b"\xdc" + len(parts).to_bytes(2)
        return head + b"".join(parts)

    def _is_array(self, payload: bytes) -> bool:
        if self.text:
            return payload.lstrip(b" \t\r\n")[:1] == b"["
        return bool(payload) and (0x90 <= payload[0] <= 0x9F or payload[0] in (0xDC, 0xDD))


CODECS: Final = {JSON: Codec(text=True), MSGPACK: Codec(text=False)}
