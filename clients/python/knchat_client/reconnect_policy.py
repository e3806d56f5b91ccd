"""After the end of a connection: whether, where and when to connect again.

Decides only; `ReconnectingSession` does it. No I/O, no clock. Source: protocol.md section 2, close
codes: the range tells the client what to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from knchat_client.errors import SessionEnded

# The first pause is up to 0.5 s, each next one up to twice as long. Full jitter: ten thousand
# clients of one gateway that ended spread over the whole pause, so that the next one does not get
# all of them at once.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
_MAX_MOVES_IN_A_ROW: Final = 2
# Refusals that are temporary: too early, too often, and what an ingress says for seconds of a
# gateway that it does not know yet, or no more.
_TRANSIENT_STATUSES: Final = frozenset({404, 408, 421, 425, 429})
_MAX_FAILURES_BEFORE_ASKING: Final = 3


class ConnectionEnded(Exception):
    """A connection has ended, or none was established.

    `code`: the close code, None without a close frame; `url`: where the server said to go.
    `pause_s`: how long to wait, where that is known (a planned end); `status`: the HTTP status of a
    handshake that was refused.
    """

    def __init__(
        self,
        code: int | None,
        reason: str,
        *,
        url: str | None = None,
        pause_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.url = url
        self.pause_s = pause_s
        self.status = status


@dataclass(frozen=True, slots=True)
class Attempt:
    """What to do next: wait, then renew the token or ask for the gateway where that is said, then
    connect to `url` (None: as before).
    """

    pause_s: float
    url: str | None = None
    renew: bool = False
    ask: bool = False


class ReconnectPolicy:
    """Counts failures in a row; `reset` ends the row."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._random = chance
        self.reset()

    def reset(self) -> None:
        """A session is up and has all that it had missed."""
        self._failures = self._moves = self._renewals = 0

    def after(self, ended: ConnectionEnded) -> Attempt:
        """The next attempt. Raises SessionEnded when the server does not want us as we are."""
        if ended.code is not None and 4400 <= ended.code <= 4499:
            raise SessionEnded(ended.code, ended.reason)
        if (
            ended.status is not None
            and 400 <= ended.status < 500
            and ended.status not in _TRANSIENT_STATUSES
        ):
            raise SessionEnded(
                None, f"the gateway refused the connection: HTTP {ended.status} {ended.reason}"
            )
        if ended.code == 4001 and ended.url is not None:
            self._moves += 1
            if self._moves <= _MAX_MOVES_IN_A_ROW:
                return Attempt(0.0, url=ended.url)
            return Attempt(self._pause(), ask=True)
        if ended.code == 4004:
            self._renewals += 1
            return Attempt(0.0 if self._renewals == 1 else self._pause(), renew=True)
        if ended.pause_s is not None:
            return Attempt(ended.pause_s, url=ended.url)
        pause_s = self._pause()
        return Attempt(
            pause_s,
            url=ended.url,
            ask=ended.url is None and self._failures >= _MAX_FAILURES_BEFORE_ASKING,
        )

    def _pause(self) -> float:
        most_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        return self._random() * most_s
