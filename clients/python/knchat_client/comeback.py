"""After the end of a session: whether, where and when to come back.

Decides only; `Link` does it. No I/O, no clock. Source: protocol.md section 2, close codes: the
range tells the client what to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from knchat_client.errors import SessionEnded

# The first pause is up to 0.5 s, each next one up to twice as long. Full jitter: ten thousand
# clients of one gateway that went away spread over the whole pause, so that what they come back to
# is not struck by all at once.
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
_MOVES_IN_A_ROW: Final = 2
# Refusals that pass: too early, too often, and what an ingress says for seconds of a gateway that
# it does not know yet, or no more.
_PASSING: Final = frozenset({404, 408, 421, 425, 429})
_FAILURES_BEFORE_ASKING: Final = 3


class Over(Exception):
    """A session has ended, or none came about.

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
class Step:
    """What to do next: wait, then renew the token or ask for the gateway where that is said, then
    connect to `url` (None: as before).
    """

    pause_s: float
    url: str | None = None
    renew: bool = False
    ask: bool = False


class Comeback:
    """Counts failures in a row; `live` ends the row."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self.live()

    def live(self) -> None:
        """A session has come about and has all it had missed."""
        self._failures = self._moves = self._renewals = 0

    def after(self, over: Over) -> Step:
        """The next step. Raises SessionEnded when the server does not want us as we are."""
        if over.code is not None and 4400 <= over.code <= 4499:
            raise SessionEnded(over.code, over.reason)
        if over.status is not None and 400 <= over.status < 500 and over.status not in _PASSING:
            raise SessionEnded(
                None, f"the gateway refused the connection: HTTP {over.status} {over.reason}"
            )
        if over.code == 4001 and over.url is not None:
            self._moves += 1
            if self._moves <= _MOVES_IN_A_ROW:
                return Step(0.0, url=over.url)
            return Step(self._pause(), ask=True)
        if over.code == 4004:
            self._renewals += 1
            return Step(0.0 if self._renewals == 1 else self._pause(), renew=True)
        if over.pause_s is not None:
            return Step(over.pause_s, url=over.url)
        pause_s = self._pause()
        return Step(
            pause_s,
            url=over.url,
            ask=over.url is None and self._failures >= _FAILURES_BEFORE_ASKING,
        )

    def _pause(self) -> float:
        most_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._failures)
        self._failures = min(self._failures + 1, 30)
        return self._chance() * most_s
