"""The audit log of accounts: who logged in, failed to, changed a password, was suspended; by user
id, device and address, never with a name or a text.

Functions write what they have recorded behind their calls (`functions/domain/account_log.py`),
operators read it (`kn-chat users audit`). Every method raises Unavailable when the database does
not answer within the settings' timeout. Source: design.md D19, decision 0063.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from schemas.ids import UserId

EVENTS: Final = (
    "registered",
    "log_in",
    "refresh",
    "log_out",
    "device_removed",
    "password_change",
    "suspended",
    "resumed",
    "sessions_ended",
    "administrator_granted",
    "administrator_revoked",
)
"""What is recorded. Of refreshing only what was refused: a device does it every few minutes."""
DONE: Final = "done"
"""The outcome of what was done; any other one is the code of the error that refused it."""


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """Something that happened to an account, `times` times since `at_ms` (Unix milliseconds).

    `id` is random, so that a repeat writes no second row. `user` is 0 where no account is known,
    `device` and `address` are empty where there is none.
    """

    id: int
    at_ms: int
    event: str
    user: UserId
    device: str
    address: str
    outcome: str
    times: int = 1


class AccountEvents(Protocol):
    """What is kept of them, for a bounded time and up to a bounded number."""

    async def write(self, events: Sequence[AccountEvent]) -> None:
        """Keeps these; those that are there already stay as they are."""
        ...

    async def read(
        self, *, user: UserId | None = None, since_ms: int = 0, limit: int
    ) -> Sequence[AccountEvent]:
        """The newest first, of one user or of all, from a time on; at most `limit`."""
        ...

    async def forget(self, *, before_ms: int, keep: int) -> int:
        """Forgets those before a time and those beyond the newest `keep`, the oldest first and not
        too many at once; how many. No other write waits long for it.
        """
        ...
