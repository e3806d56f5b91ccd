"""What a session has missed, as the bytes of its pushes: packed into arrays that fit a WebSocket
message.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.sessions.protocol import Session
from gateway.sessions.replay_buffer import Missed, Position
from schemas import chat_pb2 as pb
from schemas import frames
from schemas.deliveries import outdates, push_of, replaces

# An array ends behind the push that makes it longer than this, or before one that would not fit any
# more, with its brackets and commas.
ARRAY_BYTES: Final = frames.FRAME_BYTES // 2
FULL_BYTES: Final = frames.FRAME_BYTES - 2 * frames.FRAMES_IN_ARRAY


def pack(session: Session, missed: Sequence[Missed]) -> tuple[list[list[bytes]], Position]:
    """The pushes of as many as fit into one array, and the position behind them; a large one
    stands in an array of its own.

    A watermark that a newer one of them outdates is left out, like what the session does not want.
    """
    told = [(after, pb.Delivery.FromString(raw)) for after, raw in missed]
    newest = {name: delivery for _, delivery in told if (name := replaces(delivery)) is not None}
    arrays: list[list[bytes]] = []
    parts: list[bytes] = []
    size = 0
    for after, delivery in told:
        position = after
        name = replaces(delivery)
        if name is not None and newest[name] is not delivery and outdates(newest[name], delivery):
            continue
        frame = push_of(delivery, session.claims.user)
        if frame is not None and session.wants(frame):
            part = session.push(frame, after)
            if parts and size + len(part) > FULL_BYTES:
                arrays.append(parts)
                parts, size = [], 0
            parts.append(part)
            size += len(part)
            if size > ARRAY_BYTES:
                break
    if parts:
        arrays.append(parts)
    return arrays, position
