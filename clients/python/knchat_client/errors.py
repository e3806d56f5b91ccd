"""What a client is told: the error tree of the protocol, made from what came over the wire, and two
errors of its own.

Refused          the server says no; `code` says why
├── Malformed    never as it is; `field` names the place
├── SessionEnded the server closed the socket for good, or never took it: log in again, or find out
why
└── DeviceInUse  another process uses this device's tokens
Unavailable      no answer, or `temporary`: the outcome is unknown, repeat with the same key
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from knchat_client.protocol.errors import STATUS_OF_CODE, ChatError, Malformed, Refused, Unavailable

_MEANING: Final = {
    4400: "malformed",
    4401: "unauthorized",
    4403: "unauthorized",
    4404: "malformed",
    4409: "forbidden",
    4429: "rate_limited",
}
_CODE_OF_STATUS: Final = {status: code for code, status in reversed(STATUS_OF_CODE.items())}


class SessionEnded(Refused):
    """The server does not want this session to come back.

    `close_code` is the WebSocket's, or None when the handshake was refused.
    """

    def __init__(self, close_code: int | None, reason: str) -> None:
        super().__init__(
            _MEANING.get(close_code or 0, "forbidden"),
            reason or f"the server closed the session with {close_code}",
        )
        self.close_code = close_code


class DeviceInUse(Refused):
    """Another process holds the tokens of this device: two would end each other's sessions."""

    def __init__(self, path: str) -> None:
        super().__init__("forbidden", f"another process uses the device in {path}")


def error_of(
    code: str,
    message: str,
    *,
    details: Mapping[str, str] | None = None,
    retry_after_s: float | None = None,
) -> ChatError:
    """The error of this code.

    One that is not in this version's table is taken for a refusal that nothing is known about.
    """
    if code not in STATUS_OF_CODE:
        return Refused("forbidden", f"{code}: {message}")
    if STATUS_OF_CODE[code] >= 500:
        return Unavailable(
            message, code=code, retry_after_s=1.0 if retry_after_s is None else retry_after_s
        )
    field = (details or {}).get("field")
    if code in {"malformed", "unknown_type", "too_large"}:
        return Malformed(message, field=field, code=code)
    return Refused(code, message, field=field, retry_after_s=retry_after_s)


def error_of_status(status: int, message: str) -> ChatError:
    """The error of an HTTP answer that is not ours: a proxy's, for instance."""
    code = "unavailable" if status >= 500 else _CODE_OF_STATUS.get(status, "forbidden")
    return error_of(code, f"HTTP {status}: {message}")
