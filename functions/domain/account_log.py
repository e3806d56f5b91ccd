"""The audit log of accounts, as one process writes it: what calls about accounts did, or why they
were refused.

`devices` and `accounts` record; nothing waits for it: events are counted together, written behind
the calls, and logged at once. Never a name, a text or a password. Source: decision 0063.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backends.account_events import DONE, EVENTS, AccountEvent
from backends.concurrency import Backoff
from backends.telemetry.metrics import count
from schemas.errors import ChatError, Unavailable
from schemas.ids import UserId, random_id

if TYPE_CHECKING:
    from backends.wiring import Backends

log = logging.getLogger(__name__)

UNKNOWN_USER: Final = UserId(0)
"""No account is known: a wrong user name, a token that is none."""
MAX_HELD: Final = 2_000
"""Different events that wait to be written; about 1 MiB. More are counted and dropped: they are in
the log lines.
"""
RETRY: Final = Backoff(first_s=1.0, max_s=30.0)
MAX_RETRIES: Final = 60
"""About half an hour; then what waits is dropped."""
SWEEP_INTERVAL_S: Final = 3_600.0
_DAY_MS: Final = 86_400_000

_Kind = tuple[str, UserId, str, str, str]


class Act:
    """One call while it is under way. What is learned of it on the way is noted here."""

    __slots__ = ("device", "refusal", "user")

    def __init__(self, user: UserId, device: str) -> None:
        self.user, self.device = user, device
        self.refusal = ""
        """A better word than the code of the error, where it is refused."""


class AccountLog:
    """What one process records. `Context` makes it."""

    def __init__(self, backends: Backends, *, delay_s: float) -> None:
        """`delay_s`: how long events are collected before they are written."""
        self._store, self._clock = backends.account_events, backends.clock
        self._configuration, self._delay_s = backends.configuration, delay_s
        self._held: dict[_Kind, AccountEvent] = {}
        self._tried: list[AccountEvent] = []
        """Those of a try that failed, or is under way."""
        self._writing: asyncio.Task[None] | None = None
        self._swept_s = float("-inf")

    @contextmanager
    def recorded(
        self,
        event: str,
        *,
        address: str,
        user: UserId = UNKNOWN_USER,
        device: str = "",
        only_refused: bool = False,
    ) -> Iterator[Act]:
        """Records what becomes of the block: done, or the code of its error; unavailable where it
        is cut short, since it may have been done.
        """
        act = Act(user, device)
        try:
            yield act
        except ChatError as error:
            self.note(event, act.user, act.device, address, act.refusal or error.code)
            raise
        except asyncio.CancelledError:
            self.note(event, act.user, act.device, address, "unavailable")
            raise
        if not only_refused:
            self.note(event, act.user, act.device, address, DONE)

    def note(self, event: str, user: UserId, device: str, address: str, outcome: str) -> None:
        """Records one event; it is written soon."""
        assert event in EVENTS, event  # noqa: S101 - else it is a bug of ours
        fields = {"user_id": user, "device": device, "address": address, "outcome": outcome}
        log.info("account event", extra={"what": event, **fields})
        self._hold(
            AccountEvent(random_id(), self._clock.now_ms(), event, user, device, address, outcome)
        )
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Writes what is held, once. Raises Unavailable, and keeps it, when the store is."""
        # A try whose outcome is not known is made again with the same rows: no count is lost.
        self._tried += self._held.values()
        self._held = {}
        await self._store.write(self._tried)
        self._tried = []

    async def close(self) -> None:
        """Writes what is held, if the store answers."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        try:
            await self.flush()
        except Unavailable:
            self._drop()

    def _hold(self, event: AccountEvent) -> None:
        kind = (event.event, event.user, event.device, event.address, event.outcome)
        before = self._held.get(kind)
        if before is not None:  # of the same second or so: one row
            self._held[kind] = replace(before, times=before.times + 1)
        elif len(self._held) + len(self._tried) < MAX_HELD:
            self._held[kind] = event
        else:
            count("knchat_account_events_dropped_total")

    async def _write(self) -> None:
        tries = 0
        while self._held or self._tried:
            await asyncio.sleep(self._delay_s if not tries else RETRY.delay_s(tries))
            try:
                await self.flush()
                await self._sweep()
            except Unavailable as error:
                if not tries:
                    log.warning(
                        "account events cannot be written yet, retrying",
                        extra={"error": error.message},
                    )
                tries += 1
                if tries >= MAX_RETRIES:
                    self._drop()
            else:
                tries = 0

    def _drop(self) -> None:
        if lost := sum(event.times for event in (*self._held.values(), *self._tried)):
            count("knchat_account_events_dropped_total", lost)
            log.warning("account events dropped", extra={"events": lost})
        self._held, self._tried = {}, []

    async def _sweep(self) -> None:
        """Forgets what is too old, or too much, now and then."""
        if self._clock.elapsed_s() - self._swept_s < SWEEP_INTERVAL_S:
            return
        self._swept_s = self._clock.elapsed_s()
        retention = self._configuration.values.retention
        await self._store.forget(
            before_ms=self._clock.now_ms() - retention.account_events_days * _DAY_MS,
            keep=retention.account_events_rows,
        )
