"""Every code that a session is closed with, and every reason: one table.

The codes of RFC 6455 are in `gateway/transport/framing.py`. The range tells the client what to do
(docs/protocol.md, Close codes); the reason is for people, and may change.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Close(Struct, frozen=True):
    """Close with this code and reason. An effect of a session (`effects`)."""

    code: int
    reason: str

    def filled(self, **facts: float) -> Close:
        """With the figures that the reason names."""
        return Close(self.code, self.reason.format(**facts))

    def because(self, reason: str) -> Close:
        """With a reason that an error gives."""
        return Close(self.code, reason)


# Reconnect, with `resume`.
INTERNAL_ERROR: Final = Close(1011, "internal error")
RESTART: Final = Close(1012, "restart")
STALLED: Final = Close(1012, "event loop stalled")
TOPIC_RECREATED: Final = Close(1012, "topic recreated")
MOVED: Final = Close(4001, "moved")
PONG_TIMEOUT: Final = Close(4002, "pong timeout")
PLACE_NEEDED: Final = Close(4002, "pong timeout, and another device needs the place")
NOTHING_READ: Final = Close(4003, "slow consumer: nothing read for {seconds:.0f} s")
REPLIES_UNREAD: Final = Close(4003, "slow consumer: replies are not read")
NO_LONGER_HELD: Final = Close(4003, "what comes next is no longer held: resume")
EXPIRED: Final = Close(4004, "the access token has expired")
PASSWORD_CHANGED: Final = Close(4004, "the password was changed: refresh first")
TOO_MANY_FRAMES: Final = Close(
    4005, "more than {limit} empty or control frames or fragments a second"
)
TOO_MUCH_EARLY: Final = Close(4005, "too much before welcome")
STARTING: Final = Close(4006, "starting")
DRAINING: Final = Close(4006, "draining")
HANDED_OVER: Final = Close(4006, "another gateway takes over")

# Do not come back as you are.
MALFORMED: Final = Close(4400, "malformed")
WRONG_OPCODE: Final = Close(4400, "text frames are JSON, binary frames MessagePack")
BAD_TOKEN: Final = Close(4401, "bad token")
OTHER_DEVICE: Final = Close(4401, "the access token is another device's")
REVOKED: Final = Close(4403, "this device was logged out")
SUSPENDED: Final = Close(4403, "this account is suspended")
HELLO_FIRST: Final = Close(4404, "hello must come first")
HELLO_TIMEOUT: Final = Close(4404, "no hello within {seconds:.0f} s")
DUPLICATE_HELLO: Final = Close(4404, "duplicate hello")
REPLACED: Final = Close(4409, "a newer session of the same device")
TOO_MANY_SESSIONS: Final = Close(4429, "more than {limit} sessions")
