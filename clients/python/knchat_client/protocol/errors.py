# Copied from schemas/errors.py by scripts/generate; change that file.
"""The error tree. The class tells the caller what to do; the code tells the user what happened.

    ChatError
    ├── Refused       the user may fix it: HTTP 4xx, `error` or `refused` on the socket; an event
    │   │             that holds it is still a 200
    │   └── Malformed never retry: HTTP 400, events 422
    ├── Unavailable   try again later: HTTP and events 503, `temporary: true` on the socket
    │   └── Unfit     the same, until an operator acts: a store is of another version than we are, a
    │                 sink refuses everything
    └── Moved         another gateway owns this user: `moved`, then close 4001

Errors carry data; text is built when it is shown. Source: protocol.md sections 1 and 2.
"""

from __future__ import annotations

import math
from typing import Final

STATUS_OF_CODE: Final[dict[str, int]] = {
    "malformed": 400,
    "unknown_type": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "blocked": 403,
    "not_member": 403,
    "not_found": 404,
    "unknown_chat": 404,
    "unknown_message": 404,
    "unknown_user": 404,
    "stale": 409,
    "key_reused": 409,
    "name_taken": 409,
    "too_many": 409,
    "too_large": 413,
    "rate_limited": 429,
    "unavailable": 503,
    "starting": 503,
    "suspended": 403,
}
"""All error codes, with their HTTP status. Codes are stable: clients act on them."""

TEMPORARY_CODES: Final = frozenset({"rate_limited", "unavailable", "starting"})


class ChatError(Exception):
    """Base of all errors that may be shown to a caller."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        # A code that is not in the table is a bug of ours, not bad input.
        assert code in STATUS_OF_CODE, code  # noqa: S101
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        """The HTTP status of this error."""
        return STATUS_OF_CODE[self.code]

    @property
    def temporary(self) -> bool:
        """True when the same request may succeed later: repeat it with the same key."""
        return self.code in TEMPORARY_CODES

    @property
    def details(self) -> dict[str, str]:
        """What `details` holds on the wire: the place of the mistake, where there is one."""
        return {} if self.field is None else {"field": self.field}

    @property
    def problem(self) -> dict[str, object]:
        """The body of its HTTP answer, in the one shape that all have (protocol.md section 1)."""
        return {"code": self.code, "message": self.message, "details": self.details}

    @property
    def retry_after(self) -> str | None:
        """The Retry-After of its HTTP answer: whole seconds, never too few, at least 1; None: no
        such header.
        """
        return None if self.retry_after_s is None else str(max(1, math.ceil(self.retry_after_s)))


class Refused(ChatError):
    """The caller asked for something it may not have, or not now. Nothing was changed."""


class Malformed(Refused):
    """The input can never be right as it is. `field` names the place."""

    def __init__(self, message: str, *, field: str | None = None, code: str = "malformed") -> None:
        super().__init__(code, message, field=field)


class Unavailable(ChatError):
    """Something needed does not answer, or is full.

    The outcome is unknown unless the text says otherwise: try again.
    """

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, code: str = "unavailable"
    ) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)


class Unfit(Unavailable):
    """Something needed answers and cannot be used: a store of another version, a sink that refuses
    everything.

    The text says what an operator has to do; `/readyz` shows it.
    """


class Moved(ChatError):
    """Another gateway owns this user's partition."""

    def __init__(self, url: str) -> None:
        super().__init__("unavailable", f"connect to {url}")
        self.url = url
