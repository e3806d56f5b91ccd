"""The audit: each command in the log has its outcome, each accepted outcome its effect in history,
each row of history its outcome.

So nothing acknowledged depends on a counter of retries (design.md D12b). `kn-chat audit` and `dev`
call it. It looks at what is old enough and done with, as the offsets of `send` and `persist` say;
the rest is under way. Everything that it repairs is done again under the same ids, so it may run at
any time, twice at once, and be killed (D5). Memory is bounded: MAX_WAITING ids, or a few hundred
outcomes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from backends.log import ConsumerRecord
from backends.log.by_time import OffsetRange
from backends.telemetry.metrics import count
from functions.domain.audit_log import LONG_SKEW_MS, AuditLog, Scope, event_of
from functions.domain.audit_rows import KINDS, Keep, Rows
from functions.domain.contact_notices import contact_notices
from functions.domain.group_changes import GroupChanges
from functions.domain.outbox import Outbox
from functions.domain.preference_notices import preference_notices
from functions.domain.records import Writer
from schemas.errors import Malformed
from schemas.ids import time_text, unix_ms_of
from schemas.signatures import check_signature
from schemas.topics import COMMANDS, RETRIES

if TYPE_CHECKING:
    from backends.wiring import Backends

log = logging.getLogger(__name__)

MAX_WAITING: Final = 50_000
"""Commands that are looked up together: 8 MiB with all the rest (measured).

A killed audit begins again with at most so many.
"""
MAX_EXAMPLES: Final = 100
MAX_BATCH: Final = 100  # commands appended in one call


@dataclass(slots=True)
class Tally:
    """What an audit has found, by kind (`commands`, `messages`, `changes`, `marks`, `unasked`) and
    what became of it.

    sound: as it ought to be; repaired; missing: not repaired; dead: its dead letter says why, and a
    command's sender was told so.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    """Of what was not sound, the first hundred: kind, what became of it, id."""
    under_way: int = 0
    """Records that are old enough and that their function has not done with yet."""

    def add(self, what: str, became: str, ids: Iterable[int] = (), *, n: int | None = None) -> None:
        """Counts so many, or these."""
        found = list(ids)
        number = len(found) if n is None else n
        if number:
            self.counts[what, became] += number
            count("knchat_audited_total", number, what=what, became=became)
            self.examples += [
                f"{what} {became} {one}" for one in found[: MAX_EXAMPLES - len(self.examples)]
            ]

    def of(self, became: str) -> dict[str, int]:
        """Kind -> how many became that, where there are any."""
        return {
            what: number for (what, how), number in sorted(self.counts.items()) if how == became
        }

    @property
    def whole(self) -> bool:
        """Nothing is missing, or no longer.

        A command that died and was told is not; an outcome that history refused is.
        """
        return not self.of("missing") and not any(self.counts[what, "dead"] for what in KINDS)


class _Place(NamedTuple):
    """Of several records that hold a command the last one counts."""

    at_ms: int
    topic: str
    partition: int
    offset: int


class Audit:
    """One run over one scope."""

    def __init__(
        self,
        backends: Backends,
        scope: Scope,
        *,
        keep: Keep | None,
        progress: Callable[[int, int], None] = lambda _looked_at, _at_ms: None,
    ) -> None:
        """`keep`: what `persist` does with outcomes; None: nothing is repaired.

        `progress`: see `AuditLog`.
        """
        self._backends, self._scope, self._keep = backends, scope, keep
        self._log = AuditLog(backends, scope, progress=progress)
        self.tally = Tally()

    async def run(self) -> Tally:
        """Looks at all that is due, and repairs it.

        Raises Unavailable when the log or a store is: a later run goes on from there.
        """
        if self._keep is not None:
            await GroupChanges(self._backends, timeout_s=0).publish_once()
            await preference_notices(self._backends, timeout_s=0).publish_once()
            await contact_notices(self._backends, timeout_s=0).publish_once()
            await Outbox(self._backends, timeout_s=0).publish_once()
        await self._commands()
        rows = Rows(
            self._backends,
            self._log,
            self.tally,
            self._keep,
            commit_interval=self._scope.commit_interval,
        )
        await rows.run()
        self.tally.under_way = self._log.under_way
        self._report()
        return self.tally

    def _report(self) -> None:
        """An operator hears of what was not as it ought to be: once a run."""
        for became, level, text in (
            ("repaired", logging.WARNING, "audit: repaired what was missing"),
            ("missing", logging.ERROR, "audit: something is missing"),
            ("dead", logging.WARNING, "audit: dead letters say why something is missing"),
        ):
            if found := self.tally.of(became):
                log.log(level, text, extra={**found, "examples": " ".join(self.tally.examples[:5])})

    async def _commands(self) -> None:
        spans = [*await self._log.due(COMMANDS), *await self._log.due(RETRIES)]
        waiting: dict[int, _Place] = {}
        places: dict[tuple[str, int], int] = {}
        async for record, commands in self._log.commands(spans):
            place = _Place(record.at_ms, record.topic, record.partition, record.offset)
            waiting.update((command.id, place) for command in commands)
            places[record.topic, record.partition] = record.offset + 1
            if len(waiting) >= MAX_WAITING:
                await self._decided(waiting)
                await self._log.commit(places)
                waiting, places = {}, {}
        await self._decided(waiting)
        await self._log.commit({(span.topic, span.partition): span.end for span in spans})

    async def _decided(self, waiting: dict[int, _Place]) -> None:
        """Strikes out those that have an outcome, and sees to the rest."""
        if not waiting:
            return
        looked_at = len(waiting)
        began_ms = min(place.at_ms for place in waiting.values())
        made_ms = min(unix_ms_of(command) for command in waiting)
        await self._log.strike(
            waiting,
            near_ms=began_ms - self._log.skew_ms,
            far_ms=min(began_ms, made_ms) - LONG_SKEW_MS,
        )
        if waiting:
            await self._strike_handed_on(waiting, began_ms)
        dead = (
            waiting.keys() & (await self._log.letters(began_ms - self._log.skew_ms)).commands
            if waiting
            else set()
        )
        left = {command: place for command, place in waiting.items() if command not in dead}
        self.tally.add("commands", "dead", sorted(dead))
        self.tally.add("commands", "sound", n=looked_at - len(waiting))
        if self._keep is None:
            self.tally.add("commands", "missing", sorted(left))
        elif left:
            await self._append_again(left)

    async def _strike_handed_on(self, waiting: dict[int, _Place], began_ms: int) -> None:
        """A command that lies in chat-retries later on is audited there, or under way."""
        async for record, commands in self._log.commands(
            await self._log.from_time(RETRIES, began_ms - self._log.skew_ms)
        ):
            place = _Place(record.at_ms, record.topic, record.partition, record.offset)
            for command in commands:
                if waiting.get(command.id, place) < place:
                    del waiting[command.id]

    async def _append_again(self, left: Mapping[int, _Place]) -> None:
        """To chat-retries, each alone, with a time of its own: `send` decides as if it had just
        come.
        """
        appended, forged = [], []
        records = []
        async for record, commands in self._log.commands(_spans_of(left.values())):
            mine = [command for command in commands if _is_at(left.get(command.id), record)]
            if not mine:
                continue
            try:
                event = event_of(record)
                check_signature(
                    event,
                    [record.topic],
                    self._backends.settings.event_keys,
                    now_ms=self._backends.clock.now_ms(),
                )
            except Malformed:
                forged += [command.id for command in mine]
                continue
            writer = Writer("audit", replace(event, time=time_text(self._backends.clock.now_ms())))
            records += [writer.retry(command) for command in mine]
            appended += [command.id for command in mine]
            while len(records) >= MAX_BATCH:
                await self._backends.appends.append(records[:MAX_BATCH])
                del records[:MAX_BATCH]
        if records:
            await self._backends.appends.append(records)
        self.tally.add("commands", "repaired", sorted(appended))
        # Not signed by us, or dropped by retention while we were looking.
        self.tally.add("commands", "missing", sorted({*forged, *(left.keys() - set(appended))}))


def _is_at(place: _Place | None, record: ConsumerRecord) -> bool:
    return place is not None and place[1:] == (record.topic, record.partition, record.offset)


def _spans_of(places: Iterable[_Place]) -> list[OffsetRange]:
    """Stretches that hold all these places."""
    ends: dict[tuple[str, int], tuple[int, int]] = {}
    for _, topic, partition, offset in places:
        begin, end = ends.get((topic, partition), (offset, offset))
        ends[topic, partition] = min(begin, offset), max(end, offset)
    return [
        OffsetRange(topic, partition, begin, end + 1)
        for (topic, partition), (begin, end) in ends.items()
    ]
